"""The addresses of this app: pages, and REST under api/v1/."""

from django.urls import URLPattern, path

from rollouts import api, operation_views, views
from rollouts.operation_api import operation_patterns

app_name = "rollouts"
urlpatterns: list[URLPattern] = [
    path("rollouts/", views.rollout_list, name="list"),
    path("rollouts/of-job/<uuid:pk>/", views.newest_of_job, name="of-job"),
    path("rollouts/of-job/<uuid:pk>/panel/", views.job_panel, name="job-panel"),
    path("rollouts/of-job/<uuid:pk>/rollback/", views.job_roll_back, name="job-roll-back"),
    path("executions/of-node/<uuid:pk>/panel/", views.node_panel, name="node-panel"),
    path("executions/", views.execution_list, name="executions"),
    path("executions/<uuid:pk>/", views.execution_detail, name="execution"),
    path("executions/<uuid:pk>/log.txt", views.execution_log_file, name="log-file"),
    path("operations/", operation_views.run_operation, name="operations"),
    path("operations/<uuid:pk>/", operation_views.call_detail, name="operation"),
    path("operations/<uuid:pk>/answers/", operation_views.call_answers, name="operation-answers"),
    path("rollouts/<uuid:pk>/", views.rollout_detail, name="detail"),
    path("rollouts/<uuid:pk>/controls/", views.rollout_controls, name="controls"),
    path("rollouts/<uuid:pk>/rollback/", views.rollout_roll_back, name="rollback"),
    *(
        path(f"rollouts/<uuid:pk>/{verb}/", views.rollout_act, {"verb": verb}, name=verb)
        for verb in ("pause", "resume", "promote", "cancel")
    ),
]
api_patterns: list[URLPattern] = [
    path("jobs/<str:key>/executions", api.JobExecutionsView.as_view(), name="job-executions"),
    path("jobs/<str:key>/evaluations", api.JobEvaluationsView.as_view(), name="job-evaluations"),
    path("jobs/<str:key>/results", api.JobResultsView.as_view(), name="job-results"),
    path("jobs/<str:key>/rollouts", api.JobRolloutsView.as_view(), name="job-rollouts"),
    path("jobs/<str:key>/rollout", api.JobRolloutView.as_view(), name="job-rollout"),
    path("jobs/<str:key>/rollout/rollback", api.RolloutRollbackView.as_view(), name="job-rollback"),
    *(
        path(
            f"jobs/<str:key>/rollout/{verb}",
            api.RolloutActView.as_view(),
            {"verb": verb},
            name=f"job-rollout-{verb}",
        )
        for verb in api.ACTS
    ),
    path("executions", api.ExecutionsView.as_view(), name="executions"),
    path("executions/<str:key>", api.ExecutionView.as_view(), name="execution"),
    path(
        "executions/<str:key>/history", api.ExecutionHistoryView.as_view(), name="execution-history"
    ),
    path("executions/<str:key>/logs", api.ExecutionLogsView.as_view(), name="execution-logs"),
    path("executions/<str:key>/result", api.ExecutionResultView.as_view(), name="execution-result"),
    path("evaluations/<str:key>", api.EvaluationView.as_view(), name="evaluation"),
    *operation_patterns,
]
