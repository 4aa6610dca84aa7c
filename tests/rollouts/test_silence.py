"""What is judged although nobody reports: deadlines, missing windows, stops that do not end."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from jobs.models import Event, Job
from nodes.models import IngestClock, IngestGap, Node, NodePresence
from nodes.presence import record_presence
from rollouts.models import Execution
from rollouts.silence import judge_silence
from tests.rollouts.rows import make_execution, make_job, make_node, pipeline_spec, script_spec

pytestmark = pytest.mark.django_db

NOW = timezone.now()
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


@pytest.fixture
def node():
    return connected()


def connected(state="connected", since=NOW - timedelta(hours=1)):
    node = make_node()[0]
    Node.objects.filter(pk=node.pk).update(connection_state=state, connected_since=since)
    NodePresence.objects.create(
        node=node, last_seen_at=NOW + timedelta(days=1), session_since=since
    )
    node.refresh_from_db()
    return node


def heard(node, until):
    NodePresence.objects.filter(node=node).update(last_seen_at=until)


def fresh(execution):
    return Execution.objects.get(pk=execution.pk)


def released(node, job=None, **values):
    times = {
        "released_at": NOW,
        "deadline_at": NOW + MINUTE,
        "deadline_cap_at": NOW + 2 * MINUTE,
    }
    return make_execution(node, job, **(times | values))


def up(node, job=None, **values):
    times = {
        "observed_state": "running",
        "stable_at": NOW,
        "last_window_at": NOW,
        "deadline_at": None,
        "deadline_cap_at": None,
    }
    return make_execution(node, job, **(times | values))


# --- Deadlines -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["pending", "starting", "validating"])
def test_an_execution_that_is_not_stable_in_time_fails_and_wakes_its_job(node, state):
    heard = NOW + MINUTE  # so that its windows are not what is missing
    execution = released(node, observed_state=state, last_window_at=heard)
    assert judge_silence(NOW + MINUTE) == 0
    assert judge_silence(NOW + MINUTE + SECOND) == 1
    stored = fresh(execution)
    assert (stored.observed_state, stored.error_code) == ("failed", "health_deadline_exceeded")
    assert (stored.desired_state, stored.desired_seq) == ("stopped", 2)
    assert Event.objects.get().details["new_state"] == "failed"
    assert Job.objects.get().reconcile_due_at is not None
    assert judge_silence(NOW + 2 * MINUTE) == 0


def test_while_its_node_is_away_only_the_cap_fails_it():
    execution = released(connected("disconnected"))
    judge_silence(NOW + MINUTE + SECOND)
    assert fresh(execution).observed_state == "pending"
    judge_silence(NOW + 2 * MINUTE + SECOND)
    assert fresh(execution).observed_state == "failed"
    assert fresh(execution).details["capped"] is True


def test_a_gap_of_the_control_plane_is_taken_off_the_clock(node):
    execution = released(node)
    IngestGap.objects.create(started_at=NOW + 10 * SECOND, ended_at=NOW + 50 * SECOND)
    judge_silence(NOW + MINUTE + 30 * SECOND)
    assert fresh(execution).observed_state == "pending"
    judge_silence(NOW + MINUTE + 41 * SECOND)
    assert fresh(execution).observed_state == "failed"


def test_nobody_fails_in_time_who_could_not_be_heard_since_a_gap(node):
    execution = released(node, observed_state="validating", validating_at=NOW)
    began = NOW + 50 * SECOND
    IngestGap.objects.create(started_at=NOW + 40 * SECOND, ended_at=began)
    clock = IngestClock.objects.create(pk=1, last_ok_at=began, started_at=began)
    heard(node, NOW + 39 * SECOND)
    judge_silence(NOW + 80 * SECOND)
    assert fresh(execution).observed_state == "validating"
    heard(node, clock.started_at)
    judge_silence(NOW + 80 * SECOND)
    assert fresh(execution).observed_state == "failed"


def test_the_grace_after_a_gap_ends(node):
    execution = released(node, deadline_cap_at=NOW + timedelta(hours=1))
    IngestClock.objects.create(pk=1, last_ok_at=NOW, started_at=NOW)
    heard(node, NOW - SECOND)
    judge_silence(NOW + settings.START_GRACE)
    assert fresh(execution).observed_state == "pending"
    judge_silence(NOW + settings.START_GRACE + SECOND)
    assert fresh(execution).observed_state == "failed"


def test_an_old_execution_that_does_not_stop_fails_its_node_for_the_new_one(node):
    job = make_job()
    old = released(node, job, observed_state="stopping", desired_state="stopped", stable_at=NOW)
    new = released(node, job, previous=old, deadline_at=None)
    judge_silence(NOW + MINUTE + SECOND)
    assert fresh(old).observed_state == "stopping"
    assert fresh(old).deadline_at is None
    assert (fresh(new).observed_state, fresh(new).error_code) == ("failed", "previous_not_stopped")
    assert judge_silence(NOW + 5 * MINUTE) == 0


# --- Missing windows -----------------------------------------------------------------------------


def test_a_stable_execution_is_degraded_by_the_fifth_interval_without_a_window(node):
    execution = up(node, make_job(pipeline_spec("flow")))
    judge_silence(NOW + 29 * SECOND)
    assert fresh(execution).unhealthy_streak == 0
    for seconds in (30, 31, 40, 49):
        judge_silence(NOW + seconds * SECOND)
    assert (fresh(execution).unhealthy_streak, fresh(execution).observed_state) == (2, "running")
    judge_silence(NOW + 50 * SECOND)
    stored = fresh(execution)
    assert stored.observed_state == "degraded"
    assert "no_report" in stored.observed_message


def test_intervals_are_those_of_the_spec(node):
    execution = up(node, make_job(pipeline_spec("flow", interval=60_000_000_000)))
    judge_silence(NOW + 2 * MINUTE + 59 * SECOND)
    assert fresh(execution).unhealthy_streak == 0
    judge_silence(NOW + 3 * MINUTE)
    assert fresh(execution).unhealthy_streak == 1


def test_silence_in_validation_fails_it(node):
    times = {"observed_state": "validating", "stable_at": None, "validating_at": NOW}
    execution = up(node, last_window_at=None, **times)
    judge_silence(NOW + 50 * SECOND)
    assert fresh(execution).observed_state == "failed"
    assert fresh(execution).error_code == "health_windows_unhealthy"


@pytest.mark.parametrize("state", ["disconnected", "lost"])
def test_nobody_is_silent_whose_node_is_away(state):
    execution = up(connected(state))
    judge_silence(NOW + 10 * MINUTE)
    assert fresh(execution).observed_state == "running"


def test_a_node_that_fell_silent_altogether_is_not_blamed_before_it_counts_as_disconnected(node):
    execution = up(node, make_job(pipeline_spec("flow", interval=2_000_000_000)))
    heard(node, NOW + 5 * SECOND)
    judge_silence(NOW + 30 * SECOND)
    assert fresh(execution).observed_state == "running"
    assert fresh(execution).unhealthy_streak == 0


def test_silence_is_judged_up_to_the_moment_at_which_the_node_was_last_heard(node):
    execution = up(node, make_job(pipeline_spec("flow", interval=2_000_000_000)))
    heard(node, NOW + 8 * SECOND)
    judge_silence(NOW + 25 * SECOND)
    assert fresh(execution).unhealthy_streak == 2
    heard(node, NOW + 10 * SECOND)
    judge_silence(NOW + 25 * SECOND)
    assert fresh(execution).observed_state == "degraded"


def test_a_new_session_of_a_connected_node_may_first_send_what_it_kept(node):
    execution = up(node, make_job(pipeline_spec("flow", interval=2_000_000_000)))
    heard(node, NOW)
    record_presence({node.pk: NOW + 20 * SECOND}, "gateway", claim=True)
    judge_silence(NOW + 20 * SECOND)
    assert fresh(execution).unhealthy_streak == 0
    record_presence({node.pk: NOW + 26 * SECOND}, "gateway")
    judge_silence(NOW + 26 * SECOND)
    assert fresh(execution).unhealthy_streak == 1


def test_silence_begins_when_the_node_came_back():
    node = connected(since=NOW + MINUTE)
    execution = up(node)
    judge_silence(NOW + MINUTE + 29 * SECOND)
    assert fresh(execution).unhealthy_streak == 0
    judge_silence(NOW + MINUTE + 30 * SECOND)
    assert fresh(execution).unhealthy_streak == 1


def test_a_gap_of_the_control_plane_is_no_silence(node):
    execution = up(node)
    IngestGap.objects.create(started_at=NOW + SECOND, ended_at=NOW + MINUTE)
    judge_silence(NOW + MINUTE + 25 * SECOND)
    assert fresh(execution).unhealthy_streak == 0


def test_work_without_windows_is_never_silent(node):
    execution = up(node, make_job(script_spec("long")))
    assert judge_silence(NOW + timedelta(hours=1)) == 0
    assert fresh(execution).observed_state == "running"


def test_the_number_of_queries_does_not_grow_with_the_fleet(node):
    job = make_job()
    released(node, job)
    judge_silence(NOW + MINUTE + SECOND)
    released(connected(), job)
    up(connected(), job)
    with CaptureQueriesContext(connection) as one:
        assert judge_silence(NOW + 2 * MINUTE) == 2
    for _ in range(20):
        released(connected(), job)
        up(connected(), job)
    with CaptureQueriesContext(connection) as many:
        assert judge_silence(NOW + 2 * MINUTE) == 40
    assert len(many) == len(one)
