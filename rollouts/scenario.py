"""What a simulated rollout is played with: scripted nodes, timed happenings, seeded fleets."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from rollouts.health import HealthPolicy, Window
from rollouts.planner import Policy
from rollouts.states import RolloutType


class Act(StrEnum):
    """What may happen to a rollout from outside: a person's word, or a node's fate."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    CANCEL = "cancel"
    DISCONNECT = "disconnect"
    RECONNECT = "reconnect"
    CORDON = "cordon"
    UNCORDON = "uncordon"
    LEAVE = "leave"
    JOIN = "join"


# What a letter of NodeScript.windows measures. "-" is a window that is not sent, "X" the end of
# the process for good.
WINDOWS = {
    "H": Window(messages_in=100),
    "U": Window(messages_in=100, errors=50),
    "R": Window(messages_in=100, restarts=1),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeScript:
    """How one virtual node behaves; times are seconds."""

    name: str
    ring: int = 0
    connected: bool = True
    ready: bool = True
    # Runs a stable execution of the version before this one.
    has_stable: bool = True
    # Runs an equal spec already.
    is_current: bool = False
    # From release until its agent takes the execution up (None: never), and from there until
    # it is up.
    pickup: int | None = 1
    start: int = 2
    starts: bool = True
    # One letter for each health window, the last one for ever.
    windows: str = "H"
    # One-shot work: how long it takes and whether it ends well.
    work: int = 5
    works: bool = True
    # Whether the version that a rollback brings starts here.
    starts_old: bool = True

    def window(self, number: int) -> str:
        """Return the letter of a window, numbered from 0."""
        return self.windows[min(number, len(self.windows) - 1)]

    def steady_from(self, number: int) -> str:
        """Return the one letter of all windows from this one on, or "" when they differ."""
        letters = set(self.windows[number:] or self.windows[-1])
        return letters.pop() if len(letters) == 1 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One happening, `at` seconds after the start; `script` is the node that joins."""

    at: int
    act: Act
    node: str = ""
    script: NodeScript | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Everything that decides how a simulated rollout goes; equal scenarios go the same way."""

    nodes: tuple[NodeScript, ...]
    policy: Policy
    # None: executions are stable as soon as they run (immediate, or no health check).
    health: HealthPolicy | None = None
    rollout_type: RolloutType = RolloutType.UPDATE
    one_shot: bool = False
    version: int = 2
    rollback_to_version: int = 1
    rollback_is_identical: bool = False
    has_rings: bool = False
    steps: tuple[Step, ...] = ()
    start_deadline: timedelta = timedelta(minutes=5)
    # 30 s without a heartbeat, then five minutes of disconnection (docs/semantics.md X57).
    lost_after: timedelta = timedelta(seconds=330)


def dice(seed: int) -> Iterator[int]:
    """Yield whole numbers from 0 to 99, the same for the same seed (splitmix64)."""
    state = seed & 0xFFFFFFFFFFFFFFFF
    while True:
        state = (state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        yield (mixed ^ (mixed >> 31)) % 100


def random_fleet(
    seed: int, count: int, *, failure_percent: int = 0, unhealthy_percent: int = 0
) -> tuple[NodeScript, ...]:
    """Make a fleet: so many percent cannot start, so many percent of the windows are unhealthy.

    >>> random_fleet(7, 3, failure_percent=50) == random_fleet(7, 3, failure_percent=50)
    True
    """
    throw = dice(seed)
    return tuple(
        NodeScript(
            name=f"edge-{number:06}",
            pickup=1 + next(throw) % 5,
            start=1 + next(throw) % 10,
            starts=next(throw) >= failure_percent,
            windows="".join("U" if next(throw) < unhealthy_percent else "H" for _ in range(8)),
        )
        for number in range(count)
    )
