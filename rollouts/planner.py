"""What a rollout does next: waves, canary, promotion, halting, rollback, the end.

`plan` is the one decision function of the product. The live scheduler, the plan preview, the
simulator and the replay all call it. It sees counts, never the fleet, so it costs the same for
10 nodes and for 100,000.

The rules in their order (docs/semantics.md 1.7, 1.10, parts 4 and 5):

1. Failed nodes return to their last stable execution (X06: before any limit is looked at).
2. Any failed canary halts; then failures over either limit halt, paused or not. A halted
   rollout rolls back once, to a version that would run something else (X20), never from a
   rollback, never one-shot work (X52).
3. The canary wave is kept at its size while nodes are fit for it (X11); the only wave of an
   immediate rollout takes every node that is fit.
4. While the open wave has an unsettled node, nothing else happens.
5. Nothing left to release: it ends, unless a person holds it (X79).
6. The canary gate: at least one stable canary, none unwell (X10), and a promotion.
7. The next wave opens; when no node can take work, the rest is deferred.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

from rollouts.states import RolloutType, Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The rollout block of the spec, as exact numbers (docs/semantics.md 1.6)."""

    strategy: Strategy = Strategy.IMMEDIATE
    max_parallel: int = 10
    canary_count: int | None = None
    canary_percent: int | None = None
    auto_promote: bool = False
    max_failed_nodes: int = 10
    max_failed_nodes_percent: Fraction = Fraction(10)
    auto_rollback: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenWave:
    """Counts of the wave that was opened last; all zero before the first."""

    number: int = 0
    size: int = 0
    unsettled: int = 0
    stable: int = 0
    # Stable once, but degraded, lost, stopped or silent now: blocks promotion (docs/semantics.md X10).
    stable_but_unwell: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything a decision may depend on. Counts are nodes of this rollout."""

    rollout_type: RolloutType
    policy: Policy
    # Paused by a person; awaiting_promotion is the other way to be paused.
    paused: bool = False
    awaiting_promotion: bool = False
    # A person asked for promotion and it has not been carried out.
    promote_requested: bool = False
    canary_promoted: bool = False
    one_shot: bool = False
    total_nodes: int = 0
    updated_nodes: int = 0
    failed_nodes: int = 0
    # Nodes not yet released, in order. `fit` of them can take work now and `fit_canary` of them
    # can be canaries (both may be capped at the larger of W and C). `next_ring`, with rings, is
    # how many fit nodes at the head share the ring of the first fit one: a wave never mixes.
    remaining: int = 0
    fit: int = 0
    fit_canary: int = 0
    next_ring: int | None = None
    deferred: int = 0
    wave: OpenWave = OpenWave()
    # Failed nodes of the canary wave that have not left.
    canaries_failed: int = 0
    # total_nodes as it stood when the newest failure was counted (0: as now). A node that leaves
    # later makes no failure worse: leaving never halts (docs/semantics.md C08).
    total_at_failure: int = 0
    # Nodes whose new execution failed and whose previous stable one does not run again yet.
    resurrectable: int = 0
    # 0 when there is nothing to return to (a first version).
    rollback_to_version: int = 0
    # The version to return to would run exactly what has just failed (docs/semantics.md X20).
    rollback_is_identical: bool = False
    # The earliest moment at which a clock of the open wave runs out.
    next_deadline_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing to do, with the rule that asked for it and the numbers it saw."""

    rule: str
    reason: str
    facts: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resurrect(Action):
    """Let the previous stable executions of failed nodes run again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceWave(Action):
    """Release up to `size` fit nodes of the list as wave `number`, those of one ring only.

    The number is that of the open wave when canaries are replaced, and 0 for the only wave of an
    immediate rollout. Carrying it out ends a pause that awaits promotion: no canary is left.
    """

    number: int
    size: int
    canary: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitPromotion(Action):
    """Pause until a person promotes the canary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote(Action):
    """Mark the canary as promoted; ends any pause and the wish for it (docs/semantics.md X05)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt(Action):
    """End the rollout: too much failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack(Action):
    """Make a new version from the stable one and bring it to every node that differs."""

    to_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Defer(Action):
    """Take the nodes that cannot take work off the list; they catch up later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish(Action):
    """End the rollout: every wave settled within the limits.

    Its version becomes the stable one, unless every node left (docs/semantics.md C01).
    """

    makes_stable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitUntil(Action):
    """Nothing to do now; look again at `when` at the latest, or when something is reported."""

    when: datetime | None = None


def wave_size(total_nodes: int, max_parallel: int) -> int:
    """Return the size of a wave: max(1, ceil(N x p / 100)), in integers (docs/semantics.md 1.7).

    >>> [wave_size(n, p) for n, p in [(100, 10), (25, 10), (7, 10), (3, 50), (1, 10)]]
    [10, 3, 1, 2, 1]
    """
    return max(1, -(-total_nodes * max_parallel // 100))


def canary_size(total_nodes: int, policy: Policy) -> int:
    """Return the number of canaries: the count, or the percentage rounded up, at most N.

    >>> canary_size(100, Policy(strategy=Strategy.CANARY, canary_percent=5))
    5
    """
    if policy.strategy is not Strategy.CANARY:
        return 0
    if policy.canary_percent is not None:
        return min(total_nodes, max(1, -(-total_nodes * policy.canary_percent // 100)))
    return min(total_nodes, policy.canary_count or 1)


def wave_sizes(
    total_nodes: int, to_change: int, policy: Policy, rings: Sequence[int] = ()
) -> tuple[int, ...]:
    """Return the planned size of each wave; W comes from N, waves are made of the rest (C01).

    `rings` counts the nodes to change of each ring in turn. A wave never mixes rings, and the
    canaries are the first of the order whatever their ring (C09).

    >>> wave_sizes(20, 20, Policy(strategy=Strategy.CANARY, canary_count=2, max_parallel=25))
    (2, 5, 5, 5, 3)
    >>> wave_sizes(10, 10, Policy(strategy=Strategy.ROLLING, max_parallel=30), rings=(4, 6))
    (3, 1, 3, 3)
    """
    if to_change <= 0:
        return ()
    if policy.strategy is Strategy.IMMEDIATE:
        return (to_change,)
    canaries = min(to_change, canary_size(total_nodes, policy))
    size = wave_size(total_nodes, policy.max_parallel)
    sizes = [canaries] if canaries else []
    for count in rings or (to_change,):
        taken = min(canaries, count)
        canaries -= taken
        full, last = divmod(count - taken, size)
        sizes += [size] * full + ([last] if last else [])
    return tuple(sizes)


def failure_limit_crossed(snapshot: Snapshot) -> str:
    """Return which limit the failures are strictly above, or "" (docs/semantics.md 1.7, exact).

    1 of 10 nodes is 10% and does not halt at the defaults; 2 of 10 does; 11 of 100 does by both.
    """
    policy, failed = snapshot.policy, snapshot.failed_nodes
    if failed > policy.max_failed_nodes:
        return "max_failed_nodes"
    total = max(snapshot.total_nodes, snapshot.total_at_failure)
    if failed * 100 > policy.max_failed_nodes_percent * total:
        return "max_failed_nodes_percent"
    return ""


def plan(snapshot: Snapshot, now: datetime) -> tuple[Action, ...]:
    """Return what to do now, in order; the rules are those at the head of this module.

    Planning again after everything was done asks for nothing new but waiting.
    """
    first = _resurrect(snapshot)
    halt = _halt(snapshot)
    if halt:
        return first + halt
    return first + _proceed(snapshot, now)


def _proceed(snapshot: Snapshot, now: datetime) -> tuple[Action, ...]:
    fill = _fill_open_wave(snapshot)
    if fill:
        return (fill,)
    if snapshot.wave.unsettled:
        return (_wait_for_wave(snapshot, now),)
    if _is_at_gate(snapshot):
        return _canary_gate(snapshot)
    if snapshot.paused:
        return (WaitUntil(rule="paused.manual", reason="paused by a person"),)
    return (_next_step(snapshot),)


def _resurrect(snapshot: Snapshot) -> tuple[Action, ...]:
    if snapshot.resurrectable and snapshot.policy.auto_rollback and not snapshot.one_shot:
        reason = f"{snapshot.resurrectable} failed nodes return to their last stable execution"
        return (Resurrect(rule="node.resurrect", reason=reason),)
    return ()


def _halt(snapshot: Snapshot) -> tuple[Action, ...]:
    facts: dict[str, object] = {
        "failed": snapshot.failed_nodes,
        "total": snapshot.total_nodes,
        "max_failed_nodes": snapshot.policy.max_failed_nodes,
        "max_failed_nodes_percent": float(snapshot.policy.max_failed_nodes_percent),
    }
    if snapshot.canaries_failed and not snapshot.canary_promoted:
        rule = "canary.failed"
        count = snapshot.canaries_failed
        canaries = "a canary" if count == 1 else f"{count} canaries"
        reason = f"{canaries} failed: any failed canary halts"
        facts["canaries_failed"] = snapshot.canaries_failed
    elif limit := failure_limit_crossed(snapshot):
        rule = f"limit.{limit}"
        reason = f"{snapshot.failed_nodes} of {snapshot.total_nodes} nodes failed, above {limit}"
    else:
        return ()
    halt = Halt(rule=rule, reason=reason, facts=facts)
    return (halt, *_roll_back(snapshot))


def _roll_back(snapshot: Snapshot) -> tuple[Action, ...]:
    possible = (
        snapshot.policy.auto_rollback
        and snapshot.rollback_to_version > 0
        and snapshot.rollout_type is not RolloutType.ROLLBACK
        and not snapshot.one_shot
        and not snapshot.rollback_is_identical
    )
    if not possible:
        return ()
    version = snapshot.rollback_to_version
    return (
        RollBack(
            rule="rollback.automatic",
            reason=f"return to version {version}, the last whose rollout completed",
            to_version=version,
        ),
    )


def why_no_rollback(snapshot: Snapshot) -> str:
    """Say why a halted rollout does not roll back, or "" when it does."""
    if not snapshot.policy.auto_rollback:
        return "automatic rollback is off"
    if snapshot.one_shot:
        return "one-shot work is never rolled back"
    if snapshot.rollout_type is RolloutType.ROLLBACK:
        return "a rollback never rolls back"
    if snapshot.rollback_to_version == 0:
        return "there is no earlier version whose rollout completed"
    if snapshot.rollback_is_identical:
        return f"version {snapshot.rollback_to_version} would run the same"
    return ""


def _wait_for_wave(snapshot: Snapshot, now: datetime) -> WaitUntil:
    wave = snapshot.wave
    name = f"wave {wave.number}" if wave.number else "the only wave"
    return WaitUntil(
        rule="wave.settled",
        reason=f"{wave.unsettled} of {wave.size} nodes of {name} have not settled",
        facts={"settled": wave.size - wave.unsettled, "needed": wave.size},
        when=max(now, snapshot.next_deadline_at) if snapshot.next_deadline_at else None,
    )


def _in_canary_phase(snapshot: Snapshot) -> bool:
    return snapshot.policy.strategy is Strategy.CANARY and not snapshot.canary_promoted


def _is_at_gate(snapshot: Snapshot) -> bool:
    """Say whether canaries stand between the version and other nodes.

    Deferred nodes are not waited for (C09), but they do not get a version that nobody promoted.
    """
    behind = snapshot.remaining or (snapshot.deferred and snapshot.wave.stable)
    return bool(behind) and _in_canary_phase(snapshot)


def _fill_open_wave(snapshot: Snapshot) -> PlaceWave | None:
    """Open or fill the wave that may be filled while it is open: canary, or immediate."""
    if snapshot.paused or snapshot.remaining == 0:
        return None
    if snapshot.policy.strategy is Strategy.IMMEDIATE:
        return _open_wave(snapshot, number=0, size=snapshot.remaining) if snapshot.fit else None
    wave = snapshot.wave
    if not _in_canary_phase(snapshot) or (snapshot.awaiting_promotion and wave.stable):
        return None
    present = wave.stable + wave.failed + wave.unsettled
    missing = canary_size(snapshot.total_nodes, snapshot.policy) - present
    size = min(missing, snapshot.fit_canary)
    return _open_wave(snapshot, number=1, size=size, canary=True) if size > 0 else None


def _canary_gate(snapshot: Snapshot) -> tuple[Action, ...]:
    """Hold until a person, or the policy, promotes canaries that are all well.

    A promotion that was asked for goes through even when a person paused the rollout (X05).
    """
    wave = snapshot.wave
    facts: dict[str, object] = {"stable": wave.stable, "unwell": wave.stable_but_unwell}
    if wave.stable and not wave.stable_but_unwell and _may_promote(snapshot):
        asked = snapshot.promote_requested
        promote = Promote(
            rule="canary.promoted" if asked else "canary.auto_promoted",
            reason="the canary is stable"
            if wave.stable == 1
            else f"all {wave.stable} canaries are stable",
            facts=facts,
        )
        return (promote, _next_step(snapshot))
    if snapshot.paused:
        return (WaitUntil(rule="paused.manual", reason="paused by a person", facts=facts),)
    if wave.stable == 0:
        reason = "no_canary_available: no connected and ready node can be a canary"
        return (WaitUntil(rule="canary.unavailable", reason=reason, facts=facts),)
    if wave.stable_but_unwell:
        count = wave.stable_but_unwell
        reason = (
            "a canary was stable and is unwell now"
            if count == 1
            else f"{count} canaries were stable and are unwell now"
        )
        return (WaitUntil(rule="canary.unwell", reason=reason, facts=facts),)
    kind = WaitUntil if snapshot.awaiting_promotion else AwaitPromotion
    return (kind(rule="canary.gate", reason="a person must promote the canary", facts=facts),)


def passed_over(count: int) -> str:
    """Say of nodes that take no part now what becomes of them."""
    if count == 1:
        return "a node can take no work now and catches up later"
    return f"{count} nodes can take no work now and catch up later"


def _may_promote(snapshot: Snapshot) -> bool:
    automatic = snapshot.policy.auto_promote and not snapshot.paused
    return snapshot.promote_requested or automatic


def _next_step(snapshot: Snapshot) -> Action:
    """Open the next wave, take what cannot take work off the list, or end."""
    if snapshot.remaining == 0:
        return _finish(snapshot)
    if snapshot.fit == 0:
        return Defer(
            rule="node.deferred",
            reason=passed_over(snapshot.remaining),
            facts={"remaining": snapshot.remaining},
        )
    size = min(wave_size(snapshot.total_nodes, snapshot.policy.max_parallel), snapshot.fit)
    if snapshot.next_ring:
        size = min(size, snapshot.next_ring)
    return _open_wave(snapshot, number=snapshot.wave.number + 1, size=size)


def _open_wave(snapshot: Snapshot, *, number: int, size: int, canary: bool = False) -> PlaceWave:
    word = "the canary wave" if canary else f"wave {number}" if number else "the only wave"
    return PlaceWave(
        rule="canary.open" if canary else "wave.open",
        reason=f"{word} takes {size} of {snapshot.remaining} remaining nodes",
        facts={"size": size, "remaining": snapshot.remaining},
        number=number,
        size=size,
        canary=canary,
    )


def _finish(snapshot: Snapshot) -> Finish:
    return Finish(
        rule="rollout.finished",
        reason=(
            f"{snapshot.updated_nodes} of {snapshot.total_nodes} nodes updated, "
            f"{snapshot.failed_nodes} failed, {snapshot.deferred} deferred"
        ),
        facts={
            "updated": snapshot.updated_nodes,
            "failed": snapshot.failed_nodes,
            "deferred": snapshot.deferred,
        },
        makes_stable=snapshot.total_nodes > 0,
    )
