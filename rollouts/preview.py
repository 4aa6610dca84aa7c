"""What a rollout would do if all went well: its waves with their nodes, before anything starts."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile

from rollouts.planner import (
    OpenWave,
    PlaceWave,
    Policy,
    Snapshot,
    WaitUntil,
    canary_size,
    plan,
    wave_size,
)
from rollouts.states import RolloutType

# The planner reads no clock but the open wave's, and a preview has none.
_ANY_MOMENT = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewNode:
    """A node in its place; one that is not fit now (away, draining, cordoned) would be deferred."""

    node_id: str
    name: str
    ring: int = 0
    fit: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWave:
    """One wave: 0 for the only wave of an immediate rollout."""

    number: int
    nodes: tuple[PreviewNode, ...]
    canary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The plan of a rollout; sizes are numbers of nodes (docs/semantics.md 1.7, C01)."""

    waves: tuple[PlannedWave, ...]
    # Already run an equal spec, and cannot take work now: neither is in a wave.
    current: tuple[PreviewNode, ...]
    deferred: tuple[PreviewNode, ...]
    total_nodes: int
    wave_size: int
    canary_size: int
    # Why it would stop before the end, or "".
    waiting_on: str = ""

    @property
    def total_waves(self) -> int:
        """How many waves there will be."""
        return len(self.waves)


def preview(nodes: Sequence[PreviewNode], policy: Policy, current: Collection[str] = ()) -> Preview:
    """Return the waves that the planner would open over `nodes`, given in their order.

    `current` are ids of nodes that run an equal spec already. It is the live planner that is
    asked, wave by wave, as if every execution became stable and every promotion were given.

    >>> from rollouts.states import Strategy
    >>> fleet = [PreviewNode(node_id=str(i), name=f"edge-{i}") for i in range(5)]
    >>> plan_of_five = preview(fleet, Policy(strategy=Strategy.ROLLING, max_parallel=40))
    >>> [[node.name for node in wave.nodes] for wave in plan_of_five.waves]
    [['edge-0', 'edge-1'], ['edge-2', 'edge-3'], ['edge-4']]
    """
    already = frozenset(current)
    to_change = [node for node in nodes if node.node_id not in already]
    ready = [node for node in to_change if node.fit]
    waves: list[PlannedWave] = []
    taken = 0
    while True:
        snapshot = Snapshot(
            rollout_type=RolloutType.UPDATE,
            policy=policy,
            promote_requested=True,
            canary_promoted=len(waves) > 1,
            total_nodes=len(nodes),
            updated_nodes=len(nodes) - len(to_change) + taken,
            remaining=len(to_change) - taken,
            fit=len(ready) - taken,
            fit_canary=len(ready) - taken,
            next_ring=_head_of_ring(ready, taken, wave_size(len(nodes), policy.max_parallel)),
            wave=_settled(waves),
        )
        last = plan(snapshot, _ANY_MOMENT)[-1]
        if not isinstance(last, PlaceWave):
            break
        chosen = tuple(ready[taken : taken + last.size])
        taken += len(chosen)
        waves.append(PlannedWave(number=last.number, nodes=chosen, canary=last.canary))
    return Preview(
        waves=tuple(waves),
        current=tuple(node for node in nodes if node.node_id in already),
        deferred=tuple(node for node in to_change if not node.fit),
        total_nodes=len(nodes),
        wave_size=wave_size(len(nodes), policy.max_parallel),
        canary_size=canary_size(len(nodes), policy),
        waiting_on=last.reason if isinstance(last, WaitUntil) else "",
    )


def _head_of_ring(ready: Sequence[PreviewNode], start: int, at_most: int) -> int:
    """Count nodes from `start` on that share the ring of the first, up to one wave."""
    head = ready[start : start + at_most]
    return sum(1 for _ in takewhile(lambda node: node.ring == head[0].ring, head))


def _settled(waves: Sequence[PlannedWave]) -> OpenWave:
    if not waves:
        return OpenWave()
    size = len(waves[-1].nodes)
    return OpenWave(number=waves[-1].number, size=size, stable=size)
