"""The addresses of this app: pages, and REST under api/v1/."""

from django.urls import URLPattern

app_name = "nodes"
urlpatterns: list[URLPattern] = []
api_patterns: list[URLPattern] = []
agent_patterns: list[URLPattern] = []
