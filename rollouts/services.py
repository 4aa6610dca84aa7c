"""What people may ask of a rollout: hold it, let it go on, promote, cancel, or go back.

Each is done at once, under the job's lock, and the scheduler brings the job forward from there.
"""

from uuid import UUID

from django.db import transaction
from django.utils import timezone

from access.problems import Refused
from access.services import Actor, record_audit
from jobs.models import Job, JobVersion
from jobs.services import add_version, lock_job, record_state
from jobs.spec import JobSpec
from jobs.states import JobState
from rollouts.lifecycle import active_rollout, change_rollout, end_rollout, say, set_state
from rollouts.models import Rollout
from rollouts.scheduler import reconcile
from rollouts.snapshot import build_snapshot
from rollouts.states import PauseReason, RolloutState, Strategy
from rollouts.terms import terms_of


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
        reconcile(job, "manual", now)
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
        reconcile(job, "rollout-resume", now)
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
        reconcile(job, "rollout-promote", now)
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
        reconcile(job, "job-cancel", now)
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
        reconcile(job, "rollout-rollback", now)
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
