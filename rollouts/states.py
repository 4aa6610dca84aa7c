"""The states of rollouts, targets and executions, and every legal transition between them."""

from enum import StrEnum


class RolloutType(StrEnum):
    """What set a rollout off (docs/semantics.md 1.7)."""

    CREATE = "create"
    UPDATE = "update"
    RESTART = "restart"
    ROLLBACK = "rollback"


class Strategy(StrEnum):
    """How a rollout reaches its nodes (docs/semantics.md 1.6)."""

    IMMEDIATE = "immediate"
    ROLLING = "rolling"
    CANARY = "canary"


class RolloutState(StrEnum):
    """Where a rollout stands (docs/semantics.md X44)."""

    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    HALTED = "halted"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class PauseReason(StrEnum):
    """Why a paused rollout is paused (docs/semantics.md 1.3)."""

    MANUAL = "manual"
    AWAITING_PROMOTION = "awaiting_promotion"


class TargetState(StrEnum):
    """Where one node stands in one rollout."""

    REMAINING = "remaining"
    RELEASED = "released"
    CURRENT = "current"
    UPDATED = "updated"
    FAILED = "failed"
    STOPPED = "stopped"
    DEFERRED = "deferred"
    LEFT = "left"


class DesiredState(StrEnum):
    """What an execution should be in (docs/semantics.md 1.5)."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPED = "stopped"


class ObservedState(StrEnum):
    """What an execution is in, as last known (docs/semantics.md 1.5)."""

    PENDING = "pending"
    STARTING = "starting"
    VALIDATING = "validating"
    RUNNING = "running"
    DEGRADED = "degraded"
    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"
    STOPPING = "stopping"
    STOPPED = "stopped"


TERMINAL = frozenset(
    {ObservedState.COMPLETED, ObservedState.FAILED, ObservedState.LOST, ObservedState.STOPPED}
)
LIVE = frozenset(ObservedState) - TERMINAL
# A process of the execution may be there: at most one execution of a job on a node is in these.
STARTED = frozenset(
    {
        ObservedState.STARTING,
        ObservedState.VALIDATING,
        ObservedState.RUNNING,
        ObservedState.DEGRADED,
    }
)
FINISHED_ROLLOUT = frozenset(
    {
        RolloutState.COMPLETED,
        RolloutState.HALTED,
        RolloutState.CANCELLED,
        RolloutState.SUPERSEDED,
    }
)

ROLLOUT_TRANSITIONS: dict[RolloutState, frozenset[RolloutState]] = {
    RolloutState.ACTIVE: frozenset({RolloutState.PAUSED}) | FINISHED_ROLLOUT,
    RolloutState.PAUSED: frozenset({RolloutState.ACTIVE}) | FINISHED_ROLLOUT,
    RolloutState.COMPLETED: frozenset(),
    RolloutState.HALTED: frozenset(),
    RolloutState.CANCELLED: frozenset(),
    RolloutState.SUPERSEDED: frozenset(),
}

_ENDS = frozenset(
    {
        ObservedState.FAILED,
        ObservedState.LOST,
        ObservedState.STOPPING,
        ObservedState.STOPPED,
        ObservedState.COMPLETED,
    }
)
OBSERVED_TRANSITIONS: dict[ObservedState, frozenset[ObservedState]] = {
    # An agent may report several steps in one breath, so a later one is legal from an earlier.
    ObservedState.PENDING: frozenset(
        {ObservedState.STARTING, ObservedState.VALIDATING, ObservedState.RUNNING}
    )
    | _ENDS,
    ObservedState.STARTING: frozenset({ObservedState.VALIDATING, ObservedState.RUNNING}) | _ENDS,
    # A restart during validation goes back to starting (docs/semantics.md X02).
    ObservedState.VALIDATING: frozenset({ObservedState.STARTING, ObservedState.RUNNING}) | _ENDS,
    ObservedState.RUNNING: frozenset({ObservedState.STARTING, ObservedState.DEGRADED}) | _ENDS,
    ObservedState.DEGRADED: frozenset({ObservedState.STARTING, ObservedState.RUNNING}) | _ENDS,
    # A result that wins the race against a stop is kept (docs/semantics.md X82).
    ObservedState.STOPPING: frozenset(
        {
            ObservedState.STOPPED,
            ObservedState.COMPLETED,
            ObservedState.FAILED,
            ObservedState.LOST,
        }
    ),
    # Only the scheduler, only with stable_at set: resurrection (docs/semantics.md X06).
    ObservedState.STOPPED: frozenset({ObservedState.STARTING}),
    ObservedState.COMPLETED: frozenset(),
    ObservedState.FAILED: frozenset({ObservedState.STARTING}),
    # Lost is the one end that its own reports may revise (docs/semantics.md 1.5, X19).
    ObservedState.LOST: frozenset(
        {
            ObservedState.STARTING,
            ObservedState.RUNNING,
            ObservedState.DEGRADED,
            ObservedState.STOPPING,
            ObservedState.STOPPED,
            ObservedState.COMPLETED,
            ObservedState.FAILED,
        }
    ),
}

TARGET_TRANSITIONS: dict[TargetState, frozenset[TargetState]] = {
    TargetState.REMAINING: frozenset(
        {TargetState.RELEASED, TargetState.CURRENT, TargetState.DEFERRED, TargetState.LEFT}
    ),
    TargetState.RELEASED: frozenset(
        {TargetState.UPDATED, TargetState.FAILED, TargetState.STOPPED, TargetState.LEFT}
    ),
    TargetState.DEFERRED: frozenset({TargetState.REMAINING, TargetState.LEFT}),
    TargetState.CURRENT: frozenset({TargetState.LEFT}),
    TargetState.UPDATED: frozenset({TargetState.LEFT}),
    TargetState.FAILED: frozenset({TargetState.LEFT}),
    TargetState.STOPPED: frozenset({TargetState.LEFT}),
    TargetState.LEFT: frozenset({TargetState.REMAINING}),
}

# One table for each noun: members of two enumerations that are spelt alike are equal keys.
ROLLOUT_MEANINGS: dict[RolloutState, str] = {
    RolloutState.ACTIVE: "It is on its way.",
    RolloutState.PAUSED: "No further wave opens until a person says so.",
    RolloutState.COMPLETED: "Every wave settled within the limits.",
    RolloutState.HALTED: "Too much failed; it was stopped by itself.",
    RolloutState.CANCELLED: "A person stopped it.",
    RolloutState.SUPERSEDED: "A newer version took its place.",
}
TARGET_MEANINGS: dict[TargetState, str] = {
    TargetState.REMAINING: "Its turn has not come.",
    TargetState.RELEASED: "Its wave is open and it has not settled.",
    TargetState.CURRENT: "It already ran an equal spec.",
    TargetState.UPDATED: "It runs the new version and is stable, or its one-shot work is done.",
    TargetState.FAILED: "Its execution failed or was lost before it was stable.",
    TargetState.STOPPED: "Its execution was stopped before it was stable.",
    TargetState.DEFERRED: "It could take no work when its turn came; it catches up later.",
    TargetState.LEFT: "It no longer matches, or it was deleted.",
}
DESIRED_MEANINGS: dict[DesiredState, str] = {
    DesiredState.PENDING: "Not released yet.",
    DesiredState.RUNNING: "It should run.",
    DesiredState.STOPPED: "It should not run.",
}
OBSERVED_MEANINGS: dict[ObservedState, str] = {
    ObservedState.PENDING: "Sent or about to be sent; the agent has not taken it up.",
    ObservedState.STARTING: "The agent has it and is starting it.",
    ObservedState.VALIDATING: "It is up; its health is being watched before it counts.",
    ObservedState.RUNNING: "It runs.",
    ObservedState.DEGRADED: "It runs, and its health windows are bad.",
    ObservedState.COMPLETED: "It ended well.",
    ObservedState.FAILED: "It ended badly or could not start.",
    ObservedState.LOST: "Its node has been silent for too long.",
    ObservedState.STOPPING: "It was told to stop.",
    ObservedState.STOPPED: "It was stopped.",
}


def may_observe(old: str, new: str) -> bool:
    """Say whether a report may move an execution from one observed state to the other."""
    return ObservedState(new) in OBSERVED_TRANSITIONS[ObservedState(old)]
