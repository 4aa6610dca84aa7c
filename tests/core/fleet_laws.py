"""What must hold of every simulated rollout, read off its events alone (docs/semantics.md 4.14)."""

from collections import Counter

from rollouts.history import PastEvent, fold
from rollouts.planner import canary_size, failure_limit_crossed, wave_size
from rollouts.states import FINISHED_ROLLOUT, RolloutState, RolloutType, Strategy, TargetState

SETTLED = {TargetState.UPDATED, TargetState.FAILED, TargetState.STOPPED, TargetState.LEFT}


def check_trace(events: list[PastEvent], scenario) -> None:
    """Check every law that needs only what was written down."""
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    starts = [i for i, event in enumerate(events) if event.kind == "rollout.started"]
    assert len(starts) <= 2, "a rollback is never rolled back"
    for number, start in enumerate(starts):
        end = starts[number + 1] if number + 1 < len(starts) else len(events)
        _check_rollout(events[start:end], scenario)
    if len(starts) == 2:
        assert events[starts[1]].details["type"] == RolloutType.ROLLBACK
        assert scenario.rollout_type is not RolloutType.ROLLBACK
        assert scenario.rollback_to_version
        assert not scenario.rollback_is_identical
        assert scenario.policy.auto_rollback
        assert not scenario.one_shot


def _check_rollout(events: list[PastEvent], scenario) -> None:
    seen: Counter[str] = Counter()
    placed: Counter[str] = Counter()
    for index, event in enumerate(events):
        seen[event.kind] += 1
        if event.kind == "wave.opened":
            _check_opening(fold(events[:index]), event, scenario, events[0])
        if event.kind == "execution.created":
            placed[event.details["node"]] += 1
        if event.kind == "rollout.completed":
            past = fold(events[:index])
            assert past.remaining_nodes == past.unsettled_nodes == 0
            assert past.state is not RolloutState.PAUSED or past.pause_reason != "manual"
    joined = {event.details["node"] for event in events if event.kind == "node.joined"}
    assert all(count == 1 or node in joined for node, count in placed.items())
    ends = [f"rollout.{state}" for state in FINISHED_ROLLOUT]
    assert sum(seen[kind] for kind in ends) <= 1
    assert seen["canary.promoted"] <= 1


def _check_opening(past, event, scenario, started) -> None:
    wave, size = event.details["wave"], event.details["size"]
    immediate = started.details["strategy"] == Strategy.IMMEDIATE
    policy = scenario.policy
    assert past.state not in FINISHED_ROLLOUT, "nothing is placed once it is halted"
    assert past.pause_reason != "manual", "nothing is placed while paused"
    assert size > 0
    if immediate:
        assert wave == 0
        return
    if policy.strategy is Strategy.CANARY and wave == 1:
        assert not past.canary_promoted
        assert past.unsettled_nodes + size <= canary_size(past.total_nodes, policy)
        assert wave in (past.current_wave, past.current_wave + 1)
        return
    assert past.unsettled_nodes == 0, "no wave opens before the last one has settled"
    assert wave == past.current_wave + 1
    assert size <= wave_size(past.total_nodes, policy.max_parallel)
    assert policy.strategy is not Strategy.CANARY or past.canary_promoted


def check_books(simulation) -> None:
    """Check that the events tell the same as the books, and that the books are in order."""
    past, targets = fold(simulation.events), simulation.targets
    snapshot = simulation.snapshot()
    assert past.state is simulation.state
    assert past.pause_reason == simulation.pause_reason
    assert past.job_state == simulation.job_state
    assert past.total_nodes == targets.total == snapshot.total_nodes
    assert past.updated_nodes == snapshot.updated_nodes
    assert past.failed_nodes == snapshot.failed_nodes
    assert past.deferred_nodes == snapshot.deferred
    assert past.remaining_nodes == snapshot.remaining
    assert past.unsettled_nodes == targets.buckets[TargetState.RELEASED]
    assert past.current_wave == targets.wave
    assert past.canary_promoted is simulation.canary_promoted
    _check_buckets(simulation, past)


def _check_buckets(simulation, past) -> None:
    """Every node is in exactly one bucket, and the events put it into the same."""
    targets = simulation.targets
    assert all(number >= 0 for number in targets.buckets.values())
    in_play = [n for n in simulation.nodes.values() if not n.is_outside]
    counted = Counter(node.target for node in in_play)
    assert sum(n for state, n in counted.items() if state is not TargetState.LEFT) == targets.total
    for state in set(TargetState) - {TargetState.LEFT}:
        assert counted[state] == targets.buckets[state], state
    for node in in_play:
        if node.name in past.nodes:
            assert past.nodes[node.name].target is node.target
        else:
            # LEFT: before the rollback began, whose events are all that is folded here.
            untold = {TargetState.REMAINING, TargetState.CURRENT, TargetState.LEFT}
            assert node.target in untold
        if node.execution and node.target in SETTLED - {TargetState.LEFT}:
            assert past.nodes[node.name].observed == node.execution.observed


def check_limits(simulation) -> None:
    """Failures over a limit end the rollout at the first decision."""
    if not simulation.is_over:
        assert failure_limit_crossed(simulation.snapshot()) == ""
        assert simulation.canary_promoted or simulation.snapshot().canaries_failed == 0
