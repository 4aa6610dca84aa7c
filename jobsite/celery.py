"""The Celery app, its queues, and the whole beat table: every period of the product is here."""

import os

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobsite.settings")

app = Celery("jobsite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

SWEEP = settings.SWEEP_INTERVAL.total_seconds()
# Beat only rings: each of these looks for rows that are due, so none or three beats do no harm.
app.conf.beat_schedule = {
    "reconcile what is due": {"task": "rollouts.reconcile_due", "schedule": SWEEP},
    "judge silence and deadlines": {"task": "rollouts.evaluate_health", "schedule": SWEEP},
    "mark silent nodes": {"task": "nodes.sweep_silent_nodes", "schedule": 5 * SWEEP},
    "follow changed nodes": {"task": "rollouts.absorb_nodes", "schedule": SWEEP},
    "expire old rows": {"task": "rollouts.expire_rows", "schedule": 300 * SWEEP},
}
