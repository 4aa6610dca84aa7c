"""A batch of frames from many nodes: one transaction, exact effects, nothing lost or believed twice."""

import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from agent.protocol import Ack, Frame, Log, ResultReport, State, WindowReport
from jobs.models import Event, Job
from nodes.models import Node
from rollouts.ingest import Incoming, ingest
from rollouts.models import Execution, HealthWindow, LogChunk, Result
from tests.rollouts.rows import make_execution, make_job, make_node, script_spec

pytestmark = pytest.mark.django_db


class Reporter:
    """Frames of one node's execution, numbered as its agent would."""

    def __init__(self, execution):
        self.execution, self.node_id, self.seq = execution, execution.node_id, 0

    def __call__(self, frame_type, seq=None, **values):
        self.seq += 1
        values = {"execution_id": str(self.execution.pk)} | values
        frame = frame_type(seq=self.seq if seq is None else seq, **values)
        return Incoming(node_id=self.node_id, frame=frame)

    def state(self, word, **more):
        return self(State, observed_state=word, **more)

    def window(self, number, **more):
        ended = timezone.now()
        times = {
            "started_at": (ended - timedelta(seconds=10)).isoformat(),
            "ended_at": ended.isoformat(),
        }
        return self(WindowReport, number=number, **(times | more))


def fresh(execution):
    return Execution.objects.get(pk=execution.pk)


@pytest.fixture
def execution():
    return make_execution(make_node()[0])


def test_a_validated_execution_leaves_a_row_an_event_for_each_step_and_a_due_job(execution):
    report = Reporter(execution)
    taken = ingest(
        [
            report(Ack, desired_seq=1),
            report.state("starting"),
            report.state("validating"),
            report.window(1, messages_in=100, errors=10),
            report.window(2, cpu_percent=1.5, rss_bytes=2**40),
        ]
    )
    assert taken.up_to == {execution.node_id: 5}
    stored = fresh(execution)
    assert (stored.observed_state, stored.delivered_seq) == ("running", 1)
    assert stored.revision == 6
    events = list(Event.objects.order_by("job_seq").values_list("kind", "details__new_state"))
    assert events == [
        ("execution.observed", "starting"),
        ("execution.observed", "validating"),
        ("execution.stable", "running"),
    ]
    assert Job.objects.get().reconcile_due_at is not None
    assert Node.objects.get().last_edge_seq_num == 5
    assert [w.is_healthy for w in HealthWindow.objects.all()] == [True, True]


def test_windows_without_a_verdict_wake_no_job(execution):
    report = Reporter(execution)
    ingest([report.state("validating")])
    Job.objects.update(reconcile_due_at=None)
    ingest([report.window(1)])
    assert Job.objects.get().reconcile_due_at is None
    assert fresh(execution).healthy_streak == 1


def test_a_failed_validation_is_to_be_stopped_and_told_so(execution):
    report = Reporter(execution)
    ingest([report.state("validating"), *(report.window(n, errors=5) for n in (1, 2, 3))])
    stored = fresh(execution)
    assert (stored.observed_state, stored.desired_state) == ("failed", "stopped")
    assert stored.desired_seq == 2
    assert stored.error_code == "health_windows_unhealthy"
    event = Event.objects.order_by("-job_seq").first()
    assert event.details["desired_state"] == "stopped"


def test_frames_seen_before_are_acknowledged_and_change_nothing(execution):
    report = Reporter(execution)
    batch = [report.state("starting"), report.state("validating"), report.window(1)]
    ingest(batch)
    before = fresh(execution).__dict__
    taken = ingest(batch)
    assert taken.up_to == {execution.node_id: 3}
    assert taken.dropped["seen"] == 3
    after = fresh(execution).__dict__
    before.pop("_state"), after.pop("_state")
    assert after == before
    assert Event.objects.count() == 2


def test_another_nodes_execution_is_out_of_reach(execution):
    stranger = make_node()[0]
    report = Reporter(execution)
    report.node_id = stranger.pk
    taken = ingest([report.state("failed"), report(ResultReport, status="failed")])
    assert taken.dropped["foreign"] == 2
    assert taken.up_to == {stranger.pk: 2}
    assert fresh(execution).observed_state == "pending"
    assert not Result.objects.exists()


def test_reports_about_nothing_that_exists_are_acknowledged(execution):
    report = Reporter(execution)
    taken = ingest([report(Ack, execution_id=str(uuid.uuid4()), desired_seq=1)])
    assert taken.up_to == {execution.node_id: 1}
    assert taken.dropped["foreign"] == 1


@pytest.mark.parametrize(
    ("frame_type", "values"),
    [
        (State, {"observed_state": "perfect"}),
        (State, {"observed_state": "running", "restarts": -1}),
        (State, {"observed_state": "running", "restarts": 2**31}),
        (State, {"observed_state": "running", "message": 5}),
        (State, {"observed_state": "running", "details": []}),
        (State, {"execution_id": "1", "observed_state": "running"}),
        (WindowReport, {"number": 1, "started_at": "", "ended_at": ""}),
        (WindowReport, {"number": True, "started_at": "x", "ended_at": "y"}),
        (Log, {"number": 1, "stream": "evil", "lines": []}),
        (Log, {"number": 1, "stream": "stdout", "lines": "text"}),
        (ResultReport, {"status": "victory"}),
        (ResultReport, {"status": "failed", "exit_code": 2**40}),
        (ResultReport, {"status": "failed", "data": float}),
    ],
    ids=str,
)
def test_malformed_frames_are_dropped_alone(execution, frame_type, values):
    report = Reporter(execution)
    bad = report(frame_type, **values)
    taken = ingest([bad, report.state("starting")])
    assert taken.dropped == {"malformed": 1}
    assert taken.up_to == {execution.node_id: 2}
    assert fresh(execution).observed_state == "starting"


def test_a_frame_that_could_not_be_read_is_acknowledged(execution):
    taken = ingest([Incoming(node_id=execution.node_id, frame=Frame(seq=9))])
    assert taken.up_to == {execution.node_id: 9}


def test_text_that_the_database_cannot_hold_is_made_harmless(execution):
    report = Reporter(execution)
    ingest(
        [
            report.state(
                "starting", message="a\x00b\ud800", details={"k\x00": ["\x00", float("nan")]}
            ),
            report(Log, number=1, stream="stdout", lines=["\x00", "two"]),
        ]
    )
    assert fresh(execution).observed_message == "a\ufffdb?"
    assert fresh(execution).details["k\ufffd"] == ["\ufffd", None]
    assert LogChunk.objects.get().lines == "\ufffd\ntwo"


def test_the_first_result_is_kept_and_names_how_it_ended():
    job = make_job(script_spec("once"))
    execution = make_execution(make_node()[0], job)
    report = Reporter(execution)
    ingest(
        [
            report.state("starting"),
            report.state("running"),
            report(ResultReport, status="timeout", error="limit of 60 s", output="x" * 2_000_000),
        ]
    )
    ingest([report(ResultReport, status="completed"), report.state("completed")])
    result = Result.objects.get()
    assert (result.status, result.truncated, len(result.output)) == ("timeout", True, 2**20)
    stored = fresh(execution)
    assert (stored.observed_state, stored.error_code) == ("failed", "execution_timeout")


def test_of_two_results_that_come_together_the_first_is_kept():
    execution = make_execution(make_node()[0], make_job(script_spec("once")))
    report = Reporter(execution)
    ingest(
        [
            report.state("running"),
            report(ResultReport, status="completed", output="first"),
            report(ResultReport, status="failed", output="second"),
        ]
    )
    result = Result.objects.get()
    assert (result.status, result.output) == ("completed", "first")
    assert fresh(execution).observed_state == "completed"


def test_an_old_execution_ends_and_its_successor_begins_in_one_batch():
    node, job = make_node()[0], make_job()
    old = make_execution(node, job, observed_state="running", desired_state="stopped")
    new = make_execution(node, job, previous=old)
    first, second = Reporter(old), Reporter(new)
    stop, start = first.state("stopped"), second.state("starting", seq=2)
    ingest([stop, start])
    assert fresh(old).observed_state == "stopped"
    assert fresh(new).observed_state == "starting"


def test_late_windows_are_stored_and_not_judged(execution):
    now = timezone.now()
    Node.objects.update(connected_since=now)
    report = Reporter(execution)
    ended = (now - timedelta(minutes=2)).isoformat()
    ingest([report.state("validating"), *(report.window(n, ended_at=ended) for n in (1, 2, 3))])
    assert [w.is_late for w in HealthWindow.objects.all()] == [True] * 3
    assert fresh(execution).observed_state == "validating"


@pytest.mark.parametrize("states", [("starting",), ("starting", "validating", "failed")])
def test_the_number_of_queries_does_not_grow_with_the_batch(states):
    job = make_job()
    few = [Reporter(make_execution(make_node()[0], job)) for _ in range(2)]
    many = [Reporter(make_execution(make_node()[0], job)) for _ in range(60)]

    def frames(reporters):
        return [
            item
            for report in reporters
            for item in (
                report(Ack, desired_seq=1),
                *(report.state(word) for word in states),
                report.window(1),
                report(Log, number=1, stream="stdout", lines=["a"]),
                report(ResultReport, status="failed"),
            )
        ]

    small, large = frames(few[:1]), frames(many)
    ingest(frames(few[1:]))  # what is read once for each process
    with CaptureQueriesContext(connection) as one:
        ingest(small)
    with CaptureQueriesContext(connection) as all_of_them:
        ingest(large)
    assert len(all_of_them) == len(one)
    assert len(one) < 30


WORDS = ["starting", "validating", "running", "degraded", "stopping", "stopped", "failed", "lost"]


class Replays(TestCase):
    """Whatever comes twice, late or about others, the database ends as if it had come once."""

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        steps=st.lists(
            st.one_of(st.sampled_from(WORDS), st.sampled_from(["H", "U", "result"])), max_size=12
        ),
        cuts=st.lists(st.integers(0, 12), max_size=4),
    )
    def test_replaying_any_prefix_changes_nothing(self, steps, cuts):
        report = Reporter(make_execution(make_node()[0]))
        frames = []
        for number, step in enumerate(steps, start=1):
            if step in ("H", "U"):
                frames.append(report.window(number, errors=0 if step == "H" else 9))
            elif step == "result":
                frames.append(report(ResultReport, status="failed"))
            else:
                frames.append(report.state(step))
        for frame in frames:
            ingest([frame])
        once = self.picture(report.execution)
        for cut in cuts:
            ingest(frames[:cut])
            ingest(list(reversed(frames[cut:])))
        assert self.picture(report.execution) == once

    def picture(self, execution):
        row = Execution.objects.values().get(pk=execution.pk)
        events = Event.objects.filter(execution_id=execution.pk).values_list("job_seq", "kind")
        windows = HealthWindow.objects.filter(execution=execution).values_list("number")
        return row, sorted(events), sorted(windows)
