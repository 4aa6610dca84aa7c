"""The addresses of this app: pages, and REST under api/v1/."""

from django.urls import URLPattern

app_name = "jobs"
urlpatterns: list[URLPattern] = []
api_patterns: list[URLPattern] = []
