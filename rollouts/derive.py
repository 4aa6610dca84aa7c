"""Writes the state of a job as it follows from its rollout and executions, and its next clock."""

from collections import Counter
from datetime import datetime

from jobs.models import Job, JobVersion
from jobs.services import record_state
from jobs.states import (
    JobState,
    LiveCounts,
    OutcomeCounts,
    derive_outcome,
    derive_state,
    may_move,
)
from rollouts.lifecycle import counted, end_rollout
from rollouts.models import Rollout
from rollouts.placement import stop_executions
from rollouts.sets import fetch
from rollouts.states import PauseReason, RolloutState
from rollouts.terms import Terms, terms_of

WORDS = ("degraded", "completed", "failed", "lost")
_REFUSED = "e.observed_state = 'stopped' AND coalesce(e.details ->> 'reason', '') = 'refused'"


def derive_job(job: Job, rollout: Rollout | None, now: datetime) -> datetime | None:
    """Record the job's state; return when the job must be looked at again without a report.

    `rollout` is that of the newest version, None as long as it has none.
    """
    if job.state in (JobState.STOPPED, JobState.DELETED):
        return None
    if rollout is None:
        terms = terms_of(JobVersion.objects.get(job=job, number=job.version), None)
    else:
        terms = terms_of(rollout.version, rollout.strategy)
    if _time_out(job, rollout, terms, now):
        return None
    if rollout is None:
        _queue(job, terms, now)
    elif rollout.completed_at is None:
        _under_way(job, rollout, terms, now)
    elif _was_given_up(rollout, terms):
        _rollout_failed(job, rollout, now)
    elif terms.one_shot:
        _one_shot(job, now)
    else:
        _long_running(job, rollout, now)
    return _next_clock(job, terms)


def _was_given_up(rollout: Rollout, terms: Terms) -> bool:
    if rollout.state == RolloutState.HALTED:
        return not terms.is_all_out
    return rollout.state == RolloutState.CANCELLED


def _queue(job: Job, terms: Terms, now: datetime) -> None:
    lacking = ", ".join(
        f"{kind[:-1]} {name}"
        for kind, names in sorted(terms.capabilities.items())
        for name in sorted(names)
    )
    message = "No nodes match the selector"
    if lacking:
        message += f", or those that do lack one of: {lacking}"
    _move(job, JobState.QUEUED, message, now, blocked="no_eligible_node")


def _under_way(job: Job, rollout: Rollout, terms: Terms, now: datetime) -> None:
    if rollout.state == RolloutState.PAUSED:
        reason = rollout.pause_reason
        message = (
            "The canary waits for promotion"
            if reason == PauseReason.AWAITING_PROMOTION
            else "The rollout is paused"
        )
        _move(job, JobState.ROLLOUT_PAUSED, message, now, reason=reason)
        return
    where = (
        f"wave {rollout.current_wave} of {rollout.total_waves}, " if rollout.current_wave else ""
    )
    message = (
        f"Deploying version {rollout.version.number}: {where}{counted(rollout.total_nodes, 'node')}"
    )
    if terms.is_all_out:
        if job.state not in (JobState.RUNNING, JobState.PENDING, JobState.QUEUED):
            _move(job, JobState.DEPLOYING, "Placed", now)
        _move(job, JobState.RUNNING, f"Running on {counted(rollout.total_nodes, 'node')}", now)
        return
    _move(job, JobState.DEPLOYING, message, now)


def _rollout_failed(job: Job, rollout: Rollout, now: datetime) -> None:
    if job.state == JobState.ROLLOUT_FAILED:
        return
    message = f"Rollout of version {rollout.version.number} {rollout.state}"
    _move(
        job,
        JobState.ROLLOUT_FAILED,
        message,
        now,
        reason=rollout.halted_by or str(rollout.state),
    )


def _one_shot(job: Job, now: datetime) -> None:
    counts = OutcomeCounts(**_outcomes(job))
    found = derive_outcome(counts)
    if found is None:
        if not may_move(JobState(job.state), JobState.RUNNING):
            # Its rollout was held or given up, and what a node refused is still to be done.
            _move(job, JobState.DEPLOYING, "Placed", now)
        _move(
            job, JobState.RUNNING, f"{counted(counts.unfinished, 'execution')} not ended yet", now
        )
        return
    state, outcome = found
    if job.state not in (state, JobState.DEPLOYING, JobState.RUNNING):
        _move(job, JobState.DEPLOYING, "Placed", now)
    ended = counts.completed + counts.skipped + counts.failed + counts.timeout + counts.cancelled
    message = f"{counts.completed} of {counted(ended, 'execution')} completed"
    _move(job, state, message, now, outcome=outcome)


def _outcomes(job: Job) -> dict[str, int]:
    """Count how the executions of the newest version ended (docs/semantics.md 4.6).

    What a node refused has not ended while it is still wanted, and its next try speaks for it.
    """
    (row,) = fetch(
        f"""
        SELECT count(*) FILTER (WHERE e.observed_state NOT IN
                ('completed', 'failed', 'stopped', 'lost')
                OR e.desired_state = 'running' AND {_REFUSED}),
            count(*) FILTER (WHERE e.observed_state = 'completed'
                AND coalesce(r.status, '') <> 'skipped'),
            count(*) FILTER (WHERE r.status = 'skipped'),
            count(*) FILTER (WHERE e.observed_state IN ('failed', 'lost')
                AND coalesce(r.status, '') <> 'timeout'),
            count(*) FILTER (WHERE e.observed_state = 'failed' AND r.status = 'timeout'),
            count(*) FILTER (WHERE e.observed_state = 'stopped' AND NOT (
                {_REFUSED} AND (e.desired_state = 'running' OR e.next_id IS NOT NULL)))
        FROM rollouts_execution e LEFT JOIN rollouts_result r ON r.execution_id = e.id
        WHERE e.job_id = %s AND e.job_version = %s
        """,  # noqa: S608 - the fragment is ours
        [job.id, job.version],
    )
    names = ("unfinished", "completed", "skipped", "failed", "timeout", "cancelled")
    return dict(zip(names, (int(n) for n in row), strict=True))


def _long_running(job: Job, rollout: Rollout, now: datetime) -> None:
    counts = _live_counts(job)
    state = derive_state(counts)
    if job.state not in (JobState.RUNNING, JobState.DEGRADED, JobState.COMPLETED, state):
        # A rollout that has just completed passes through running (docs/semantics.md X46).
        if job.state not in (JobState.DEPLOYING, JobState.FAILED):
            _move(job, JobState.DEPLOYING, "Nodes match again", now)
        if state is not JobState.QUEUED:
            message = (
                f"Version {rollout.version.number} is on {counted(rollout.updated_nodes, 'node')}"
            )
            _move(job, JobState.RUNNING, message, now)
    if job.state == JobState.COMPLETED and state is JobState.DEGRADED:
        _move(job, JobState.RUNNING, "Running again", now)
    _move(job, state, _sentence(state, counts), now)


def _sentence(state: JobState, counts: LiveCounts) -> str:
    if state is JobState.QUEUED:
        return "No nodes match the selector"
    if state is JobState.COMPLETED:
        return f"Completed on {counted(counts.completed, 'node')}"
    parts = [f"Running on {counted(counts.running + counts.pending, 'node')}"]
    found = [(getattr(counts, word), word) for word in WORDS]
    parts += [f"{count} {word}" for count, word in found if count]
    return ", ".join(parts)


def _live_counts(job: Job) -> LiveCounts:
    """Return wanted executions by observed state, and nodes left with nothing but a failure.

    The first are counted as they change, the second are few (ADR 0017).
    """
    rows = fetch(
        """
        SELECT observed_state, count FROM rollouts_jobtally
        WHERE job_id = %s AND desired_state = 'running'
        UNION ALL
        SELECT 'failed', count(*) FROM rollouts_execution e
        WHERE e.job_id = %s AND e.job_version = %s AND e.desired_state = 'stopped'
            AND e.observed_state = 'failed' AND e.next_id IS NULL
            AND NOT EXISTS (SELECT 1 FROM rollouts_execution x WHERE x.job_id = e.job_id
                AND x.node_id = e.node_id AND x.desired_state = 'running')
        """,
        [job.id, job.id, job.version],
    )
    found: Counter[str] = Counter()
    for state, count in rows:
        found[state] += int(count)
    known = {name: found[name] for name in WORDS}
    running = found["running"]
    pending = found.total() - running - sum(known.values())
    return LiveCounts(running=running, pending=pending, **known)


def _time_out(job: Job, rollout: Rollout | None, terms: Terms, now: datetime) -> bool:
    """Fail a job whose queue or total timeout has passed (docs/semantics.md 1.3, 1.9)."""
    if job.pending_since is None:
        return False
    code = ""
    if terms.queue_timeout and now >= job.pending_since + terms.queue_timeout:
        waits = rollout is None or not _has_begun(job)
        code = "queue_timeout" if waits else ""
    if terms.total_timeout and now >= job.pending_since + terms.total_timeout:
        ended = job.state in (JobState.COMPLETED, JobState.FAILED, JobState.ROLLOUT_FAILED)
        code = code or ("" if ended else "total_timeout")
    if not code:
        return False
    if rollout is not None and rollout.completed_at is None:
        end_rollout(job, rollout, RolloutState.CANCELLED, f"{code} passed", now)
    stop_executions(
        job, condition="TRUE", params=[], message=f"{code} passed", stop_deadline=None, now=now
    )
    if job.state == JobState.ROLLOUT_PAUSED:
        _move(job, JobState.DEPLOYING, "Timed out", now)
    _move(job, JobState.FAILED, f"The {code.replace('_', ' ')} passed", now, code=code)
    return True


def _has_begun(job: Job) -> bool:
    rows = fetch(
        "SELECT 1 FROM rollouts_execution WHERE job_id = %s AND job_version = %s "
        "AND observed_state <> 'pending' LIMIT 1",
        [job.id, job.version],
    )
    return bool(rows)


def _next_clock(job: Job, terms: Terms) -> datetime | None:
    """Return when a timeout of the job itself may pass; executions have clocks of their own."""
    if job.pending_since is None or job.state in (JobState.COMPLETED, JobState.FAILED):
        return None
    clocks = []
    if terms.queue_timeout and not _has_begun(job):
        clocks.append(job.pending_since + terms.queue_timeout)
    if terms.total_timeout:
        clocks.append(job.pending_since + terms.total_timeout)
    return min(clocks, default=None)


def _move(job: Job, state: JobState, message: str, now: datetime, **details: object) -> None:
    record_state(job, state, message, now=now, details=details)
