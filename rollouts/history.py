"""Replays a rollout: folds its events into the state it was in at any sequence number."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from rollouts.states import FINISHED_ROLLOUT, ObservedState, PauseReason, RolloutState, TargetState


@dataclass(frozen=True, slots=True, kw_only=True)
class PastEvent:
    """One event as it was written: `seq` is the job's own numbering, `execution` an id or ""."""

    seq: int
    kind: str
    details: Mapping[str, object] = field(default_factory=dict)
    execution: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePast:
    """One node of the rollout; `observed` is of its execution in this rollout, "" before it."""

    target: TargetState = TargetState.REMAINING
    wave: int = 0
    execution: str = ""
    observed: str = ""
    is_stable: bool = False
    # Its last stable execution was brought back after the new one failed.
    is_resurrected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutPast:
    """The rollout after the event `seq`; counts are nodes. Nodes not touched yet are not listed."""

    seq: int = 0
    state: RolloutState = RolloutState.ACTIVE
    pause_reason: str = ""
    rollout_type: str = ""
    strategy: str = ""
    total_nodes: int = 0
    updated_nodes: int = 0
    failed_nodes: int = 0
    deferred_nodes: int = 0
    remaining_nodes: int = 0
    unsettled_nodes: int = 0
    current_wave: int = 0
    total_waves: int = 0
    wave_size: int = 0
    canary_size: int = 0
    canary_promoted: bool = False
    # How many nodes each wave has taken, by its number.
    waves: Mapping[int, int] = field(default_factory=dict)
    halted_by: str = ""
    # The version it went back to, 0 if it did not.
    rolled_back_to: int = 0
    job_state: str = ""
    nodes: Mapping[str, NodePast] = field(default_factory=dict)


def fold(events: Iterable[PastEvent], until: int | None = None) -> RolloutPast:
    """Return the state after the last event whose number is at most `until` (None: after all).

    Events come in the order of their numbers. `rollout.started` begins anew, so the events of a
    whole job give its newest rollout. Kinds that are not known change nothing.
    """
    replay = _Replay()
    for event in events:
        if until is not None and event.seq > until:
            break
        replay.take(event)
    return replay.result()


class _Replay:
    """What `fold` gathers; it is changed in place so that a long history costs one pass."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self.past = RolloutPast()
        self.nodes: dict[str, NodePast] = {}
        self.waves: Counter[int] = Counter()
        self.buckets: Counter[TargetState] = Counter()

    def take(self, event: PastEvent) -> None:
        """Take one event in."""
        handler = _HANDLERS.get(event.kind)
        if handler:
            handler(self, event)
        self.change(seq=event.seq)

    def change(self, **fields: object) -> None:
        """Set fields of the rollout."""
        self.past = replace(self.past, **fields)  # type: ignore[arg-type]

    def move(self, name: str, target: TargetState) -> None:
        """Put a node into another bucket; remaining is what is left of the total."""
        node = self.nodes.get(name, NodePast())
        self.buckets[node.target] -= 1
        self.buckets[target] += 1
        self.nodes[name] = replace(node, target=target)

    def settle(self, name: str, node: NodePast) -> None:
        """Move a released node to its end as soon as its execution has told it (docs/semantics.md 1.7).

        After the end of the rollout nothing is counted any more (X68).
        """
        end = TargetState.UPDATED if node.is_stable else _ENDS.get(node.observed)
        if end and node.target is TargetState.RELEASED and self.past.state not in FINISHED_ROLLOUT:
            self.move(name, end)

    def result(self) -> RolloutPast:
        """Return what is known, counted."""
        in_bucket = self.buckets
        placed = sum(
            in_bucket[state] for state in TargetState if state not in _NOT_TAKEN_FROM_THE_LIST
        )
        return replace(
            self.past,
            updated_nodes=in_bucket[TargetState.UPDATED] + in_bucket[TargetState.CURRENT],
            failed_nodes=in_bucket[TargetState.FAILED],
            deferred_nodes=in_bucket[TargetState.DEFERRED],
            unsettled_nodes=in_bucket[TargetState.RELEASED],
            remaining_nodes=self.past.total_nodes - placed,
            waves=dict(self.waves),
            nodes=dict(self.nodes),
        )


_ENDS: dict[str, TargetState] = {
    ObservedState.COMPLETED: TargetState.UPDATED,
    ObservedState.FAILED: TargetState.FAILED,
    ObservedState.LOST: TargetState.FAILED,
    ObservedState.STOPPED: TargetState.STOPPED,
}
_NOT_TAKEN_FROM_THE_LIST = frozenset({TargetState.REMAINING, TargetState.LEFT})


def _text(event: PastEvent, key: str) -> str:
    return str(event.details.get(key) or "")


def _number(event: PastEvent, key: str) -> int:
    value = event.details.get(key)
    return value if isinstance(value, int) else 0


def _texts(event: PastEvent, key: str) -> list[str]:
    value = event.details.get(key)
    return [str(item) for item in value] if isinstance(value, list) else []


def _names(event: PastEvent) -> tuple[list[str], int]:
    """Return the nodes that an event names, and how many more it only counts."""
    names = _texts(event, "nodes") or [_text(event, "node")]
    return names, max(0, _number(event, "count") - len(names))


def _started(replay: _Replay, event: PastEvent) -> None:
    job_state = replay.past.job_state
    replay.nodes, replay.waves, replay.buckets = {}, Counter(), Counter()
    replay.buckets[TargetState.CURRENT] = _number(event, "updated_nodes")
    replay.past = RolloutPast(
        job_state=job_state,
        rollout_type=_text(event, "type"),
        strategy=_text(event, "strategy"),
        total_nodes=_number(event, "total_nodes"),
        total_waves=_number(event, "total_waves"),
        wave_size=_number(event, "wave_size"),
        canary_size=_number(event, "canary_size"),
    )


def _wave_opened(replay: _Replay, event: PastEvent) -> None:
    wave = _number(event, "wave")
    replay.waves[wave] += _number(event, "size")
    waves = _number(event, "total_waves") or max(replay.past.total_waves, wave)
    # A canary wave that is filled again ends a pause that awaited its promotion.
    replay.change(current_wave=wave, total_waves=waves, state=RolloutState.ACTIVE, pause_reason="")


def _promoted(replay: _Replay, _event: PastEvent) -> None:
    replay.change(canary_promoted=True, state=RolloutState.ACTIVE, pause_reason="")


def _paused(replay: _Replay, event: PastEvent) -> None:
    reason = _text(event, "reason") or PauseReason.MANUAL.value
    replay.change(state=RolloutState.PAUSED, pause_reason=reason)


def _resumed(replay: _Replay, _event: PastEvent) -> None:
    replay.change(state=RolloutState.ACTIVE, pause_reason="")


def _ended(state: RolloutState) -> Callable[[_Replay, PastEvent], None]:
    def end(replay: _Replay, event: PastEvent) -> None:
        replay.change(state=state, pause_reason="", halted_by=_text(event, "rule"))

    return end


def _rolled_back(replay: _Replay, event: PastEvent) -> None:
    replay.change(rolled_back_to=_number(event, "to_version"))


def _created(replay: _Replay, event: PastEvent) -> None:
    name = _text(event, "node")
    replay.move(name, TargetState.RELEASED)
    replay.nodes[name] = NodePast(
        target=TargetState.RELEASED,
        wave=_number(event, "wave"),
        execution=event.execution,
        observed=_text(event, "new_state") or ObservedState.PENDING.value,
    )


def _observed(replay: _Replay, event: PastEvent) -> None:
    """Follow the node's execution of this rollout; those before it are another story."""
    name = _text(event, "node")
    node = replay.nodes.get(name)
    if node and node.observed and node.execution == event.execution:
        state, stable = _text(event, "new_state"), bool(event.details.get("stable"))
        replay.nodes[name] = node = replace(
            node, observed=state or node.observed, is_stable=node.is_stable or stable
        )
        replay.settle(name, node)


def _stable(replay: _Replay, event: PastEvent) -> None:
    name = _text(event, "node")
    node = replay.nodes.get(name)
    if node and node.execution == event.execution:
        state = _text(event, "new_state") or node.observed
        replay.nodes[name] = node = replace(node, observed=state, is_stable=True)
        replay.settle(name, node)


def _resurrected(replay: _Replay, event: PastEvent) -> None:
    name = _text(event, "node")
    replay.nodes[name] = replace(replay.nodes.get(name, NodePast()), is_resurrected=True)


def _deferred(replay: _Replay, event: PastEvent) -> None:
    names, unnamed = _names(event)
    for name in names:
        replay.move(name, TargetState.DEFERRED)
    replay.buckets[TargetState.DEFERRED] += unnamed


def _returned(replay: _Replay, event: PastEvent) -> None:
    """Put deferred nodes back into the list; they were in the total all along (C03)."""
    names, unnamed = _names(event)
    for name in names:
        replay.move(name, TargetState.REMAINING)
    replay.buckets[TargetState.DEFERRED] -= unnamed


def _joined(replay: _Replay, event: PastEvent) -> None:
    """Count new nodes; a deferred one that came back was in the total all along."""
    names, added = _names(event)
    for name in names:
        node = replay.nodes.get(name)
        added += node is None or node.target is TargetState.LEFT
        replay.move(name, TargetState.REMAINING)
    replay.change(total_nodes=replay.past.total_nodes + added)


def _left(replay: _Replay, event: PastEvent) -> None:
    """Take nodes out of the total; `states` tells where they stood if nothing was told of them."""
    names, unnamed = _names(event)
    states = _texts(event, "states") or [_text(event, "old_state")] * len(names)
    for name, state in zip(names, states, strict=False):
        if name not in replay.nodes:
            replay.nodes[name] = NodePast(target=TargetState(state or TargetState.REMAINING))
        replay.move(name, TargetState.LEFT)
    replay.change(total_nodes=replay.past.total_nodes - len(names) - unnamed)


def _settled(replay: _Replay, event: PastEvent) -> None:
    replay.move(_text(event, "node"), TargetState(_text(event, "outcome")))


def _job_state(replay: _Replay, event: PastEvent) -> None:
    replay.change(job_state=_text(event, "new_state"))


_HANDLERS: dict[str, Callable[[_Replay, PastEvent], None]] = {
    "rollout.started": _started,
    "wave.opened": _wave_opened,
    "canary.promoted": _promoted,
    "rollout.paused": _paused,
    "rollout.resumed": _resumed,
    "rollout.halted": _ended(RolloutState.HALTED),
    "rollout.completed": _ended(RolloutState.COMPLETED),
    "rollout.cancelled": _ended(RolloutState.CANCELLED),
    "rollout.superseded": _ended(RolloutState.SUPERSEDED),
    "rollout.rolled_back": _rolled_back,
    "execution.created": _created,
    "execution.observed": _observed,
    "execution.stable": _stable,
    "execution.stopped_by_scheduler": _observed,
    "execution.resurrected": _resurrected,
    "node.deferred": _deferred,
    "node.joined": _joined,
    "node.returned": _returned,
    "node.left": _left,
    "target.settled": _settled,
    "job.state": _job_state,
}
