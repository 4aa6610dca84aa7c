"""Bells and sweeps share the work: what is done is not done again, and nobody queues behind a lock."""

import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import connections, transaction
from django.utils import timezone

from jobs.models import Event, Job
from jobs.services import Submission, lock_job, rerun_job, submit_job
from nodes.models import Node
from rollouts import scheduler, services, sweeps
from rollouts.models import Rollout
from tests.cast import make_cast
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def namespaces(transactional_db):
    """Every test has the namespaces prod and lab, and a node."""
    make_cast()
    fleet.make_nodes(1)


def submit(name):
    """Store a job that is due, and has no rollout yet."""
    return submit_job(fleet.ADA, Submission(spec=fleet.spec_of(name))).job


@contextmanager
def held(job):
    """Let somebody else hold the job's lock."""
    has_it, may_go = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic():
            lock_job(job.pk)
            has_it.set()
            may_go.wait(60)
        connections.close_all()

    holder = threading.Thread(target=hold)
    holder.start()
    assert has_it.wait(60)
    try:
        yield
    finally:
        may_go.set()
        holder.join(60)


def has_begun(job):
    return Rollout.objects.filter(job=job).exists()


def test_the_first_answer_does_the_work_of_all_bells():
    job = submit("shipper")
    assert scheduler.answer_bell(job.pk)
    told = Event.objects.filter(job=job).count()
    assert not scheduler.answer_bell(job.pk)
    assert Event.objects.filter(job=job).count() == told
    assert has_begun(job)


def test_a_bell_is_answered_although_clocks_differ_a_little():
    job = submit("shipper")
    Job.objects.update(reconcile_due_at=timezone.now() + timedelta(seconds=1))
    assert scheduler.answer_bell(job.pk)
    Job.objects.update(reconcile_due_at=timezone.now() + timedelta(seconds=60))
    assert not scheduler.answer_bell(job.pk)


def test_a_bell_of_a_job_that_is_gone_means_nothing():
    assert not scheduler.answer_bell("01a20f39-a466-7efe-bf44-e8bbf4392dcf")


def test_a_bell_leaves_a_held_job_to_the_sweep():
    job = submit("shipper")
    with held(job):
        assert not scheduler.answer_bell(job.pk)
        assert not has_begun(job)
    assert scheduler.sweep_due() == 1
    assert has_begun(job)


def test_a_sweep_passes_over_what_is_held(caplog):
    first, second = submit("first"), submit("second")
    with held(first):
        assert scheduler.sweep_due() == 1
        assert has_begun(second)
        assert not has_begun(first)
    # It did not even wait: that would have ended with the lock's timeout, and its trace.
    assert caplog.records == []
    assert scheduler.sweep_due() == 1
    assert has_begun(first)


def test_what_one_sweep_did_another_does_not_do_again(monkeypatch):
    job = submit("shipper")
    looked, real = [], scheduler._sweep_one

    def behind_another(job_id, now):
        scheduler.reconcile_job(job_id)
        looked.append(real(job_id, now))
        return looked[-1]

    monkeypatch.setattr(scheduler, "_sweep_one", behind_another)
    assert scheduler.sweep_due() == 0
    assert looked == [False]
    assert has_begun(job)


def test_a_node_that_changes_brings_up_no_one_shot_work_that_has_ended():
    ended = fleet.start(fleet.script_of("ended")).job
    (execution,) = fleet.executions(Rollout.objects.get(job=ended))
    fleet.take_up(execution)
    fleet.report(execution, fleet.in_state(execution, "completed"), fleet.ended(execution))
    assert Job.objects.get(pk=ended.pk).state == "completed"
    running = fleet.start(fleet.spec_of("runs-on")).job
    Job.objects.update(reconcile_due_at=None)
    Node.objects.update(changed_at=timezone.now())
    assert sweeps.absorb_nodes() == 1
    assert list(Job.objects.filter(nodes_changed=True)) == [running]
    assert list(Job.objects.filter(reconcile_due_at__isnull=False)) == [running]


@pytest.mark.parametrize("observed", ["running", "completed"])
def test_a_node_that_changes_brings_up_given_up_work_only_if_it_runs_there(observed):
    job = fleet.start(fleet.script_of("given-up")).job
    (execution,) = fleet.executions(Rollout.objects.get(job=job))
    fleet.tell(execution, fleet.heard(execution), fleet.in_state(execution, "running"))
    services.cancel_rollout(fleet.ADA, job.pk)
    if observed == "completed":
        ended = fleet.in_state(execution, "completed"), fleet.ended(execution)
        fleet.tell(execution, *ended)
        scheduler.sweep_due()
    assert Job.objects.get(pk=job.pk).state == "rollout_failed"
    Job.objects.update(reconcile_due_at=None)
    Node.objects.update(changed_at=timezone.now())
    assert sweeps.absorb_nodes() == 1
    assert Job.objects.filter(nodes_changed=True).exists() is (observed == "running")
    # A node that has nothing of it is none of its business.
    Job.objects.update(reconcile_due_at=None, nodes_changed=False)
    fleet.make_nodes(1, prefix="other")
    Node.objects.update(changed_at=None)
    Node.objects.exclude(pk=execution.node_id).update(changed_at=timezone.now())
    assert sweeps.absorb_nodes() == 1
    assert not Job.objects.filter(nodes_changed=True).exists()


def test_what_waits_keeps_its_place_whatever_else_happens_to_it():
    job = submit("waits")
    since = timezone.now() - timedelta(seconds=30)
    Job.objects.update(reconcile_due_at=since)
    Node.objects.update(changed_at=timezone.now())
    assert sweeps.absorb_nodes() == 1
    submit_job(fleet.ADA, Submission(spec=fleet.spec_of("waits", mark="v2")))
    rerun_job(fleet.ADA, job.pk)
    job.refresh_from_db()
    assert (job.reconcile_due_at, job.nodes_changed) == (since, True)


def test_a_sweep_takes_what_only_looks_at_nodes_last():
    looks = fleet.start(fleet.script_of("looks")).job
    Rollout.objects.filter(job=looks).update(state="cancelled", completed_at=timezone.now())
    rolls = fleet.start(fleet.spec_of("rolls")).job
    new = submit("new")
    past = timezone.now() - timedelta(seconds=9)
    Job.objects.exclude(pk=new.pk).update(nodes_changed=True, reconcile_due_at=past)
    jobs = scheduler._in_turn(Job.objects.all())
    assert list(jobs) == [rolls, new, looks]


def test_a_sweep_takes_what_became_due_before_the_rest_of_its_list(monkeypatch):
    jobs = [submit(f"old-{number}") for number in range(4)]
    late = submit("late")
    Job.objects.filter(pk=late.pk).update(reconcile_due_at=None)
    taken, real = [], scheduler._sweep_one

    def taking(job_id, now):
        if not taken:
            long_ago = timezone.now() - timedelta(seconds=60)
            Job.objects.filter(pk=late.pk).update(reconcile_due_at=long_ago)
        taken.append(job_id)
        return real(job_id, now)

    monkeypatch.setattr(scheduler, "FEW", 2)
    monkeypatch.setattr(scheduler, "_sweep_one", taking)
    assert scheduler.sweep_due() == 5
    assert taken == [jobs[0].pk, jobs[1].pk, late.pk, jobs[2].pk, jobs[3].pk]


def test_a_sweep_takes_no_more_than_it_is_asked_to_and_none_twice(monkeypatch):
    for number in range(5):
        submit(f"job-{number}")
    monkeypatch.setattr(scheduler, "FEW", 2)
    assert scheduler.sweep_due(limit=3) == 3
    # One that stays due, since it fails, keeps no sweep from ending.
    monkeypatch.setattr(scheduler, "_sweep_one", lambda *_: False)
    assert scheduler.sweep_due() == 0


def test_ended_work_that_is_about_to_begin_anew_looks_at_nodes_that_change_meanwhile():
    job = fleet.start(fleet.script_of()).job
    Job.objects.update(state="completed", reconcile_due_at=timezone.now())
    Node.objects.update(changed_at=timezone.now())
    assert sweeps.absorb_nodes() == 1
    assert list(Job.objects.filter(nodes_changed=True)) == [job]


def test_nodes_that_changed_keep_their_marks_until_every_job_could_be_told():
    held_one, free_one = (fleet.start(fleet.spec_of(name)).job for name in ("held", "free"))
    Node.objects.update(changed_at=timezone.now())
    with held(held_one):
        assert sweeps.absorb_nodes() == 0
        assert list(Job.objects.filter(nodes_changed=True)) == [free_one]
    assert Node.objects.filter(changed_at__isnull=False).count() == 1
    assert sweeps.absorb_nodes() == 1
    assert Job.objects.filter(nodes_changed=True).count() == 2
    assert not Node.objects.filter(changed_at__isnull=False).exists()


@pytest.fixture
def rings(monkeypatch):
    """The jobs that reports rang for."""
    found = []
    monkeypatch.setattr("rollouts.subjects.ring", lambda _, job_id: found.append(job_id))
    return found


def placed(spec):
    """The first execution of a job whose rollout has just begun."""
    execution = fleet.executions(fleet.start(spec))[0]
    assert not due_in(execution)
    return execution


def due_in(execution):
    """In how many seconds the scheduler looks at an execution's job; None if it need not."""
    due_at = Job.objects.get(pk=execution.job_id).reconcile_due_at
    return (due_at - timezone.now()).total_seconds() if due_at else None


@pytest.mark.parametrize("spec", [fleet.script_of(), fleet.spec_of(strategy="rolling")])
def test_work_that_begins_can_wait_for_the_scheduler(rings, spec):
    execution = placed(spec)
    fleet.tell(execution, fleet.heard(execution), fleet.in_state(execution, "starting"))
    fleet.tell(execution, fleet.in_state(execution, "running"))
    assert rings == []
    assert 0 < due_in(execution) <= 2
    assert scheduler.sweep_due() == 0


def test_work_that_ends_is_looked_at_once_for_its_beginning_too(rings):
    execution = placed(fleet.script_of())
    fleet.tell(execution, fleet.heard(execution), fleet.in_state(execution, "running"))
    fleet.tell(execution, fleet.in_state(execution, "completed"), fleet.ended(execution))
    assert rings == [str(execution.job_id)]
    assert scheduler.answer_bell(execution.job_id)
    assert due_in(execution) is None
    assert Rollout.objects.get(job=execution.job_id).state == "completed"


def test_what_becomes_stable_or_was_stable_cannot_wait(rings):
    execution = placed(fleet.spec_of(strategy="canary"))
    fleet.tell(execution, fleet.heard(execution), fleet.in_state(execution, "running"))
    fleet.tell(execution, *fleet.windows(execution, 0.0, 0.01))
    assert len(rings) == 1
    fleet.tell(execution, fleet.in_state(execution, "starting", restarts=1))
    fleet.tell(execution, fleet.in_state(execution, "running", restarts=1))
    assert len(rings) == 3


def test_what_fails_while_it_begins_cannot_wait(rings):
    execution = placed(fleet.spec_of(strategy="rolling"))
    fleet.tell(execution, fleet.heard(execution), fleet.in_state(execution, "starting"))
    fleet.tell(execution, fleet.in_state(execution, "failed"))
    assert rings == [str(execution.job_id)]
    assert due_in(execution) <= 0
