"""The addresses of this app: pages, and REST under api/v1/."""

from django.urls import URLPattern, path

from rollouts import views

app_name = "rollouts"
urlpatterns: list[URLPattern] = [
    path("rollouts/", views.rollout_list, name="list"),
    path("executions/", views.execution_list, name="executions"),
    path("executions/<uuid:pk>/", views.execution_detail, name="execution"),
    path("rollouts/<uuid:pk>/", views.rollout_detail, name="detail"),
    path("rollouts/<uuid:pk>/controls/", views.rollout_controls, name="controls"),
    path("rollouts/<uuid:pk>/rollback/", views.rollout_roll_back, name="rollback"),
    *(
        path(f"rollouts/<uuid:pk>/{verb}/", views.rollout_act, {"verb": verb}, name=verb)
        for verb in ("pause", "resume", "promote", "cancel")
    ),
]
api_patterns: list[URLPattern] = []
