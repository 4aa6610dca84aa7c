"""The simulator's books: virtual nodes, their executions, and a rollout's targets, counted."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import takewhile

from rollouts.health import Clock, Streaks
from rollouts.scenario import NodeScript
from rollouts.states import ObservedState, TargetState


@dataclass(slots=True, kw_only=True)
class VirtualExecution:
    """One execution as the control plane knows it, with what its agent is about to say."""

    id: str
    wave: int
    clock: Clock | None
    observed: ObservedState = ObservedState.PENDING
    is_stable: bool = False
    streaks: Streaks = field(default_factory=Streaks)
    windows: int = 0
    restarts: int = 0
    heard_at: datetime | None = None
    owed: int = 0


@dataclass(slots=True, kw_only=True)
class VirtualNode:
    """One node: its script, what it should run ("" for nothing), and its place in the rollout."""

    script: NodeScript
    connected: bool
    ready: bool
    spec: str
    target: TargetState = TargetState.REMAINING
    is_fit: bool = False
    execution: VirtualExecution | None = None
    # Reports that wait for the node to come back.
    held: list[str] = field(default_factory=list)
    absences: int = 0
    # Came after the rollout had ended: it is in none of its books.
    is_outside: bool = False

    @property
    def name(self) -> str:
        """The node's name."""
        return self.script.name


class Targets:
    """The nodes of one rollout: its list, its buckets and the counts of its newest wave.

    Every count is kept as nodes move, so that reading them costs the same for any fleet.
    """

    def __init__(self, nodes: Iterable[VirtualNode], *, spec: str, anew: bool) -> None:
        """Freeze the nodes that take part; `anew` replaces executions of an equal spec too."""
        self.queue: dict[str, VirtualNode] = {}
        self.buckets: Counter[TargetState] = Counter()
        self.wave = 0
        self.members: dict[str, VirtualNode] = {}
        self.in_wave: Counter[TargetState] = Counter()
        self.fit = 0
        self.total = 0
        for node in nodes:
            node.execution = None
            node.target = TargetState.REMAINING
            self.total += 1
            if node.spec == spec and not anew:
                node.target = TargetState.CURRENT
                self.buckets[TargetState.CURRENT] += 1
            else:
                self.enqueue(node)

    def enqueue(self, node: VirtualNode) -> None:
        """Put a node at the end of the list."""
        node.target = TargetState.REMAINING
        self.queue[node.name] = node
        self.buckets[TargetState.REMAINING] += 1
        node.is_fit = False
        self.refit(node)

    def return_to_list(self, node: VirtualNode) -> None:
        """Put a deferred node at the end of the list."""
        self.buckets[TargetState.DEFERRED] -= 1
        self.enqueue(node)

    def refit(self, node: VirtualNode) -> None:
        """Count anew whether a node of the list can take work now."""
        is_fit = node.name in self.queue and node.connected and node.ready
        self.fit += is_fit - node.is_fit
        node.is_fit = is_fit

    def move(self, node: VirtualNode, target: TargetState) -> None:
        """Put a node into another bucket than the list."""
        self.queue.pop(node.name, None)
        self.refit(node)
        self.buckets[node.target] -= 1
        self.buckets[target] += 1
        if node.name in self.members:
            self.in_wave[node.target] -= 1
            self.in_wave[target] += 1
        node.target = target

    def leave(self, node: VirtualNode) -> None:
        """Take a node out of the total."""
        self.move(node, TargetState.LEFT)
        self.total -= 1
        # One that comes back while the same wave is open is released into it anew.
        if self.members.pop(node.name, None):
            self.in_wave[TargetState.LEFT] -= 1

    def open(self, number: int) -> None:
        """Count a new wave from nothing, unless it is the one that is open."""
        if number != self.wave:
            self.wave = number
            self.members = {}
            self.in_wave = Counter()

    def release(self, node: VirtualNode) -> None:
        """Take a node off the list into the newest wave."""
        self.move(node, TargetState.RELEASED)
        self.members[node.name] = node
        self.in_wave[TargetState.RELEASED] += 1

    def take(self, size: int) -> tuple[list[VirtualNode], list[VirtualNode]]:
        """Return the next fit nodes of the list, and those that were passed over for them."""
        chosen: list[VirtualNode] = []
        passed: list[VirtualNode] = []
        for node in self.queue.values():
            if len(chosen) == size:
                break
            (chosen if node.is_fit else passed).append(node)
        return chosen, passed

    def head_of_ring(self, at_most: int) -> int:
        """Count the fit nodes at the head of the list that share the ring of the first."""
        head, _ = self.take(at_most)
        return sum(1 for _ in takewhile(lambda n: n.script.ring == head[0].script.ring, head))

    def unwell_in_wave(self) -> int:
        """Count stable nodes of the newest wave that are not well now (docs/semantics.md X10)."""
        return sum(
            node.target is TargetState.UPDATED and _is_unwell(node)
            for node in self.members.values()
        )


def _is_unwell(node: VirtualNode) -> bool:
    run = node.execution
    return run is None or run.observed not in _WELL or run.streaks.unhealthy > 0


_WELL = (ObservedState.RUNNING, ObservedState.COMPLETED)
