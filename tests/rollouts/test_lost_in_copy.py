"""A connection that dies just before a COPY is the database's fault, never a report's.

Django makes its own errors of the driver's everywhere but there, and what passes is told from
what is wrong by Django's: a report taken for a bad one would be dropped.
"""

import psycopg
import pytest
from django.db import OperationalError, connection

from agent.protocol import State
from rollouts.gateway import _will_pass
from rollouts.ingest import ingest
from rollouts.models import Execution, HealthWindow
from tests.rollouts.rows import make_execution, make_node
from tests.rollouts.test_ingest import Reporter
from tests.waiting import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


class EndAfter:
    """Ends the session behind the application's back once a statement has run."""

    def __init__(self, words):
        self.words, self.has_struck = words, False

    def __call__(self, execute, sql, params, many, context):
        answer = execute(sql, params, many, context)
        if self.words in sql and not self.has_struck:
            self.has_struck = True
            self.strike(context["connection"].connection.info.backend_pid)
        return answer

    def strike(self, pid):
        options = connection.get_connection_params() | {"cursor_factory": psycopg.Cursor}
        # Each look in a transaction of its own: within one, what is active is read once.
        with psycopg.connect(**options, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s)", [pid])
            gone = "SELECT NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE pid = %s)"
            wait_until(lambda: other.execute(gone, [pid]).fetchone()[0])


@pytest.fixture
def report():
    yield Reporter(make_execution(make_node()[0]))
    connection.close()


def lose(report_batch, words):
    strike = EndAfter(words)
    with connection.execute_wrapper(strike), pytest.raises(OperationalError) as lost:
        ingest(report_batch)
    assert strike.has_struck
    assert _will_pass(lost.value)
    connection.close()


def test_events_are_told_of_again_and_stored_once(report):
    batch = [report(State, observed_state="starting")]
    lose(batch, "event_seq = j.event_seq +")
    ingest(batch)
    assert Execution.objects.get().observed_state == "starting"


def test_windows_are_told_of_again_and_stored_once(report):
    ingest([report(State, observed_state="starting")])
    batch = [report.window(1)]
    lose(batch, "UPDATE rollouts_execution")
    ingest(batch)
    assert HealthWindow.objects.count() == 1
