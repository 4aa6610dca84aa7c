"""What the scheduler does when new versions fail: halting, rolling back, returning to the old."""

from datetime import timedelta

import pytest
from django.utils import timezone

from access.problems import Refused
from jobs.models import Event, Job, JobVersion
from rollouts import scheduler, services
from rollouts.models import Evaluation, Execution, Rollout, RolloutTarget
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def namespaces(cast):
    """Every test has the namespaces prod and lab."""


def fresh(row):
    row.refresh_from_db()
    return row


def live(job_id):
    """Give version and observed state of what is wanted, by node name."""
    found = Execution.objects.filter(job=job_id, desired_state="running").select_related("node")
    return {e.node.name: (e.job_version, e.observed_state) for e in found}


def rolled_back(job_id):
    return Rollout.objects.filter(job=job_id, rollout_type="rollback").first()


@pytest.fixture
def two_good_versions():
    """Version 1 and version 2 completed on six nodes."""
    fleet.make_nodes(6)
    fleet.completed(fleet.spec_of(mark="v1"))
    return fleet.completed(fleet.spec_of(mark="v2"))


def test_a_failed_canary_halts_and_every_node_ends_on_the_last_good_spec(two_good_versions):
    third = fleet.start(fleet.spec_of(mark="v3"))
    (canary,) = fleet.executions(third)
    fleet.stop_what_should(third.job_id)
    fleet.become_bad(canary)
    job = Job.objects.get()
    assert (fresh(third).state, third.halted_by) == ("halted", "canary.failed")
    fourth = rolled_back(job.pk)
    assert (fourth.version.number, fourth.strategy, fourth.rollback_to_version) == (
        4,
        "immediate",
        3,
    )
    assert fourth.version.run_hash == two_good_versions.version.run_hash
    assert fourth.version.created_by == "scheduler"
    fleet.settle(fourth)
    fleet.stop_what_should(job.pk)
    assert fresh(fourth).state == "completed"
    assert set(live(job.pk).values()) == {(2, "running"), (2, "starting")}
    assert (fresh(job).version, job.stable_version) == (4, 4)


def test_the_failed_node_runs_its_old_execution_again_and_is_not_validated_anew(two_good_versions):
    third = fleet.start(fleet.spec_of(mark="v3"))
    (canary,) = fleet.executions(third)
    fleet.stop_what_should(third.job_id)
    old = Execution.objects.get(pk=canary.previous_id)
    stable_at = old.stable_at
    fleet.become_bad(canary)
    assert (fresh(old).desired_state, old.observed_state) == ("running", "starting")
    assert (old.stable_at, old.attempt) == (stable_at, 2)
    assert "resurrected_at" in old.details
    fleet.report(old, fleet.heard(old), fleet.in_state(old, "running"))
    assert (old.observed_state, old.stable_at) == ("running", stable_at)
    kinds = Event.objects.filter(execution_id=old.pk).values_list("kind", flat=True)
    assert list(kinds).count("execution.resurrected") == 1


def test_a_first_version_that_fails_has_nothing_to_return_to():
    fleet.make_nodes(3)
    rollout = fleet.start(fleet.spec_of())
    fleet.become_bad(fleet.executions(rollout)[0])
    assert fresh(rollout).state == "halted"
    job = Job.objects.get()
    assert (job.state, job.version, live(job.pk)) == ("rollout_failed", 1, {})


def test_a_rollback_never_rolls_back_again(two_good_versions):
    third = fleet.start(fleet.spec_of(mark="v3"))
    fleet.stop_what_should(third.job_id)
    fleet.become_bad(fleet.executions(third)[0])
    services.roll_back(fleet.ADA, third.job_id, target_version=1)
    manual = rolled_back(third.job_id)
    assert (manual.version.number, manual.strategy) == (5, "canary")
    fleet.stop_what_should(third.job_id)
    fleet.become_bad(fleet.executions(manual)[0])
    assert fresh(manual).state == "halted"
    assert (Job.objects.get().version, JobVersion.objects.count()) == (5, 5)


def test_without_automatic_rollback_the_job_stays_as_it_failed(two_good_versions):
    third = fleet.start(fleet.spec_of(mark="v3", no_auto_rollback=True))
    fleet.stop_what_should(third.job_id)
    fleet.become_bad(fleet.executions(third)[0])
    job = Job.objects.get()
    assert (job.state, job.version) == ("rollout_failed", 3)


def test_a_superseded_half_way_leaves_no_node_on_neither_version():
    """docs/semantics.md X76: v1 completed, v2 was superseded half-way, v3 halted."""
    fleet.make_nodes(6)
    fleet.completed(fleet.spec_of(mark="v1", strategy="rolling"))
    second = fleet.start(fleet.spec_of(mark="v2", strategy="rolling", max_parallel=50))
    fleet.stop_what_should(second.job_id)
    for execution in fleet.executions(second):
        fleet.become_stable(execution)
    third = fleet.start(fleet.spec_of(mark="v3", strategy="rolling", max_parallel=17))
    assert fresh(second).state == "superseded"
    assert third.rollback_to_version == 1
    for _ in range(2):
        fleet.stop_what_should(third.job_id)
        for execution in fleet.executions(third, "pending"):
            fleet.become_bad(execution)
    assert fresh(third).state == "halted"
    fleet.settle(rolled_back(third.job_id))
    first = JobVersion.objects.get(number=1)
    wanted = Execution.objects.filter(desired_state="running")
    assert {e.run_hash for e in wanted} == {first.run_hash}
    assert wanted.count() == 6


def test_failures_up_to_the_limit_do_not_halt_and_one_more_does():
    fleet.make_nodes(20)
    spec = fleet.spec_of(strategy="rolling", max_parallel=50)
    rollout = fleet.start(spec)
    first, second, third, *rest = fleet.executions(rollout)
    fleet.become_bad(first)
    fleet.become_bad(second)
    assert fresh(rollout).state == "active", "2 of 20 are 10%, which is not above the limit"
    fleet.become_bad(third)
    assert (fresh(rollout).state, rollout.failed_nodes) == ("halted", 3)
    assert rollout.halted_by == "limit.max_failed_nodes_percent"
    assert RolloutTarget.objects.filter(rollout=rollout, state="remaining").count() == 10
    fleet.become_stable(rest[0])
    assert fresh(rollout).state == "halted"


def test_each_decision_is_written_once_with_its_rule_and_numbers(two_good_versions):
    third = fleet.start(fleet.spec_of(mark="v3"))
    fleet.stop_what_should(third.job_id)
    fleet.become_bad(fleet.executions(third)[0])
    for _ in range(3):
        scheduler.reconcile_job(third.job_id)
    kinds = list(
        Evaluation.objects.filter(rollout=third).order_by("id").values_list("kind", flat=True)
    )
    assert kinds == ["wave.open", "resurrect", "halt", "rollback"]
    halt = Evaluation.objects.get(rollout=third, kind="halt")
    assert halt.rule
    assert halt.facts
    assert Event.objects.filter(rollout_id=third.pk, kind="rollout.halted").count() == 1


def test_a_manual_rollback_chooses_the_last_completed_version_that_differs(two_good_versions):
    version = services.roll_back(fleet.ADA, two_good_versions.job_id, reason="CHG-1")
    first = JobVersion.objects.get(number=1)
    assert (version.number, version.run_hash) == (3, first.run_hash)
    assert version.rolled_back_from == 2


def test_what_cannot_be_rolled_back_to_is_refused(two_good_versions):
    for target, code in ((2, "no_changes"), (9, "version_not_found")):
        with pytest.raises(Refused) as refusal:
            services.roll_back(fleet.ADA, two_good_versions.job_id, target_version=target)
        assert refusal.value.code == code
    fleet.make_nodes(1, labels={"role": "other"})
    lonely = fleet.start(fleet.spec_of("lonely"))
    with pytest.raises(Refused) as refusal:
        services.roll_back(fleet.ADA, lonely.job_id)
    assert refusal.value.code == "no_stable_version"


def test_one_shot_work_that_fails_halts_and_is_never_repeated():
    fleet.make_nodes(4)
    spec = fleet.script_of().model_dump(mode="json", exclude_unset=True)
    spec["rollout"] = {"strategy": "rolling", "max_parallel": 25}
    rollout = fleet.start(fleet.JobSpec.model_validate(spec))
    (execution,) = fleet.executions(rollout)
    fleet.report(execution, fleet.in_state(execution, "running"))
    assert fresh(rollout).state == "active", "running is not the end of one-shot work"
    fleet.report(execution, fleet.ended(execution, "failed", exit_code=1))
    assert (fresh(rollout).state, fresh(execution).observed_state) == ("halted", "failed")
    assert (Execution.objects.count(), JobVersion.objects.count()) == (1, 1)
    assert Job.objects.get().state == "rollout_failed"


@pytest.mark.parametrize(
    ("statuses", "state", "outcome"),
    [
        (["completed", "completed"], "completed", "success"),
        (["completed", "failed"], "failed", "partial_failure"),
        (["failed", "failed"], "failed", "failure"),
        (["timeout", "timeout"], "failed", "timeout"),
        (["skipped", "skipped"], "completed", "skipped"),
        (["completed", "skipped"], "completed", "success"),
    ],
)
def test_the_outcome_of_one_shot_work_follows_from_all_results(statuses, state, outcome):
    fleet.make_nodes(2)
    spec = fleet.script_of().model_dump(mode="json", exclude_unset=True)
    spec["rollout"] = {"strategy": "immediate", "max_failed_nodes_percent": 100}
    rollout = fleet.start(fleet.JobSpec.model_validate(spec))
    for execution, status in zip(fleet.executions(rollout), statuses, strict=True):
        fleet.report(execution, fleet.in_state(execution, "running"))
        fleet.report(execution, fleet.ended(execution, status))
    job = Job.objects.get()
    assert (job.state, job.state_details.get("outcome")) == (state, outcome)


def timed_spec(**timeouts):
    spec = fleet.spec_of(strategy="rolling", max_parallel=100)
    return fleet.JobSpec.model_validate(
        spec.model_dump(mode="json", exclude_unset=True) | {"timeouts": timeouts}
    )


def test_a_job_that_nobody_can_run_fails_when_its_queue_timeout_passes():
    job = fleet.submit_job(fleet.ADA, fleet.Submission(spec=timed_spec(queue_timeout=60))).job
    scheduler.reconcile_job(job.pk)
    assert fresh(job).state == "queued"
    due = job.reconcile_due_at
    assert due - job.pending_since == timedelta(seconds=60)
    scheduler.reconcile_job(job.pk, now=due - timedelta(seconds=1))
    assert fresh(job).state == "queued"
    scheduler.reconcile_job(job.pk, now=due)
    assert (fresh(job).state, job.state_details["code"]) == ("failed", "queue_timeout")


def test_a_rollout_that_goes_on_too_long_ends_with_its_job():
    fleet.make_nodes(2)
    rollout = fleet.start(timed_spec(total_timeout=600))
    fleet.take_up(fleet.executions(rollout)[0])
    scheduler.reconcile_job(rollout.job_id, now=timezone.now() + timedelta(seconds=601))
    job = Job.objects.get()
    assert (job.state, job.state_details["code"]) == ("failed", "total_timeout")
    assert fresh(rollout).state == "cancelled"
    assert live(job.pk) == {}


def test_a_script_that_fails_everywhere_at_once_has_failed_and_not_its_rollout():
    fleet.make_nodes(3)
    spec = fleet.script_of()
    rollout = fleet.start(spec)
    for execution in fleet.executions(rollout):
        fleet.take_up(execution)
        fleet.report(execution, fleet.ended(execution, "failed", exit_code=7))
    scheduler.reconcile_job(rollout.job_id)
    job = fresh(rollout.job)
    assert (job.state, job.state_details["outcome"]) == ("failed", "failure")
    states = Event.objects.filter(job=job, kind="job.state").order_by("job_seq")
    assert [event.details["new_state"] for event in states] == ["running", "failed"]
