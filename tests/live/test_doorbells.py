"""A doorbell sounds after the commit, never before and never for what was rolled back."""

import pytest
from django.conf import settings
from django.db import transaction
from redis import Redis

from jobsite.celery import app
from live.push import ring

pytestmark = pytest.mark.django_db(transaction=True)
NAME = "rollouts.reconcile_job"


@pytest.fixture
def bells():
    """How many messages wait for a worker; there is none, so they stay."""
    path = settings.CELERY_BROKER_URL.removeprefix("redis+socket://").split("?")[0]
    queue = Redis(unix_socket_path=path, db=1)
    name = app.conf.task_default_queue
    queue.delete(name)
    yield lambda: queue.llen(name)
    queue.delete(name)
    queue.close()


def test_it_sounds_once_the_rows_can_be_read(bells):
    with transaction.atomic():
        ring(NAME, "1")
        assert bells() == 0
    assert bells() == 1


def test_it_is_silent_when_nothing_was_committed(bells):
    with transaction.atomic():
        ring(NAME, "1")
        transaction.set_rollback(True)
    assert bells() == 0
