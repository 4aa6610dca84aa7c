"""The addresses of this app: pages, and REST under api/v1/."""

from django.urls import URLPattern, path

from jobs import api, object_api, views

app_name = "jobs"
urlpatterns: list[URLPattern] = [
    path("", views.job_list, name="list"),
    path("new/", views.new_job, name="new"),
    path("plan/", views.plan_job, name="plan"),
    path("discard-draft/", views.discard_job_draft, name="discard-draft"),
    path("file/", views.save_job_file, name="save"),
    path("stop-selected/", views.stop_selected, name="stop-selected"),
    path("<uuid:pk>/", views.job_by_id, name="detail"),
    path("<uuid:pk>/controls/", views.job_controls, name="controls"),
    path("<uuid:pk>/file/", views.job_file, name="file"),
    path("<uuid:pk>/stop/", views.stop, name="stop"),
    path("<uuid:pk>/rerun/", views.rerun, name="rerun"),
    path("<uuid:pk>/delete/", views.delete, name="delete"),
    path("<str:namespace>/<str:name>/", views.job_detail, name="detail"),
    path("<str:namespace>/<str:name>/edit/", views.edit_job, name="edit"),
]
api_patterns: list[URLPattern] = [
    path("jobs", api.JobsView.as_view(), name="jobs"),
    path("jobs/schema", api.JobSchemaView.as_view(), name="job-schema"),
    path("jobs/validate", api.JobValidateView.as_view(), name="job-validate"),
    path("jobs/diff", api.JobDiffView.as_view(), name="job-diff"),
    path("jobs/<str:key>", api.JobView.as_view(), name="job"),
    path("jobs/<str:key>/stop", api.JobStopView.as_view(), name="job-stop"),
    path("jobs/<str:key>/rerun", api.JobRerunView.as_view(), name="job-rerun"),
    path("jobs/<str:key>/versions", api.JobVersionsView.as_view(), name="job-versions"),
    path("jobs/<str:key>/versions/<int:number>", api.JobVersionView.as_view(), name="job-version"),
    path("jobs/<str:key>/history", api.JobHistoryView.as_view(), name="job-history"),
    path("files", object_api.FilesView.as_view(), name="files"),
    path("files/<path:name>", object_api.FileView.as_view(), name="file"),
]
