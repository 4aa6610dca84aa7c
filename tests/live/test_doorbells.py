"""A doorbell sounds after the commit, never before and never for what was rolled back."""

import pytest
from django.conf import settings
from django.db import transaction
from kombu.exceptions import OperationalError
from redis import Redis

from jobsite.celery import RETRY, app
from live import push
from live.push import hush, ring

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


def test_bells_that_nobody_hears_do_not_pile_up_and_the_newest_stay(bells, monkeypatch):
    monkeypatch.setattr(push, "BELLS_KEPT", 3)
    for number in range(5):
        ring(NAME, str(number))
    assert bells() == 5
    hush()
    assert bells() == 3
    with (
        app.connection_for_read() as connection,
        connection.SimpleQueue(app.conf.task_default_queue) as queue,
    ):
        kept = [queue.get(timeout=2).payload[0] for _ in range(3)]
    assert kept == [["2"], ["3"], ["4"]]


def test_a_worker_asks_often_whether_the_doorbell_is_back():
    waits = []
    with (
        app.connection_for_read("redis://127.0.0.1:1/1") as connection,
        pytest.raises(OperationalError),
    ):
        connection.ensure_connection(lambda _, wait: waits.append(wait), max_retries=2)
    assert waits == [0.2, pytest.approx(0.6)]
    assert RETRY["interval_max"] <= 2
