"""Which app answers which path."""

from django.contrib import admin
from django.urls import include, path
from drf_spectacular.views import SpectacularJSONAPIView

import access.urls
import jobs.urls
import jobsite.openapi  # noqa: F401 - registers how requests are authenticated
import nodes.urls
import rollouts.urls
from access.views import admin_sign_in
from jobsite.health import livez, readyz
from jobsite.views import agent_file
from rollouts.views import dashboard

api_patterns = [
    *access.urls.api_patterns,
    *nodes.urls.api_patterns,
    *jobs.urls.api_patterns,
    *rollouts.urls.api_patterns,
]

urlpatterns = [
    path("", dashboard, name="dashboard"),
    path("", include("access.urls")),
    path("jobs/", include("jobs.urls")),
    path("nodes/", include("nodes.urls")),
    path("", include("rollouts.urls")),
    path("live/", include("live.urls")),
    path("api/v1/", include((api_patterns, "api"))),
    path("api/schema", SpectacularJSONAPIView.as_view(), name="schema"),
    path("agent/v1/", include((nodes.urls.agent_patterns, "agent"))),
    path("install/agent.pyz", agent_file, name="agent-file"),
    path("livez", livez, name="livez"),
    path("readyz", readyz, name="readyz"),
    path("admin/login/", admin_sign_in),
    path("admin/", admin.site.urls),
]

handler400 = "jobsite.views.bad_request"
handler403 = "jobsite.views.permission_denied"
handler404 = "jobsite.views.not_found"
handler500 = "jobsite.views.server_error"
