"""Imports the Celery app so that shared tasks bind to it."""

from jobsite.celery import app as celery_app

__all__ = ["celery_app"]
