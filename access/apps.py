"""The Django app: what it is called, and what it registers when it is ready."""

from django.apps import AppConfig


class AccessConfig(AppConfig):
    name = "access"
