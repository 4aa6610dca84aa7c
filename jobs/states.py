"""The states of a job, their legal transitions, and how the state is derived from counts."""

from dataclasses import dataclass
from enum import StrEnum


class JobState(StrEnum):
    """Where a job stands (docs/semantics.md 1.3)."""

    UNDEFINED = ""
    PENDING = "pending"
    QUEUED = "queued"
    DEPLOYING = "deploying"
    RUNNING = "running"
    ROLLOUT_PAUSED = "rollout_paused"
    ROLLOUT_FAILED = "rollout_failed"
    DEGRADED = "degraded"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    DELETED = "deleted"


MEANINGS: dict[JobState, str] = {
    JobState.UNDEFINED: "Not known yet.",
    JobState.PENDING: "Accepted; the scheduler has not looked at it yet.",
    JobState.QUEUED: "No eligible node: it waits for one.",
    JobState.DEPLOYING: "A rollout is bringing the current version onto its nodes.",
    JobState.RUNNING: "It runs everywhere it should.",
    JobState.ROLLOUT_PAUSED: "Its rollout is held, by a person or until its canary is promoted.",
    JobState.ROLLOUT_FAILED: "Its rollout was halted or cancelled.",
    JobState.DEGRADED: "It runs, but not everywhere or not well.",
    JobState.COMPLETED: "All of its work ended well.",
    JobState.FAILED: "Its work failed and will not be tried again by itself.",
    JobState.STOPPED: "A person stopped it.",
    JobState.DELETED: "It was deleted; its history stays.",
}

# Any state that is not deleted may be submitted anew, stopped or deleted (docs/semantics.md 1.3, X03);
# the rows below add what the scheduler itself may do.
_ANY = frozenset(
    {
        JobState.PENDING,
        JobState.QUEUED,
        JobState.DEPLOYING,
        JobState.STOPPED,
        JobState.DELETED,
        JobState.FAILED,
    }
)
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    JobState.UNDEFINED: frozenset({JobState.PENDING}),
    JobState.PENDING: _ANY | {JobState.RUNNING},
    JobState.QUEUED: _ANY | {JobState.RUNNING},
    JobState.DEPLOYING: _ANY
    | {
        JobState.RUNNING,
        JobState.COMPLETED,
        JobState.ROLLOUT_PAUSED,
        JobState.ROLLOUT_FAILED,
    },
    # One-shot work that was sent out at once is running while its rollout is held or given up.
    JobState.RUNNING: _ANY
    | {
        JobState.DEGRADED,
        JobState.COMPLETED,
        JobState.ROLLOUT_PAUSED,
        JobState.ROLLOUT_FAILED,
    },
    JobState.ROLLOUT_PAUSED: _ANY | {JobState.ROLLOUT_FAILED},
    JobState.ROLLOUT_FAILED: _ANY,
    JobState.DEGRADED: _ANY | {JobState.RUNNING, JobState.COMPLETED},
    # Its nodes may leave or be lost while it stands here, so every derived state can follow.
    JobState.COMPLETED: _ANY | {JobState.RUNNING, JobState.DEGRADED},
    JobState.FAILED: _ANY | {JobState.RUNNING, JobState.DEGRADED, JobState.COMPLETED},
    JobState.STOPPED: _ANY,
    JobState.DELETED: frozenset(),
}


def may_move(old: JobState, new: JobState) -> bool:
    """Say whether the table allows the step; staying is always allowed."""
    return old == new or new in TRANSITIONS[old]


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveCounts:
    """How a job's executions that should run are doing, counted by observed state."""

    pending: int = 0
    running: int = 0
    degraded: int = 0
    completed: int = 0
    failed: int = 0
    lost: int = 0

    @property
    def total(self) -> int:
        """All executions that are wanted."""
        return (
            self.pending + self.running + self.degraded + self.completed + self.failed + self.lost
        )


def derive_state(counts: LiveCounts) -> JobState:
    """Return the state of a long-running job without an active rollout (docs/semantics.md 1.3, 5).

    No wanted execution: queued (X63). All completed: completed (X64). All failed: failed; loss
    alone never is (C04). Any that is degraded, failed or lost: degraded. Else running.

    >>> derive_state(LiveCounts(running=3, lost=1))
    <JobState.DEGRADED: 'degraded'>
    """
    if counts.total == 0:
        return JobState.QUEUED
    if counts.completed == counts.total:
        return JobState.COMPLETED
    if counts.failed == counts.total:
        return JobState.FAILED
    if counts.failed or counts.lost or counts.degraded:
        return JobState.DEGRADED
    return JobState.RUNNING


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeCounts:
    """How a one-shot job's executions ended."""

    unfinished: int = 0
    completed: int = 0
    skipped: int = 0
    failed: int = 0
    timeout: int = 0
    cancelled: int = 0


def derive_outcome(counts: OutcomeCounts) -> tuple[JobState, str] | None:
    """Return state and outcome of a finished one-shot job, None while any is unfinished.

    The six rows of docs/semantics.md 2.1 with the words of 4.6 and the additions of X53.

    >>> derive_outcome(OutcomeCounts(completed=2, failed=1))
    (<JobState.FAILED: 'failed'>, 'partial_failure')
    """
    if counts.unfinished:
        return None
    failures = counts.failed + counts.timeout
    if failures and counts.completed:
        return JobState.FAILED, "partial_failure"
    if failures:
        return JobState.FAILED, "failure" if counts.failed else "timeout"
    if counts.cancelled:
        return JobState.STOPPED, "cancelled"
    if counts.skipped and not counts.completed:
        return JobState.COMPLETED, "skipped"
    return JobState.COMPLETED, "success"
