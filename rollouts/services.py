"""Brings jobs forward: looks at one job under its lock, asks the planner, carries it out.

There is one way forward, `_reconcile`. Reports, people, sweeps and bells all lead to it, and it is
right however often and for whatever cause it runs. Bells and sweeps take only what is due (ADR 0015).
"""

import logging
from datetime import datetime, timedelta
from uuid import UUID

from django.db import OperationalError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from access.problems import Refused
from access.services import Actor, record_audit
from jobs.models import Job, JobVersion
from jobs.services import add_version, lock_job, record_state
from jobs.spec import JobSpec
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
    set_state,
    start_rollout,
)
from rollouts.models import Rollout
from rollouts.planner import canary_size, plan, wave_size
from rollouts.sets import change
from rollouts.snapshot import build_snapshot
from rollouts.states import PauseReason, RolloutState, Strategy, TargetState
from rollouts.terms import Terms, terms_of

logger = logging.getLogger(__name__)

# Steps of one rollout in one transaction; each makes progress, so this is never reached in truth.
MAX_STEPS = 50
# How long a bell waits for who holds the job. Clocks of two machines may differ by the slack.
BELL_PATIENCE_MS = 200
BELL_SLACK = timedelta(seconds=2)


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
        _reconcile(job, trigger, now or timezone.now())


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
        _reconcile(job, "exec-update", timezone.now())
    return True


def sweep_due(limit: int = 200) -> int:
    """Reconcile jobs that are due, oldest first; return how many. Needs no message (law 1).

    What another process looks at meanwhile is left to it: several sweeps share the work, and a
    job that a process holds for long keeps no other job waiting.
    """
    now = timezone.now()
    ids = list(_due(now).order_by("reconcile_due_at").values_list("pk", flat=True)[:limit])
    return sum(_sweep_one(job_id, now) for job_id in ids)


def _sweep_one(job_id: UUID, now: datetime) -> bool:
    try:
        with transaction.atomic():
            free = _due(now).select_for_update(no_key=True, skip_locked=True)
            job = free.filter(pk=job_id).first()
            if job is not None:
                _reconcile(job, "periodic", timezone.now())
    except Exception:
        logger.exception("job %s could not be reconciled", job_id)
        return False
    return job is not None


def _due(now: datetime) -> QuerySet[Job]:
    return Job.objects.filter(reconcile_due_at__lte=now)


def _reconcile(job: Job, trigger: str, now: datetime) -> None:
    rollout = retry_at = None
    if job.state in (JobState.STOPPED, JobState.DELETED):
        _wind_down(job, now)
    else:
        rollout, is_new = _rollout_of_newest(job, now)
        if rollout is not None:
            retry_at = _bring_forward(job, rollout, trigger, now, is_new=is_new)
            if job.version != rollout.version.number:  # it was rolled back
                job.nodes_changed = False
                _reconcile(job, "rollout-rollback", now)
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


# --- What people ask for ------------------------------------------------------------------------


def pause_rollout(
    actor: Actor, job_id: UUID, reason: str = "", expected: UUID | None = None
) -> Rollout:
    """Hold a rollout: no further wave opens; what is out goes on (docs/semantics.md 1.7, X05)."""
    with transaction.atomic():
        job, rollout = _locked(job_id, expected)
        if rollout.state == RolloutState.PAUSED:
            raise Refused("rollout_paused", "The rollout is paused already.")
        now = timezone.now()
        set_state(rollout, RolloutState.PAUSED)
        rollout.pause_reason = PauseReason.MANUAL
        change_rollout(rollout, "state", "pause_reason")
        say(
            job,
            rollout,
            "rollout.paused",
            f"Paused by {actor.name}",
            now,
            reason=PauseReason.MANUAL,
            by=actor.name,
        )
        _audit(actor, "rollout.pause", rollout, reason)
        _reconcile(job, "manual", now)
    return rollout


def resume_rollout(
    actor: Actor, job_id: UUID, reason: str = "", expected: UUID | None = None
) -> Rollout:
    """Let a paused rollout go on; it never promotes a canary (docs/semantics.md X05)."""
    with transaction.atomic():
        job, rollout = _locked(job_id, expected)
        if rollout.state != RolloutState.PAUSED:
            raise Refused("rollout_not_paused", "The rollout is not paused.")
        if rollout.pause_reason == PauseReason.AWAITING_PROMOTION:
            raise Refused(
                "canary_awaiting_promotion",
                "The canary waits for its promotion.",
                hint="Promote it; resuming never does.",
            )
        now = timezone.now()
        set_state(rollout, RolloutState.ACTIVE)
        rollout.pause_reason = ""
        change_rollout(rollout, "state", "pause_reason")
        say(job, rollout, "rollout.resumed", f"Resumed by {actor.name}", now, by=actor.name)
        _audit(actor, "rollout.resume", rollout, reason)
        _reconcile(job, "rollout-resume", now)
    return rollout


def promote_rollout(
    actor: Actor, job_id: UUID, reason: str = "", expected: UUID | None = None
) -> Rollout:
    """Promote a canary whose nodes are all stable and well (docs/semantics.md 1.7, X05, X10)."""
    with transaction.atomic():
        job, rollout = _locked(job_id, expected)
        terms = terms_of(rollout.version, rollout.strategy)
        now = timezone.now()
        if rollout.strategy != Strategy.CANARY or rollout.canary_promoted:
            raise Refused("not_in_canary", "The rollout is not in its canary phase.")
        seen = build_snapshot(rollout, terms, now)
        wave = seen.wave
        if not wave.stable or wave.unsettled or wave.stable_but_unwell or wave.failed:
            raise Refused(
                "canary_not_stable",
                f"{wave.stable - wave.stable_but_unwell} of {rollout.canary_size} canaries are "
                "stable and well.",
                hint="Wait until all are, or cancel the rollout.",
            )
        rollout.promote_requested = True
        change_rollout(rollout, "promote_requested")
        _audit(actor, "rollout.promote", rollout, reason)
        _reconcile(job, "rollout-promote", now)
    return rollout


def cancel_rollout(
    actor: Actor, job_id: UUID, reason: str = "", expected: UUID | None = None
) -> Rollout:
    """End a rollout where it stands: nodes keep what they have (docs/semantics.md 1.7)."""
    with transaction.atomic():
        job, rollout = _locked(job_id, expected)
        now = timezone.now()
        end_rollout(job, rollout, RolloutState.CANCELLED, f"Cancelled by {actor.name}", now)
        record_state(
            job,
            JobState.ROLLOUT_FAILED,
            f"Rollout cancelled by {actor.name}",
            now=now,
            details={"reason": "cancelled"},
        )
        _audit(actor, "rollout.cancel", rollout, reason)
        _reconcile(job, "job-cancel", now)
    return rollout


def roll_back(
    actor: Actor, job_id: UUID, target_version: int | None = None, reason: str = ""
) -> JobVersion:
    """Make a new version from an earlier one and roll it out by the job's strategy (X21, X22).

    Default: the last version that completed and would run something else than now.
    Raises Refused `no_stable_version`, `version_not_found`, `no_changes`, `job_deleted`.
    """
    with transaction.atomic():
        job = lock_job(job_id)
        if job.state == JobState.DELETED:
            raise Refused("job_deleted", "The job is deleted.")
        target = _rollback_target(job, target_version)
        now = timezone.now()
        version = add_version(
            job,
            JobSpec.model_validate(target.spec),
            cause="rollback",
            source_text=target.source_text,
            reason=reason,
            created_by=actor.name,
            rolled_back_from=job.version,
            now=now,
        )
        if job.state == JobState.STOPPED:
            record_state(job, JobState.PENDING, "Rolled back", now=now)
        record_audit(
            actor,
            "rollout.rollback",
            "job",
            str(job.pk),
            job.namespace_id,
            reason=reason,
            details={"to_version": target.number, "version": version.number},
        )
        _reconcile(job, "rollout-rollback", now)
    return version


def _rollback_target(job: Job, number: int | None) -> JobVersion:
    newest = JobVersion.objects.get(job=job, number=job.version)
    if number is not None:
        target = JobVersion.objects.filter(job=job, number=number).first()
        if target is None:
            raise Refused("version_not_found", f"There is no version {number}.")
        if target.spec_hash == newest.spec_hash:
            raise Refused("no_changes", f"Version {number} equals the current version.")
        return target
    completed = Rollout.objects.filter(
        job=job, state=RolloutState.COMPLETED, total_nodes__gt=0
    ).exclude(version__run_hash=newest.run_hash)
    last = completed.select_related("version").order_by("-version__number").first()
    if last is None:
        raise Refused("no_stable_version", "No other version ever completed its rollout.")
    return last.version


def _locked(job_id: UUID, expected: UUID | None) -> tuple[Job, Rollout]:
    """Hold a job and its active rollout, which must be the one that the person saw, if named.

    Raises Refused `rollout_not_active`, `conflict`.
    """
    job = lock_job(job_id)
    rollout = active_rollout(job)
    if rollout is None:
        raise Refused("rollout_not_active", "No rollout of this job is active.")
    if expected is not None and rollout.pk != expected:
        raise Refused(
            "conflict",
            f"The rollout of version {rollout.version.number} has taken its place.",
            hint="Look at that one first.",
            details={"rollout": str(rollout.pk)},
        )
    return job, rollout


def _audit(actor: Actor, action: str, rollout: Rollout, reason: str) -> None:
    record_audit(actor, action, "rollout", str(rollout.pk), rollout.namespace, reason=reason)
