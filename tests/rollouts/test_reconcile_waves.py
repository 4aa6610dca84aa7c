"""Whole rollouts through services and reports: waves open one after another until the end."""

import pytest

from access.problems import Refused
from jobs.models import Job
from jobs.spec import JobSpec
from nodes.models import Node
from rollouts import scheduler, services
from rollouts.models import Evaluation, Execution, Rollout, RolloutTarget
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def namespaces(cast):
    """Every test has the namespaces prod and lab."""


def targets(rollout):
    """Give the state of each target in the order of the list."""
    found = RolloutTarget.objects.filter(rollout=rollout).order_by("position")
    return list(found.values_list("state", flat=True))


def fresh(row):
    row.refresh_from_db()
    return row


def waves(rollout):
    """Give the sizes of the waves as they were opened."""
    found = Evaluation.objects.filter(rollout=rollout, kind="wave.open").order_by("id")
    return [evaluation.facts["size"] for evaluation in found]


def test_an_immediate_rollout_places_every_node_and_ends_when_all_run():
    nodes = fleet.make_nodes(5)
    rollout = fleet.start(fleet.spec_of(strategy="immediate"))
    assert [e.node for e in fleet.executions(rollout)] == nodes
    assert (rollout.current_wave, rollout.total_waves) == (0, 1)
    for execution in fleet.executions(rollout):
        assert fresh(rollout).state == "active"
        fleet.report(execution, fleet.in_state(execution, "running"))
    assert fresh(rollout).state == "completed"
    assert targets(rollout) == ["updated"] * 5
    job = Job.objects.get()
    assert (job.state, job.stable_version) == ("running", 1)


def test_a_rolling_rollout_opens_a_wave_only_when_the_one_before_has_settled():
    fleet.make_nodes(5)
    rollout = fleet.start(fleet.spec_of(strategy="rolling", max_parallel=40))
    assert rollout.total_waves == 3
    for number, size in enumerate((2, 2, 1), start=1):
        out = fleet.executions(rollout, "pending")
        assert [e.rollout_wave for e in out] == [number] * size
        for execution in out:
            assert fresh(rollout).current_wave == number
            fleet.become_stable(execution)
    assert fresh(rollout).state == "completed"
    assert waves(rollout) == [2, 2, 1]


def test_a_canary_waits_for_its_promotion_and_then_goes_on():
    fleet.make_nodes(5)
    rollout = fleet.start(fleet.spec_of(max_parallel=50, canary_count=2))
    for execution in fleet.executions(rollout):
        fleet.become_stable(execution)
    assert (fresh(rollout).state, rollout.pause_reason) == ("paused", "awaiting_promotion")
    assert Job.objects.get().state == "rollout_paused"
    assert len(fleet.executions(rollout)) == 2
    services.promote_rollout(fleet.ADA, rollout.job_id)
    assert fresh(rollout).canary_promoted
    assert len(fleet.executions(rollout, "pending")) == 3
    assert fleet.settle(rollout).state == "completed"


def test_an_automatic_promotion_needs_nobody():
    fleet.make_nodes(4)
    rollout = fleet.start(fleet.spec_of(max_parallel=50, auto_promote=True))
    assert fleet.settle(rollout).state == "completed"
    assert waves(rollout) == [1, 2, 1]


def test_a_new_execution_follows_the_one_that_ran_on_its_own_node():
    fleet.make_nodes(4)
    old = fleet.executions(fleet.completed(fleet.spec_of(mark="v1", strategy="immediate")))
    before = {execution.node_id: execution.pk for execution in old}
    rollout = fleet.start(fleet.spec_of(mark="v2", strategy="immediate"))
    new = fleet.executions(rollout)
    assert {execution.node_id: execution.previous_id for execution in new} == before
    after = {e.previous_id: e.pk for e in new}
    assert {e.pk: e.next_id for e in Execution.objects.filter(pk__in=after)} == after
    assert {e.observed_state for e in Execution.objects.filter(pk__in=after)} == {"stopping"}
    assert {e.deadline_at for e in new} == {None}, "the clock starts when the old one has stopped"
    fleet.stop_what_should(rollout.job_id)
    assert all(fresh(e).deadline_at for e in new)


def test_a_change_that_restarts_nothing_completes_at_once():
    fleet.make_nodes(3)
    first = fleet.completed(fleet.spec_of(strategy="rolling"))
    spec = fleet.spec_of(strategy="rolling", max_parallel=10)
    rollout = fleet.start(spec)
    assert (rollout.state, rollout.total_nodes, rollout.updated_nodes) == ("completed", 3, 3)
    assert (rollout.total_waves, rollout.version.number) == (0, 2)
    assert targets(rollout) == ["current"] * 3
    assert {e.rollout_id for e in Execution.objects.all()} == {first.pk}
    job = Job.objects.get()
    assert (job.state, job.version, job.stable_version) == ("running", 2, 2)


def test_a_rollout_without_nodes_queues_the_job_until_one_joins():
    done = fleet.submit_job(fleet.ADA, fleet.Submission(spec=fleet.spec_of()))
    scheduler.reconcile_job(done.job.pk)
    assert (fresh(done.job).state, Rollout.objects.count()) == ("queued", 0)
    fleet.make_nodes(1)
    scheduler.reconcile_job(done.job.pk)
    assert (fresh(done.job).state, Rollout.objects.get().total_nodes) == ("deploying", 1)


def test_any_takes_exactly_one_node():
    fleet.make_nodes(5)
    spec = fleet.script_of().model_dump(mode="json", exclude_unset=True)
    spec["selector"] = {"target": "_any"}
    rollout = fleet.start(fleet.JobSpec.model_validate(spec))
    (execution,) = fleet.executions(rollout)
    assert rollout.total_nodes == 1
    scheduler.reconcile_job(rollout.job_id)
    fleet.report(execution, fleet.in_state(execution, "running"), fleet.ended(execution))
    assert fresh(rollout).state == "completed"
    assert Execution.objects.count() == 1
    assert Job.objects.get().state == "completed"


def test_a_target_by_name_that_two_nodes_answer_to_is_refused():
    first, second = fleet.make_nodes(2)
    Node.objects.filter(pk=second.pk).update(name=first.name)
    spec = fleet.script_of().to_json() | {"selector": {"target": first.name}}
    with pytest.raises(Refused) as refusal:
        fleet.start(JobSpec.model_validate(spec))
    assert refusal.value.code == "ambiguous_target"
    assert refusal.value.details["node_ids"] == sorted([str(first.pk), str(second.pk)])
    spec["selector"]["target"] = str(second.pk)
    assert fleet.start(JobSpec.model_validate(spec)).total_nodes == 1
