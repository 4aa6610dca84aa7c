"""The addresses of this app: pages, and REST under api/v1/."""

from django.urls import URLPattern, path

from nodes.agent_api import EnrolView

app_name = "nodes"
urlpatterns: list[URLPattern] = []
api_patterns: list[URLPattern] = []
agent_patterns: list[URLPattern] = [path("enroll", EnrolView.as_view(), name="enroll")]
