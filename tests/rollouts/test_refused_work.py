"""Work that a node refused for want of room is placed again once it has some."""

from datetime import timedelta

import pytest
from django.utils import timezone

from jobs.models import Job
from nodes.models import Node
from nodes.presence import Vitals, record_vitals
from rollouts import scheduler, services, sweeps
from rollouts.models import Execution
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def namespaces(cast):
    """Every test has the namespaces prod and lab."""


def refuse(execution):
    """The node has no room for it: what the agent says then (agent/supervisor.py)."""
    return fleet.report(
        execution,
        fleet.heard(execution),
        fleet.in_state(execution, "stopped", error_code="disk_full", details={"reason": "refused"}),
    )


def say_full(node, is_full):
    """The node's heartbeat says whether its disk has room, and the jobs follow."""
    condition = {"type": "JournalFull", "status": is_full, "reason": ""}
    record_vitals({node.pk: Vitals(resources={}, conditions=[condition])})
    return sweeps.absorb_nodes()


def wanted(node):
    return Execution.objects.get(node=node, desired_state="running")


def clock_of(execution):
    """Seconds from the refusal until the job is looked at again by itself; None: never."""
    due_at = Job.objects.get(pk=execution.job_id).reconcile_due_at
    return due_at and round((due_at - execution.finished_at).total_seconds())


def later(execution, seconds):
    """Look at the job when so many seconds have passed since the refusal."""
    scheduler.reconcile_job(
        execution.job_id, now=execution.finished_at + timedelta(seconds=seconds)
    )


def test_refused_work_is_placed_again_after_ten_seconds():
    node, other = fleet.make_nodes(2)
    rollout = fleet.start(fleet.spec_of(strategy="rolling", max_parallel=100))
    first = refuse(wanted(node))
    fleet.settle(rollout)
    assert wanted(node) == first
    assert clock_of(first) == 10
    later(first, 9.9)
    assert wanted(node) == first
    later(first, 10)
    second = wanted(node)
    assert (second.previous_id, second.observed_state) == (first.pk, "pending")
    assert (second.job_version, second.rollout_id) == (1, None)
    fleet.become_stable(second)
    assert Execution.objects.filter(node=other).count() == 1
    assert clock_of(first) is None


def test_each_refusal_in_a_row_waits_twice_as_long_up_to_five_minutes():
    (node,) = fleet.make_nodes(1)
    rollout = fleet.start(fleet.spec_of(strategy="rolling"))
    waits = []
    for _ in range(7):
        refused = refuse(wanted(node))
        waits.append(clock_of(refused))
        later(refused, waits[-1])
    rollout.refresh_from_db()
    assert waits == [10, 20, 40, 80, 160, 300, 300]
    assert rollout.state == "completed"


def test_a_node_that_says_it_has_no_room_is_left_alone_until_it_has():
    (node,) = fleet.make_nodes(1)
    fleet.start(fleet.spec_of(strategy="rolling"))
    refused = refuse(wanted(node))
    say_full(node, True)
    later(refused, 600)
    assert wanted(node) == refused
    assert clock_of(refused) is None
    assert say_full(node, True) == 0
    assert say_full(node, False) == 1
    later(refused, 600)
    assert wanted(node).previous_id == refused.pk


def test_one_shot_work_that_was_refused_has_not_ended_until_its_next_try_has():
    node, other = fleet.make_nodes(2)
    rollout = fleet.start(fleet.script_of())
    for execution in fleet.executions(rollout):
        if execution.node_id == other.pk:
            fleet.take_up(execution)
            fleet.report(execution, fleet.ended(execution))
    refused = refuse(wanted(node))
    job = Job.objects.get()
    assert (job.state, job.state_message) == ("running", "1 execution not ended yet")
    later(refused, 10)
    again = wanted(node)
    fleet.take_up(again)
    fleet.report(again, fleet.ended(again))
    job.refresh_from_db()
    assert (job.state, job.state_message) == ("completed", "2 of 2 executions completed")


def test_work_of_a_halted_version_is_not_tried_again_but_the_stable_one_is():
    nodes = fleet.make_nodes(3)
    fleet.completed(fleet.spec_of(mark="v1", strategy="rolling", max_parallel=100))
    second = fleet.start(
        fleet.spec_of(mark="v2", strategy="rolling", max_parallel=100, no_auto_rollback=True)
    )
    fleet.stop_what_should(second.job_id)
    bad, refusing, _ = fleet.executions(second)
    refused = refuse(refusing)
    fleet.become_bad(bad)
    second.refresh_from_db()
    assert second.state == "halted"
    later(refused, 10)
    assert wanted(refused.node).job_version == 1
    assert len(nodes) == 3


def test_what_was_stopped_on_purpose_is_never_tried_again():
    (node,) = fleet.make_nodes(1)
    rollout = fleet.start(fleet.spec_of(strategy="rolling"))
    refused = refuse(wanted(node))
    Job.objects.filter(pk=rollout.job_id).update(state="stopped")
    later(refused, 3600)
    assert not Execution.objects.filter(node=node, desired_state="running").exists()


def test_a_node_that_is_away_is_asked_again_when_it_is_back():
    (node,) = fleet.make_nodes(1)
    fleet.start(fleet.spec_of(strategy="rolling"))
    refused = refuse(wanted(node))
    Node.objects.update(connection_state="disconnected")
    later(refused, 600)
    assert wanted(node) == refused
    Node.objects.update(connection_state="connected", changed_at=timezone.now())
    sweeps.absorb_nodes()
    later(refused, 600)
    assert wanted(node).previous_id == refused.pk


def test_a_paused_rollout_of_scripts_that_ends_with_refused_work_leaves_its_job_running():
    node, _ = fleet.make_nodes(2)
    spec = fleet.script_of()
    rolling = {"strategy": "rolling", "max_parallel": 100}
    spec = type(spec).model_validate(spec.to_json() | {"rollout": rolling})
    rollout = fleet.start(spec)
    job_id = rollout.job_id
    services.pause_rollout(fleet.ADA, job_id)
    assert Job.objects.get().state == "rollout_paused"
    refused, done = sorted(fleet.executions(rollout), key=lambda one: one.node_id != node.pk)
    refuse(refused)
    fleet.take_up(done)
    fleet.report(done, fleet.in_state(done, "completed"), fleet.ended(done))
    services.resume_rollout(fleet.ADA, job_id)
    rollout.refresh_from_db()
    assert rollout.state == "completed"
    assert Job.objects.get().state == "running"
    later(refused, 10)
    again = wanted(node)
    fleet.take_up(again)
    fleet.report(again, fleet.in_state(again, "completed"), fleet.ended(again))
    assert Job.objects.get().state == "completed"
