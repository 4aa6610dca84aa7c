"""The Celery app, its queues, and the whole beat table: every period of the product is here."""

import os
from typing import Any, Self

import kombu
from celery import Celery
from celery.app.amqp import AMQP
from django.conf import settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "jobsite.settings")
# Django's checks import every page. `migrate` makes them, once per release; a worker that starts again
# must not keep waves waiting for them.
os.environ.setdefault("CELERY_SKIP_CHECKS", "true")

# Seconds between two tries to reach the doorbell: the first wait, what each adds, the longest.
RETRY = {"interval_start": 0.2, "interval_step": 0.4, "interval_max": 2.0}


class Doorbell(kombu.Connection):
    """A connection that asks often: left alone, workers ask 2, 4, 6… up to 30 s apart.

    A restart of the doorbell, which takes a second, would leave waves to the webs for as long.
    """

    def ensure_connection(self, *args: Any, **options: Any) -> Self:  # noqa: ANN401 - kombu's
        """Connect, by kombu's own rules but for the waits."""
        return super().ensure_connection(*args, **(RETRY | options))


class Doorbells(AMQP):
    """Makes every connection of workers, beat and producers a `Doorbell`."""

    Connection = Doorbell


app = Celery("jobsite", amqp=Doorbells)
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
