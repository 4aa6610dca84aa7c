"""Brings jobs forward: looks at one job under its lock, asks the planner, carries it out.

There is one way forward, `reconcile`. Reports, people, sweeps and bells all lead to it, and it is
right however often and for whatever cause it runs. Bells and sweeps take only what is due (ADR 0015).
"""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.db import OperationalError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from jobs.models import Job, JobVersion
from jobs.services import lock_job
from jobs.states import JobState
from live.push import announce, call_gateways
from rollouts import placement, targets
from rollouts.actions import Scene, carry_out
from rollouts.derive import derive_job
from rollouts.lifecycle import (
    active_rollout,
    change_rollout,
    counted,
    end_rollout,
    say,
    start_rollout,
)
from rollouts.models import Rollout
from rollouts.planner import canary_size, plan, wave_size
from rollouts.sets import change
from rollouts.snapshot import build_snapshot
from rollouts.states import RolloutState, Strategy, TargetState
from rollouts.terms import Terms, terms_of

logger = logging.getLogger(__name__)

# Steps of one rollout in one transaction; each makes progress, so this is never reached in truth.
MAX_STEPS = 50
# How long a bell waits for who holds the job. Clocks of two machines may differ by the slack.
BELL_PATIENCE_MS = 200
BELL_SLACK = timedelta(seconds=2)
# After so many jobs a sweep asks anew what is due.
FEW = 10


def reconcile_job(
    job_id: UUID | str, *, trigger: str = "exec-update", now: datetime | None = None
) -> None:
    """Look at one job, due or not, and do what is to be done: for tests and benchmarks.

    A job that is gone is nothing to do.
    """
    with transaction.atomic():
        try:
            job = lock_job(job_id)
        except Job.DoesNotExist:
            return
        reconcile(job, trigger, now or timezone.now())


def answer_bell(job_id: UUID | str) -> bool:
    """Look at one job that a bell was rung for, if it is still due; say whether it was.

    Whoever rang made the job due first. Under load bells of one job wait behind each other, and
    the first answer does the work of all. A job that somebody holds is waited for shortly, since
    a batch of reports that moves nothing rings for nobody; then the sweep has it.
    """
    with transaction.atomic():
        change(f"SET LOCAL lock_timeout = {BELL_PATIENCE_MS}", [])
        try:
            job = _due(timezone.now() + BELL_SLACK).select_for_update(no_key=True).get(pk=job_id)
        except Job.DoesNotExist:
            return False
        except OperationalError:
            transaction.set_rollback(True)
            return False
        change("SET LOCAL lock_timeout TO DEFAULT", [])
        reconcile(job, "exec-update", timezone.now())
    return True


def sweep_due(limit: int = 200) -> int:
    """Reconcile jobs that are due; return how many. Needs no message (law 1).

    What another process looks at meanwhile is left to it: several sweeps share the work, and a
    job that a process holds for long keeps no other job waiting. What became due meanwhile is
    asked for after every few, so that a wave never waits for a long list to end.
    """
    seen: set[UUID] = set()
    done = 0
    while len(seen) < limit:
        now = timezone.now()
        rest = _in_turn(_due(now).exclude(pk__in=seen))
        ids = list(rest.values_list("pk", flat=True)[: min(FEW, limit - len(seen))])
        if not ids:
            break
        seen.update(ids)
        done += sum(_sweep_one(job_id, now) for job_id in ids)
    return done


def _in_turn(jobs: QuerySet[Job]) -> QuerySet[Job]:
    """Order jobs: the longest due first, and last of all those that only look at their nodes.

    A node that comes or goes makes many jobs look at once, and hardly any has to do something.
    """
    under_way = Rollout.objects.filter(job=OuterRef("pk"), completed_at__isnull=True)
    only_looks = Q(nodes_changed=True) & ~Exists(under_way)
    return jobs.annotate(only_looks=only_looks).order_by("only_looks", "reconcile_due_at")


def _sweep_one(job_id: UUID, now: datetime) -> bool:
    try:
        with transaction.atomic():
            free = _due(now).select_for_update(no_key=True, skip_locked=True)
            job = free.filter(pk=job_id).first()
            if job is not None:
                reconcile(job, "periodic", timezone.now())
    except Exception:
        logger.exception("job %s could not be reconciled", job_id)
        return False
    return job is not None


def _due(now: datetime) -> QuerySet[Job]:
    return Job.objects.filter(reconcile_due_at__lte=now)


def reconcile(job: Job, trigger: str, now: datetime) -> None:
    """Do all that is to be done for a job whose lock is held, and note when to look again."""
    rollout = retry_at = None
    if job.state in (JobState.STOPPED, JobState.DELETED):
        _wind_down(job, now)
    else:
        rollout, is_new = _rollout_of_newest(job, now)
        if rollout is not None:
            retry_at = _bring_forward(job, rollout, trigger, now, is_new=is_new)
            if job.version != rollout.version.number:  # it was rolled back
                job.nodes_changed = False
                reconcile(job, "rollout-rollback", now)
                return
    clocks = (derive_job(job, rollout, now), retry_at)
    due_at = min((clock for clock in clocks if clock), default=None)
    Job.objects.filter(pk=job.pk).update(reconcile_due_at=due_at, nodes_changed=False)
    job.nodes_changed = False
    call_gateways()
    for scope in (job.namespace_id, "_all"):
        announce("dashboard", scope, job.revision)


def _rollout_of_newest(job: Job, now: datetime) -> tuple[Rollout | None, bool]:
    """Return the rollout of the newest version, and whether it was started just now.

    It is started if the version has none and a node can run it; None without such a node.
    """
    active = active_rollout(job)
    if active is not None and active.version.number == job.version:
        return active, False
    newest = JobVersion.objects.get(job=job, number=job.version)
    ended = Rollout.objects.select_related("version").filter(version=newest).first()
    if ended is not None:
        return ended, False
    terms = terms_of(newest, _strategy_of(newest))
    return start_rollout(job, newest, terms, now, previous=active), True


def _strategy_of(version: JobVersion) -> str | None:
    """Return the strategy that overrides the spec's: an automatic rollback is immediate."""
    automatic = version.cause == "rollback" and version.created_by == "scheduler"
    return Strategy.IMMEDIATE if automatic else None


def _bring_forward(
    job: Job, rollout: Rollout, trigger: str, now: datetime, *, is_new: bool
) -> datetime | None:
    """Do what is due; return when work that was refused may be tried again."""
    terms = terms_of(rollout.version, rollout.strategy)
    is_active = rollout.completed_at is None
    if job.nodes_changed:
        _follow_nodes(job, rollout, terms, now)
    is_first = is_new and rollout.version.number == 1
    if not is_first:
        placement.arm_start_clocks(job, terms, now=now)
    if is_active:
        scene = Scene(
            job=job, rollout=rollout, terms=terms, trigger=trigger, now=now, is_first=is_first
        )
        if not is_new:
            _settle(scene)
        _advance(scene)
        if job.version != rollout.version.number:
            return None
    elif _brings_back(rollout, terms):
        placement.resurrect(job, rollout, terms, now=now)
    return _catch_up(job, rollout, terms, now)


def _brings_back(rollout: Rollout, terms: Terms) -> bool:
    """Say whether failed nodes of an ended rollout return to what was stable (docs/semantics.md X68)."""
    ended_by_itself = rollout.state in (RolloutState.COMPLETED, RolloutState.HALTED)
    return (
        ended_by_itself
        and rollout.failed_nodes > 0
        and terms.policy.auto_rollback
        and not terms.one_shot
    )


def _advance(scene: Scene) -> None:
    """Plan and carry out until the planner only waits or the rollout has ended."""
    rollout = scene.rollout
    for _ in range(MAX_STEPS):
        again = False
        for action in plan(build_snapshot(rollout, scene.terms, scene.now), scene.now):
            again = carry_out(action, scene) or again
        if rollout.completed_at is not None or not again:
            return
    logger.error("rollout %s did not come to rest in %s steps", rollout.pk, MAX_STEPS)


def _settle(scene: Scene) -> None:
    """Count the nodes whose work has settled: once, as what a plan creates has not begun."""
    ends = targets.settle(scene.rollout, one_shot=scene.terms.one_shot)
    if not ends:
        return
    rollout = scene.rollout
    rollout.updated_nodes += ends.get(TargetState.UPDATED, 0)
    if failed := ends.get(TargetState.FAILED, 0):
        rollout.failed_nodes += failed
        rollout.total_at_failure = rollout.total_nodes
    change_rollout(rollout, "updated_nodes", "failed_nodes", "total_at_failure")
    say(
        scene.job,
        rollout,
        "wave.settled",
        (f"wave {rollout.current_wave}: " if rollout.current_wave else "")
        + ", ".join(f"{counted(count, 'node')} {state}" for state, count in sorted(ends.items())),
        scene.now,
        wave=rollout.current_wave,
        **ends,
    )


def _follow_nodes(job: Job, rollout: Rollout, terms: Terms, now: datetime) -> None:
    """Take nodes in and out after nodes changed (docs/semantics.md 1.10, C03, C08)."""
    match, params = targets.match_of(job, terms)
    placement.stop_unwanted(job, terms, match, params, now)
    placement.evict_drained(job, terms, now=now)
    placement.lose_executions(job, now=now)
    if rollout.completed_at is not None:
        return
    gone = targets.leave(job, rollout, terms)
    back = targets.bring_back(rollout)
    joined = [] if terms.one_shot else targets.join(job, rollout, terms)
    if back:
        say(
            job,
            rollout,
            "node.returned",
            f"{counted(len(back), 'node')} can take work again",
            now,
            nodes=back[:100],
            count=len(back),
        )
    if not gone and not joined:
        return
    left = [state for _, state in gone]
    rollout.total_nodes += len(joined) - len(gone)
    rollout.failed_nodes -= left.count(TargetState.FAILED)
    rollout.updated_nodes -= left.count(TargetState.UPDATED) + left.count(TargetState.CURRENT)
    rollout.wave_size = wave_size(rollout.total_nodes, terms.policy.max_parallel)
    rollout.canary_size = _canaries_of(rollout, terms)
    rollout.total_waves = targets.total_waves(rollout, terms)
    change_rollout(
        rollout,
        "total_nodes",
        "failed_nodes",
        "updated_nodes",
        "wave_size",
        "canary_size",
        "total_waves",
    )
    if gone:
        names = [name for name, _ in gone]
        say(
            job,
            rollout,
            "node.left",
            f"{counted(len(gone), 'node')} left",
            now,
            nodes=names[:100],
            count=len(names),
            states=left[:100],
        )
    if joined:
        say(
            job,
            rollout,
            "node.joined",
            f"{counted(len(joined), 'node')} joined",
            now,
            nodes=joined[:100],
            count=len(joined),
        )


def _canaries_of(rollout: Rollout, terms: Terms) -> int:
    """Return the canaries that a rollout has once its nodes changed (docs/semantics.md X11, C09).

    Nodes that join may make the canary wave larger while it is filled; those that it has stay.
    """
    if rollout.canary_promoted:
        return rollout.canary_size
    size = canary_size(rollout.total_nodes, terms.policy)
    if rollout.current_wave == 0:
        return size
    return max(size, min(rollout.canary_size, rollout.total_nodes))


def _catch_up(job: Job, rollout: Rollout, terms: Terms, now: datetime) -> datetime | None:
    """Give nodes outside any wave what they should run: joiners, returners (C03, 1.10).

    So are those that refused their work for want of room (X96). Returns when the next of them
    may be asked again.
    """
    version = _version_outside_waves(job, rollout, terms)
    if version is None:
        return None
    own = terms if version == rollout.version else terms_of(version)
    nodes, retry_at = targets.refused_before(job, own, now)
    if not terms.one_shot:
        nodes += targets.to_catch_up(job, own, run_hash=version.run_hash, rollout=rollout)
    if nodes:
        placement.replace_executions(
            job,
            version,
            own,
            chosen="SELECT DISTINCT unnest(%s::uuid[])",
            params=[nodes],
            rollout=None,
            wave=0,
            evaluation_id=None,
            now=now,
        )
    return retry_at


def _version_outside_waves(job: Job, rollout: Rollout, terms: Terms) -> JobVersion | None:
    """Return what nodes get that no wave takes in: the rollout's version once it is over.

    Before, and when it ended badly, that is the stable one. One-shot work has none to return to.
    """
    if rollout.state == RolloutState.COMPLETED:
        return rollout.version
    if terms.one_shot:
        is_all_out = rollout.strategy == Strategy.IMMEDIATE
        return rollout.version if is_all_out and rollout.state == RolloutState.HALTED else None
    if rollout.state == RolloutState.PAUSED:
        return None
    return JobVersion.objects.filter(job=job, number=job.stable_version or 0).first()


def _wind_down(job: Job, now: datetime) -> None:
    """Stop everything of a stopped or deleted job; its rollout ends as cancelled (X77)."""
    if job.nodes_changed:
        placement.lose_executions(job, now=now)
    rollout = active_rollout(job)
    if rollout is not None:
        end_rollout(job, rollout, RolloutState.CANCELLED, f"the job was {job.state}", now)
    placement.stop_executions(
        job,
        condition="TRUE",
        params=[],
        message=f"the job was {job.state}",
        stop_deadline=None,
        now=now,
    )
