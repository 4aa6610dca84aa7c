"""Several workers at once, and workers that die: each decision is made once, or not at all."""

import threading

import pytest
from django.db import connections, transaction

from jobs.models import Event, Job
from rollouts import scheduler, services
from rollouts.models import Evaluation, Execution, Rollout
from tests.cast import make_cast
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def namespaces(transactional_db):
    """Every test has the namespaces prod and lab."""
    make_cast()


def at_once(*calls):
    """Run calls in threads of their own that begin together; give what they raised."""
    gate, raised = threading.Barrier(len(calls)), []

    def run(call):
        try:
            gate.wait(60)
            call()
        except Exception as error:
            raised.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return raised


def fresh(row):
    row.refresh_from_db()
    return row


def events_are_in_order(job):
    """The numbers of a job's events have neither gaps nor doubles."""
    seen = list(Event.objects.filter(job=job).order_by("job_seq").values_list("job_seq", flat=True))
    assert seen == list(range(1, len(seen) + 1))
    assert fresh(job).event_seq == len(seen)


def all_stable(rollout):
    Execution.objects.filter(rollout=rollout, observed_state="pending").update(
        observed_state="running", stable_at=rollout.started_at
    )


def test_many_workers_open_each_wave_once():
    fleet.make_nodes(6)
    rollout = fleet.start(fleet.spec_of(strategy="rolling", max_parallel=34))
    assert rollout.total_waves == 2
    for opened, state in ((2, "active"), (2, "completed")):
        all_stable(rollout)
        assert at_once(*[lambda: scheduler.reconcile_job(rollout.job_id)] * 5) == []
        assert Evaluation.objects.filter(rollout=rollout, kind="wave.open").count() == opened
        assert fresh(rollout).state == state
    per_node = Execution.objects.filter(rollout=rollout).values_list("node_id", flat=True)
    assert len(per_node) == len(set(per_node)) == 6
    events_are_in_order(rollout.job)


def test_two_people_promote_and_one_is_told_that_it_is_done():
    fleet.make_nodes(3)
    rollout = fleet.start(fleet.spec_of(max_parallel=50))
    fleet.become_stable(fleet.executions(rollout)[0])
    raised = at_once(*[lambda: services.promote_rollout(fleet.ADA, rollout.job_id)] * 2)
    assert [error.code for error in raised] == ["not_in_canary"]
    assert Event.objects.filter(kind="canary.promoted").count() == 1
    events_are_in_order(rollout.job)


def test_a_halt_and_a_person_who_cancels_end_the_rollout_once():
    fleet.make_nodes(3)
    rollout = fleet.start(fleet.spec_of())
    Execution.objects.filter(rollout=rollout).update(
        observed_state="failed", desired_state="stopped"
    )
    at_once(
        lambda: scheduler.reconcile_job(rollout.job_id),
        lambda: services.cancel_rollout(fleet.ADA, rollout.job_id),
    )
    ends = Event.objects.filter(kind__in=["rollout.halted", "rollout.cancelled"])
    assert ends.count() == 1
    assert f"rollout.{fresh(rollout).state}" == ends.get().kind
    events_are_in_order(rollout.job)


def test_two_versions_at_once_leave_one_active_rollout():
    fleet.make_nodes(3)
    rollout = fleet.start(fleet.spec_of(mark="v1", strategy="rolling"))

    def submit(mark):
        spec = fleet.spec_of(mark=mark, strategy="rolling")
        fleet.submit_job(fleet.ADA, fleet.Submission(spec=spec))
        scheduler.reconcile_job(rollout.job_id)

    assert at_once(lambda: submit("v2"), lambda: submit("v3")) == []
    job = Job.objects.get()
    active = Rollout.objects.get(state__in=["active", "paused"])
    assert (job.version, active.version.number) == (3, 3)
    events_are_in_order(job)


class Killed(BaseException):
    """A worker dies here."""


def everything():
    """Give what the database says, without what only tells the time."""
    return (
        list(Execution.objects.order_by("id").values_list("id", "desired_state", "observed_state")),
        list(Rollout.objects.order_by("id").values_list("id", "state", "current_wave", "revision")),
        Evaluation.objects.count(),
        list(Event.objects.order_by("id").values_list("job_seq", "kind")),
        list(Job.objects.values_list("state", "version", "event_seq")),
    )


def statements_of(work):
    """Count the statements of some work, and leave nothing of it."""
    counted = []

    def count(execute, sql, params, many, context):
        counted.append(sql)
        return execute(sql, params, many, context)

    with transaction.atomic(), connections["default"].execute_wrapper(count):
        work()
        transaction.set_rollback(True)
    return len(counted) - 2  # the savepoint that the work's own transaction was here


def dying(at):
    """A worker that is killed before its statement of that number."""
    seen = []

    def count(execute, sql, params, many, context):
        seen.append(sql)
        if len(seen) == at:
            raise Killed
        return execute(sql, params, many, context)

    return connections["default"].execute_wrapper(count)


def test_a_worker_killed_at_any_statement_leaves_nothing_and_the_next_one_does_it_all():
    fleet.make_nodes(4)
    fleet.completed(fleet.spec_of(mark="v1", strategy="rolling"))
    rollout = fleet.start(fleet.spec_of(mark="v2", strategy="rolling", max_parallel=50))
    Execution.objects.filter(rollout=rollout).update(
        observed_state="failed", desired_state="stopped"
    )
    before = everything()
    work = lambda: scheduler.reconcile_job(rollout.job_id)  # noqa: E731
    number = statements_of(work)
    assert number > 30
    for at in range(1, number + 1, 3):
        with pytest.raises(Killed), dying(at):
            work()
        assert everything() == before, f"something of a decision was left at statement {at}"
    work()
    assert fresh(rollout).state == "halted"
    assert Job.objects.get().version == 3
    assert Rollout.objects.get(version__number=3).state == "active"
    events_are_in_order(rollout.job)


def test_looking_again_at_a_job_at_rest_changes_nothing():
    fleet.make_nodes(4)
    rollout = fleet.start(fleet.spec_of(strategy="rolling", max_parallel=50))
    before = everything()
    for _ in range(3):
        scheduler.reconcile_job(rollout.job_id)
    assert everything() == before
