"""The addresses of this app: pages, and REST under api/v1/."""

from django.urls import URLPattern, path

from jobs import api

app_name = "jobs"
urlpatterns: list[URLPattern] = []
api_patterns: list[URLPattern] = [
    path("jobs", api.JobsView.as_view(), name="jobs"),
    path("jobs/schema", api.JobSchemaView.as_view(), name="job-schema"),
    path("jobs/validate", api.JobValidateView.as_view(), name="job-validate"),
    path("jobs/diff", api.JobDiffView.as_view(), name="job-diff"),
    path("jobs/<str:key>", api.JobView.as_view(), name="job"),
    path("jobs/<str:key>/stop", api.JobStopView.as_view(), name="job-stop"),
    path("jobs/<str:key>/rerun", api.JobRerunView.as_view(), name="job-rerun"),
    path("jobs/<str:key>/versions", api.JobVersionsView.as_view(), name="job-versions"),
    path(
        "jobs/<str:key>/versions/<int:number>", api.JobVersionView.as_view(), name="job-version"
    ),
    path("jobs/<str:key>/history", api.JobHistoryView.as_view(), name="job-history"),
]
