"""Begins and ends rollouts, and keeps their rows; the one place that assigns a rollout's state."""

from datetime import datetime

from django.db.models import F

from jobs.events import EventDraft, write_events
from jobs.models import Job, JobVersion
from jobs.services import record_state
from jobs.states import JobState
from live.push import announce
from rollouts.models import Evaluation, Rollout
from rollouts.placement import stop_unwanted
from rollouts.planner import Action, canary_size, wave_size, wave_sizes
from rollouts.states import ROLLOUT_TRANSITIONS, RolloutState, RolloutType
from rollouts.targets import freeze_targets, match_of
from rollouts.terms import Terms

ACTIVE = (RolloutState.ACTIVE, RolloutState.PAUSED)


def active_rollout(job: Job) -> Rollout | None:
    """Return the job's rollout that has not ended; a constraint says there is one at most."""
    return (
        Rollout.objects.select_for_update(no_key=True, of=("self",))
        .select_related("version")
        .filter(job=job, state__in=ACTIVE)
        .first()
    )


def start_rollout(
    job: Job, version: JobVersion, terms: Terms, now: datetime, *, previous: Rollout | None
) -> Rollout | None:
    """Freeze the nodes of a version and begin; None when no node can be counted on (X88).

    What runs on nodes that no longer match is stopped at once (X25); `previous`, the active rollout
    of an older version, ends as superseded. The job is deploying before anything else is told of it.
    """
    if previous is not None:
        end_rollout(job, previous, RolloutState.SUPERSEDED, "a newer version took its place", now)
    if version.number > 1:
        match, params = match_of(job, terms)
        stop_unwanted(job, terms, match, params, now)
    rollback = version.cause == RolloutType.ROLLBACK
    left = version.rolled_back_from if rollback else job.stable_version
    rollout = Rollout.objects.create(
        job=job,
        version=version,
        namespace=job.namespace_id,
        rollout_type=version.cause,
        strategy=terms.policy.strategy,
        rollback_to_version=left or 0,
        started_by=version.created_by,
        reason=version.reason,
        started_at=now,
    )
    total, current = freeze_targets(job, rollout, terms)
    if total == 0:
        rollout.delete()
        return None
    rollout.total_nodes = total
    rollout.updated_nodes = current
    rollout.canary_size = canary_size(total, terms.policy)
    rollout.wave_size = wave_size(total, terms.policy.max_parallel)
    rollout.total_waves = len(wave_sizes(total, total - current, terms.policy))
    change_rollout(
        rollout,
        "total_nodes",
        "updated_nodes",
        "canary_size",
        "wave_size",
        "total_waves",
    )
    say(
        job,
        rollout,
        "rollout.started",
        _beginning(rollout),
        now,
        total_nodes=total,
        updated_nodes=current,
        total_waves=rollout.total_waves,
        wave_size=rollout.wave_size,
        canary_size=rollout.canary_size,
        strategy=rollout.strategy,
        type=rollout.rollout_type,
    )
    if not terms.is_all_out:
        message = f"Deploying version {version.number}: {counted(total, 'node')}"
        record_state(job, JobState.DEPLOYING, message, now=now)
    return rollout


def _beginning(rollout: Rollout) -> str:
    """Say in an event what begins: the version, the cause, how many nodes and waves."""
    what = f"version {rollout.version.number} ({rollout.rollout_type})"
    if rollout.updated_nodes == rollout.total_nodes:
        return f"rollout of {what} begins: all of its {rollout.total_nodes} nodes run it already"
    nodes, waves = counted(rollout.total_nodes, "node"), counted(rollout.total_waves, "wave")
    return f"rollout of {what} begins: {nodes} in {waves}"


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, as events say it."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def end_rollout(
    job: Job,
    rollout: Rollout,
    state: RolloutState,
    message: str,
    now: datetime,
    **facts: object,
) -> None:
    """End a rollout in one of its final states, with its event."""
    set_state(rollout, state)
    rollout.completed_at = now
    rollout.pause_reason = ""
    rollout.promote_requested = False
    rollout.waiting_on = {}
    change_rollout(
        rollout, "state", "completed_at", "pause_reason", "promote_requested", "waiting_on"
    )
    say(job, rollout, f"rollout.{state}", message, now, **facts)


def set_state(rollout: Rollout, state: RolloutState) -> None:
    """Assign a state that the table of `rollouts.states` allows. Raises ValueError otherwise."""
    old = RolloutState(rollout.state)
    if state not in ROLLOUT_TRANSITIONS[old]:
        raise ValueError(f"rollout {rollout.pk} may not go from {old} to {state}")
    rollout.state = state


def change_rollout(rollout: Rollout, *fields: str) -> None:
    """Write some fields of a locked rollout and raise its revision; pages are told on commit."""
    values = {name: getattr(rollout, name) for name in fields}
    Rollout.objects.filter(pk=rollout.pk).update(**values, revision=F("revision") + 1)
    rollout.revision += 1
    announce("rollout", rollout.pk, rollout.revision)


def say(
    job: Job, rollout: Rollout | None, kind: str, message: str, now: datetime, **details: object
) -> None:
    """Write one event about a rollout (law 4)."""
    write_events(
        [
            EventDraft(
                job_id=job.pk,
                namespace=job.namespace_id,
                job_version=rollout.version.number if rollout else job.version,
                rollout_id=rollout.pk if rollout else None,
                kind=kind,
                message=message,
                details=details,
                at=now,
            )
        ]
    )


def record_decision(
    job: Job,
    rollout: Rollout | None,
    action: Action,
    *,
    trigger: str,
    now: datetime,
    wave: int = 0,
    kind: str = "",
    generation: int = 0,
) -> Evaluation:
    """Write why something was done: the rule, the numbers it saw, what set it off (law 3)."""
    return Evaluation.objects.create(
        job=job,
        rollout=rollout,
        namespace=job.namespace_id,
        priority=job.priority,
        job_type=job.job_type,
        triggered_by=trigger,
        message=action.reason[:1024],
        wave=wave,
        kind=kind,
        generation=generation,
        rule=action.rule,
        facts=action.facts,
        created_at=now,
        updated_at=now,
    )
