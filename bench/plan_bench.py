"""Prints what a decision costs for 10 and for 100,000 nodes, and how the simulator scales."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from timeit import repeat

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))

from rollouts.health import HealthPolicy
from rollouts.planner import OpenWave, Policy, Snapshot, plan
from rollouts.preview import PreviewNode, preview
from rollouts.scenario import Scenario, random_fleet
from rollouts.simulator import Simulation
from rollouts.states import RolloutState, RolloutType, Strategy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(strategy=Strategy.CANARY, max_parallel=10, canary_percent=5, auto_promote=True)
CALLS = 2_000
# A decision may not cost noticeably more for a large fleet than for a small one.
LIMIT = 1.5


def moments(total: int) -> tuple[Snapshot, ...]:
    """The decisions of one rollout: opening, waiting, promoting, going on, halting."""
    fresh = Snapshot(
        rollout_type=RolloutType.UPDATE,
        policy=POLICY,
        total_nodes=total,
        remaining=total,
        fit=total,
        fit_canary=total,
        rollback_to_version=1,
    )
    canaries = max(1, total // 20)
    rest = {"total_nodes": total, "remaining": total - canaries, "fit": total - canaries}
    base = {"rollout_type": RolloutType.UPDATE, "policy": POLICY, "rollback_to_version": 1, **rest}
    return (
        fresh,
        Snapshot(**base, wave=OpenWave(number=1, size=canaries, unsettled=canaries)),
        Snapshot(**base, wave=OpenWave(number=1, size=canaries, stable=canaries)),
        Snapshot(**base, canary_promoted=True, wave=OpenWave(number=2, size=1, stable=1)),
        Snapshot(**base, canary_promoted=True, failed_nodes=total // 2),
    )


def decision_seconds(total: int) -> float:
    """Seconds for one decision, the best of several rounds."""
    snapshots = moments(total)

    def decide() -> None:
        for snapshot in snapshots:
            plan(snapshot, NOW)

    return min(repeat(decide, number=CALLS, repeat=7)) / CALLS / len(snapshots)


def simulation_seconds(total: int) -> tuple[float, int]:
    """Seconds for a whole simulated rollout, and the events that it made."""
    scenario = Scenario(
        nodes=random_fleet(1, total, failure_percent=1),
        policy=Policy(strategy=Strategy.ROLLING, max_failed_nodes=total),
        health=HealthPolicy(deadline=timedelta(minutes=2)),
    )
    runs: list[Simulation] = []
    seconds = min(repeat(lambda: runs.append(Simulation(scenario).run()), number=1, repeat=3))
    assert runs[-1].state is RolloutState.COMPLETED
    return seconds, len(runs[-1].events)


def main() -> int:
    small, large = decision_seconds(10), decision_seconds(100_000)
    ratio = large / small
    print(f"plan, 10 nodes        {small * 1e6:8.2f} us per decision")
    print(f"plan, 100,000 nodes   {large * 1e6:8.2f} us per decision")
    print(f"ratio                 {ratio:8.2f} (limit {LIMIT})")
    nodes = [PreviewNode(node_id=f"{n:06}", name=f"edge-{n}") for n in range(100_000)]
    seconds = min(repeat(lambda: preview(nodes, POLICY), number=1, repeat=3))
    print(f"preview, 100,000      {seconds * 1e3:8.2f} ms")
    for total in (100, 1_000, 10_000):
        seconds, events = simulation_seconds(total)
        rate = events / seconds
        print(f"simulation, {total:<9,} {seconds * 1e3:8.2f} ms, {rate:9,.0f} events a second")
    return 0 if ratio <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
