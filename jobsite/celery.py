"""The Celery app, its queues, and the whole beat table: every period of the product is here."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobsite.settings")

app = Celery("jobsite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# Beat only rings: each of these looks for rows that are due, so none or three beats do no harm.
app.conf.beat_schedule = {
    "reconcile what is due": {"task": "rollouts.reconcile_due", "schedule": 1.0},
    "judge silence and deadlines": {"task": "rollouts.evaluate_health", "schedule": 1.0},
    "mark silent nodes": {"task": "nodes.sweep_silent_nodes", "schedule": 5.0},
    "follow changed nodes": {"task": "rollouts.absorb_nodes", "schedule": 1.0},
    "expire old rows": {"task": "rollouts.expire_rows", "schedule": 300.0},
}
