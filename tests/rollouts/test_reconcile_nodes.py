"""Nodes that come, go, are lost, return or change their labels while a rollout is under way."""

from datetime import timedelta

import pytest
from django.utils import timezone

from jobs.models import Job
from nodes.models import Node
from rollouts import scheduler, silence, sweeps
from rollouts.models import Execution, RolloutTarget
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def namespaces(cast):
    """Every test has the namespaces prod and lab."""


def fresh(row):
    row.refresh_from_db()
    return row


def change(nodes, **values):
    """Change nodes as their own services do, and let the jobs follow."""
    keys = [node.pk for node in nodes]
    Node.objects.filter(pk__in=keys).update(**values, changed_at=timezone.now())
    sweeps.absorb_nodes()
    scheduler.sweep_due()


def targets(rollout):
    found = RolloutTarget.objects.filter(rollout=rollout).order_by("position")
    return list(found.values_list("state", flat=True))


def rolling(**more):
    return fleet.start(fleet.spec_of(strategy="rolling", max_parallel=50, **more))


def wanted(node):
    return Execution.objects.filter(node=node, desired_state="running").first()


def test_a_node_that_joins_gets_its_turn_at_the_end_of_the_list():
    fleet.make_nodes(2)
    rollout = rolling()
    (late,) = fleet.make_nodes(1)
    change([late])
    assert (fresh(rollout).total_nodes, targets(rollout)) == (
        3,
        ["released", "remaining", "remaining"],
    )
    assert fleet.settle(rollout).state == "completed"
    assert wanted(late).stable_at is not None


def test_a_canary_wave_that_lacks_nodes_is_filled_by_those_that_join_and_says_its_new_size():
    fleet.make_nodes(1)
    rollout = fleet.start(fleet.spec_of(canary_count=2, max_parallel=50))
    assert (rollout.total_nodes, rollout.canary_size) == (1, 1)
    second, third = fleet.make_nodes(2)
    change([second, third])
    assert (fresh(rollout).total_nodes, rollout.canary_size) == (3, 2)
    assert targets(rollout) == ["released", "released", "remaining"]
    change([third], enrolment_state="rejected")
    change([second], enrolment_state="rejected")
    assert (fresh(rollout).total_nodes, rollout.canary_size) == (1, 1)


def test_a_wider_canary_wave_stays_wide_while_its_nodes_are_there():
    nodes = fleet.make_nodes(6)
    rollout = fleet.start(fleet.spec_of(canary_percent=50, max_parallel=50))
    assert rollout.canary_size == 3
    change(nodes[4:], enrolment_state="rejected")
    assert (fresh(rollout).total_nodes, rollout.canary_size) == (4, 3)


def test_a_node_that_joins_a_finished_job_catches_up_and_is_validated():
    fleet.make_nodes(2)
    rollout = fleet.settle(rolling())
    (late,) = fleet.make_nodes(1)
    change([late])
    execution = wanted(late)
    assert (execution.rollout_id, execution.rollout_wave, execution.job_version) == (None, 0, 1)
    fleet.become_stable(execution)
    assert (fresh(rollout).total_nodes, fresh(rollout).state) == (2, "completed")


def test_a_node_that_joins_while_the_job_is_halted_gets_the_last_good_version():
    fleet.make_nodes(3)
    fleet.completed(fleet.spec_of(mark="v1", strategy="rolling"))
    second = fleet.start(fleet.spec_of(mark="v2", strategy="rolling", no_auto_rollback=True))
    fleet.stop_what_should(second.job_id)
    fleet.become_bad(fleet.executions(second)[0])
    assert fresh(second).state == "halted"
    (late,) = fleet.make_nodes(1)
    change([late])
    assert wanted(late).job_version == 1


def test_a_node_that_joins_a_halted_first_version_gets_nothing():
    fleet.make_nodes(3)
    rollout = rolling()
    fleet.become_bad(fleet.executions(rollout)[0])
    (late,) = fleet.make_nodes(1)
    change([late])
    assert wanted(late) is None


def test_a_node_that_leaves_stops_and_is_not_counted_any_more():
    nodes = fleet.make_nodes(4)
    rollout = rolling()
    first = fleet.executions(rollout)[0]
    change([first.node], labels={"role": "other"})
    assert (fresh(first).desired_state, first.observed_state) == ("stopped", "stopping")
    assert (fresh(rollout).total_nodes, targets(rollout)[0]) == (3, "left")
    assert fleet.settle(rollout).state == "completed"
    assert wanted(nodes[0]) is None


def test_a_node_that_left_and_came_back_is_placed_anew():
    fleet.make_nodes(4)
    rollout = rolling()
    first = fleet.executions(rollout)[0]
    fleet.become_stable(first)
    change([first.node], labels={"role": "other"})
    fleet.stop_what_should(rollout.job_id)
    change([first.node], labels={"role": "gateway"})
    assert fresh(rollout).total_nodes == 4
    assert fleet.settle(rollout).state == "completed"
    again = wanted(first.node)
    assert again is not None
    assert again.pk != first.pk
    assert (again.job_version, again.observed_state) == (1, "running")


def test_leaving_nodes_never_halt_a_rollout():
    fleet.make_nodes(10)
    rollout = fleet.start(fleet.spec_of(strategy="rolling", max_parallel=20))
    one, two = fleet.executions(rollout)
    fleet.become_bad(one)
    assert fresh(rollout).state == "active", "1 of 10 is 10%"
    change([two.node], labels={"role": "other"})
    assert (fresh(rollout).state, rollout.total_nodes) == ("active", 9)


def test_nodes_that_cannot_work_are_passed_over_and_catch_up_later():
    nodes = fleet.make_nodes(4)
    Node.objects.filter(pk=nodes[1].pk).update(connection_state="disconnected")
    rollout = fleet.settle(rolling())
    assert (rollout.state, rollout.total_nodes, rollout.updated_nodes) == ("completed", 4, 3)
    assert targets(rollout).count("deferred") == 1
    change([nodes[1]], connection_state="connected")
    assert wanted(nodes[1]).rollout_id is None
    fleet.become_stable(wanted(nodes[1]))


def test_a_deferred_node_that_returns_in_time_takes_part():
    nodes = fleet.make_nodes(6)
    Node.objects.filter(pk=nodes[0].pk).update(connection_state="disconnected")
    rollout = rolling()
    assert targets(rollout)[0] == "deferred"
    change([nodes[0]], connection_state="connected")
    assert targets(rollout).count("deferred") == 0
    assert fleet.settle(rollout).updated_nodes == 6
    assert wanted(nodes[0]).rollout_id == rollout.pk


def test_a_node_lost_before_it_was_stable_has_failed_for_this_rollout():
    fleet.make_nodes(4)
    rollout = rolling(max_failed_nodes_percent=50)
    first, second = fleet.executions(rollout)
    fleet.take_up(first)
    change([first.node], connection_state="lost")
    assert (fresh(first).observed_state, first.desired_state) == ("lost", "stopped")
    assert (fresh(rollout).failed_nodes, rollout.state) == (1, "active")
    change([first.node], connection_state="connected")
    fleet.report(first, fleet.in_state(first, "running"))
    assert first.observed_state == "stopping", "unvalidated work is never revived"
    fleet.become_stable(second)
    assert fleet.settle(rollout).state == "completed"
    assert rollout.failed_nodes == 1


def test_a_stable_node_that_is_lost_revives_by_its_own_report():
    fleet.make_nodes(2)
    rollout = fleet.settle(rolling())
    execution = fleet.executions(rollout)[0]
    stable_at = execution.stable_at
    change([execution.node], connection_state="lost")
    assert (fresh(execution).observed_state, execution.desired_state) == ("lost", "running")
    assert Job.objects.get().state == "degraded"
    change([execution.node], connection_state="connected")
    fleet.report(execution, fleet.in_state(execution, "running"))
    assert (execution.observed_state, execution.stable_at) == ("running", stable_at)
    assert Job.objects.get().state == "running"


def test_canaries_are_nodes_that_can_work_and_one_that_leaves_is_replaced():
    nodes = fleet.make_nodes(5)
    Node.objects.filter(pk=nodes[0].pk).update(connection_state="disconnected")
    rollout = fleet.start(fleet.spec_of(max_parallel=50, canary_count=2))
    canaries = [e.node for e in fleet.executions(rollout)]
    assert canaries == nodes[1:3]
    change([nodes[1]], labels={"role": "other"})
    out = [e.node for e in fleet.executions(rollout) if e.desired_state == "running"]
    assert out == nodes[2:4]
    for execution in fleet.executions(rollout, "pending"):
        fleet.become_stable(execution)
    assert fresh(rollout).pause_reason == "awaiting_promotion"


def test_a_canary_rollout_without_a_node_that_can_work_waits():
    nodes = fleet.make_nodes(2, connection="disconnected")
    rollout = fleet.start(fleet.spec_of(auto_promote=True))
    assert rollout.waiting_on["rule"] == "canary.unavailable"
    assert not Execution.objects.exists()
    change(nodes, connection_state="connected")
    assert fleet.settle(rollout).state == "completed"


def test_a_rollout_that_ends_because_all_nodes_left_proves_nothing():
    nodes = fleet.make_nodes(2)
    rollout = rolling()
    change(nodes, labels={"role": "other"})
    assert (fresh(rollout).state, rollout.total_nodes) == ("completed", 0)
    job = Job.objects.get()
    assert (job.state, job.stable_version) == ("queued", None)
    assert not Execution.objects.filter(desired_state="running").exists()


def test_an_old_execution_whose_node_is_away_holds_its_wave_up_for_twice_the_deadline():
    (node,) = fleet.make_nodes(1)
    fleet.settle(fleet.start(fleet.spec_of(mark="v1", strategy="rolling")))
    rollout = fleet.start(fleet.spec_of(mark="v2", strategy="rolling"))
    old = Execution.objects.get(node=node, desired_state="stopped")
    assert old.deadline_cap_at - old.updated_at == 2 * (old.deadline_at - old.updated_at)
    assert fresh(rollout).waiting_on["until"] == old.deadline_at.isoformat()
    Node.objects.filter(pk=node.pk).update(connection_state="disconnected")
    silence.judge_silence(old.deadline_at + timedelta(seconds=5))
    assert wanted(node) is not None
    silence.judge_silence(old.deadline_cap_at + timedelta(seconds=5))
    scheduler.reconcile_job(rollout.job_id)
    assert Execution.objects.get(rollout=rollout).error_code == "previous_not_stopped"
    assert fresh(rollout).failed_nodes == 1
