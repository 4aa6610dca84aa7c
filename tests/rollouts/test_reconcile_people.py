"""What people may ask of a rollout and of a job, and what they are told when it cannot be."""

import pytest

from access.models import AuditEntry
from access.problems import Refused
from jobs.models import Event, Job
from jobs.services import delete_job, stop_job
from rollouts import scheduler, services
from rollouts.models import Execution, Rollout
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db
VERBS = {
    "pause": services.pause_rollout,
    "resume": services.resume_rollout,
    "promote": services.promote_rollout,
    "cancel": services.cancel_rollout,
}


@pytest.fixture(autouse=True)
def namespaces(cast):
    """Every test has the namespaces prod and lab."""


def fresh(row):
    row.refresh_from_db()
    return row


def refused(verb, rollout, *more):
    """Give the code with which a verb is refused."""
    before = (fresh(rollout).revision, Event.objects.count())
    with pytest.raises(Refused) as refusal:
        VERBS[verb](fleet.ADA, rollout.job_id, *more)
    assert (fresh(rollout).revision, Event.objects.count()) == before, "a refusal changes nothing"
    return refusal.value.code


@pytest.fixture
def rolling():
    """A rollout of 4 nodes in waves of 2 whose first wave is out."""
    fleet.make_nodes(4)
    return fleet.start(fleet.spec_of(strategy="rolling", max_parallel=50))


@pytest.fixture
def gate():
    """A rollout whose canary waits for its promotion."""
    fleet.make_nodes(4)
    rollout = fleet.start(fleet.spec_of(max_parallel=50))
    fleet.become_stable(fleet.executions(rollout)[0])
    return fresh(rollout)


def test_a_paused_rollout_opens_no_wave_until_it_is_resumed(rolling):
    services.pause_rollout(fleet.ADA, rolling.job_id, "wait")
    assert (fresh(rolling).state, rolling.pause_reason) == ("paused", "manual")
    assert Job.objects.get().state == "rollout_paused"
    for execution in fleet.executions(rolling):
        fleet.become_stable(execution)
    assert (fresh(rolling).updated_nodes, len(fleet.executions(rolling))) == (2, 2)
    services.resume_rollout(fleet.ADA, rolling.job_id)
    assert (fresh(rolling).state, len(fleet.executions(rolling))) == ("active", 4)
    actions = list(AuditEntry.objects.order_by("id").values_list("action", flat=True))
    assert actions[-2:] == ["rollout.pause", "rollout.resume"]


def test_a_paused_rollout_still_halts(rolling):
    services.pause_rollout(fleet.ADA, rolling.job_id)
    fleet.become_bad(fleet.executions(rolling)[0])
    assert fresh(rolling).state == "halted"


def test_a_paused_rollout_whose_last_wave_settled_ends_when_resumed(rolling):
    fleet.settle(rolling, limit=1)
    services.pause_rollout(fleet.ADA, rolling.job_id)
    for execution in fleet.executions(rolling, "pending"):
        fleet.become_stable(execution)
    assert fresh(rolling).state == "paused"
    services.resume_rollout(fleet.ADA, rolling.job_id)
    assert fresh(rolling).state == "completed"


def test_what_does_not_fit_a_running_rollout_is_refused(rolling):
    assert refused("resume", rolling) == "rollout_not_paused"
    assert refused("promote", rolling) == "not_in_canary"
    services.pause_rollout(fleet.ADA, rolling.job_id)
    assert refused("pause", rolling) == "rollout_paused"


def test_nothing_may_be_asked_of_a_rollout_that_ended(rolling):
    services.cancel_rollout(fleet.ADA, rolling.job_id)
    assert fresh(rolling).state == "cancelled"
    for verb in VERBS:
        assert refused(verb, rolling) == "rollout_not_active"


def test_a_cancelled_rollout_leaves_every_node_what_it_has(rolling):
    before = set(Execution.objects.values_list("pk", "desired_state"))
    services.cancel_rollout(fleet.ADA, rolling.job_id)
    assert set(Execution.objects.values_list("pk", "desired_state")) == before
    job = Job.objects.get()
    assert (job.state, job.state_details) == ("rollout_failed", {"reason": "cancelled"})


def test_a_gate_is_not_opened_by_resuming(gate):
    assert gate.pause_reason == "awaiting_promotion"
    assert refused("resume", gate) == "canary_awaiting_promotion"
    services.promote_rollout(fleet.ADA, gate.job_id)
    assert (fresh(gate).state, gate.canary_promoted, gate.current_wave) == ("active", True, 2)
    assert refused("promote", gate) == "not_in_canary"


def test_a_canary_that_is_not_stable_or_not_well_cannot_be_promoted():
    fleet.make_nodes(4)
    rollout = fleet.start(fleet.spec_of(max_parallel=50))
    assert refused("promote", rollout) == "canary_not_stable"
    (canary,) = fleet.executions(rollout)
    fleet.become_stable(canary)
    fleet.report(canary, *fleet.windows(canary, 1.0, 1.0, 1.0))
    assert canary.observed_state == "degraded"
    assert fresh(rollout).state == "paused", "a canary that was stable does not halt"
    assert refused("promote", rollout) == "canary_not_stable"
    fleet.report(canary, *fleet.windows(canary, 0.0, 0.0))
    services.promote_rollout(fleet.ADA, rollout.job_id)
    assert fresh(rollout).canary_promoted


def test_a_new_version_supersedes_what_is_under_way(gate):
    second = fleet.start(fleet.spec_of(mark="v2", max_parallel=50))
    assert (fresh(gate).state, second.state) == ("superseded", "active")
    assert Rollout.objects.filter(state__in=["active", "paused"]).count() == 1


@pytest.mark.parametrize("verb", VERBS)
def test_what_was_meant_for_a_rollout_is_not_done_to_the_one_in_its_place(gate, verb):
    second = fleet.start(fleet.spec_of(mark="v2", max_parallel=50))
    assert refused(verb, second, "", gate.pk) == "conflict"


def test_what_is_meant_for_the_active_rollout_is_done(gate):
    services.promote_rollout(fleet.ADA, gate.job_id, "", gate.pk)
    assert fresh(gate).canary_promoted


def test_a_script_may_name_the_rollout_that_it_means(rest_as, gate):
    fleet.start(fleet.spec_of(mark="v2", max_parallel=50))
    (active,) = Rollout.objects.filter(state="active")
    client = rest_as("otto")

    def ask(verb, **body):
        url = f"/api/v1/jobs/{gate.job_id}/rollout/{verb}"
        answer = client.post(url, body, format="json")
        return answer.status_code, answer.json()

    status, body = ask("pause", rollout=str(gate.pk))
    assert (status, body["code"]) == (409, "conflict")
    assert "version 2" in body["detail"]
    status, body = ask("pause", rollout="the newest")
    assert (status, body["code"]) == (422, "invalid_type")
    assert fresh(active).state == "active"
    assert ask("pause", rollout=str(active.pk))[0] == 200
    assert ask("resume")[0] == 200


def test_a_stopped_job_stops_everywhere_and_starts_again_when_submitted(rolling):
    spec = fleet.spec_of(strategy="rolling", max_parallel=50)
    _, changed = stop_job(fleet.ADA, rolling.job_id)
    scheduler.reconcile_job(rolling.job_id)
    assert changed
    assert fresh(rolling).state == "cancelled"
    assert not Execution.objects.filter(desired_state="running").exists()
    assert stop_job(fleet.ADA, rolling.job_id)[1] is False
    fleet.stop_what_should(rolling.job_id)
    again = fleet.start(spec)
    assert (again.rollout_type, again.version.number) == ("restart", 2)
    assert fleet.settle(again).state == "completed"
    assert Job.objects.get().state == "running"


def test_a_deleted_job_stops_and_its_name_is_free(rolling):
    delete_job(fleet.ADA, rolling.job_id)
    scheduler.reconcile_job(rolling.job_id)
    assert not Execution.objects.filter(desired_state="running").exists()
    fresh_start = fleet.start(fleet.spec_of(strategy="rolling", max_parallel=50))
    assert fresh_start.job_id != rolling.job_id
    assert fresh_start.rollout_type == "create"
    with pytest.raises(Refused) as refusal:
        services.roll_back(fleet.ADA, rolling.job_id)
    assert refusal.value.code == "job_deleted"


def test_an_equal_spec_is_refused_unless_it_is_forced(rolling):
    spec = fleet.spec_of(strategy="rolling", max_parallel=50)
    with pytest.raises(Refused) as refusal:
        fleet.submit_job(fleet.ADA, fleet.Submission(spec=spec))
    assert refusal.value.code == "no_changes"
    done = fleet.submit_job(fleet.ADA, fleet.Submission(spec=spec, force=True))
    assert done.version.cause == "restart"
    scheduler.reconcile_job(done.job.pk)
    restart = Rollout.objects.get(version=done.version)
    assert (restart.rollout_type, restart.updated_nodes) == ("restart", 0)
    assert fleet.settle(restart).state == "completed"
