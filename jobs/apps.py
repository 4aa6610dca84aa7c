"""The Django app: what it is called, and what it registers when it is ready."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "jobs"
