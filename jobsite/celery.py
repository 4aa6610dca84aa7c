"""The Celery app, its queues, and the whole beat table: every period of the product is here."""

import os

from celery import Celery
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobsite.settings")
# Django's checks import every page. `migrate` makes them, once per release; a worker that starts again
# must not keep waves waiting for them.
os.environ.setdefault("CELERY_SKIP_CHECKS", "true")

app = Celery("jobsite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@app.on_after_configure.connect
def set_beat_table(sender: Celery, **_: object) -> None:
    """Say what beat rings and how often.

    It only rings: each of these looks for rows that are due, so none or three beats do no harm.
    Not at import, which may come before the environment is complete that the settings are read from.
    """
    sweep = settings.SWEEP_INTERVAL.total_seconds()
    sender.conf.beat_schedule = {
        "reconcile what is due": {"task": "rollouts.reconcile_due", "schedule": sweep},
        "judge silence and deadlines": {"task": "rollouts.evaluate_health", "schedule": sweep},
        "mark silent nodes": {"task": "nodes.sweep_silent_nodes", "schedule": 5 * sweep},
        "follow changed nodes": {"task": "rollouts.absorb_nodes", "schedule": sweep},
        "expire old rows": {"task": "rollouts.expire_rows", "schedule": 60 * sweep},
    }
