"""Rows 5 and 17: what a decision costs after the last report of a wave in a large rollout."""

import argparse
import time
from contextlib import contextmanager

from ground import forget_jobs, ground, make_fleet, pipeline, sql
from ledger import Figure, load, percentile, record, spread
from placement_bench import plan_and_place, submit
from plan_bench import decision_seconds

ROUNDS = 6
STEPS = ("settle", "snapshot", "plan", "place")


class Stopwatch:
    """Seconds by step of one decision."""

    def __init__(self):
        self.steps = dict.fromkeys(STEPS, 0.0)

    @contextmanager
    def of(self, step):
        """Count what happens inside to a step."""
        begin = time.perf_counter()
        yield
        self.steps[step] += time.perf_counter() - begin


def settle_wave(number):
    """Make every execution of a wave stable, as the reports of its nodes would."""
    sql(
        "UPDATE rollouts_execution SET observed_state = 'running', stable_at = now(), "
        "deadline_at = NULL WHERE rollout_wave = %s",
        [number],
    )


def decide(job, watch):
    """Do what `reconcile_job` does after the last report, step by step; give its seconds."""
    from django.db import transaction
    from django.utils import timezone

    from jobs.services import lock_job
    from rollouts import scheduler
    from rollouts.actions import Scene, carry_out
    from rollouts.lifecycle import active_rollout
    from rollouts.planner import plan
    from rollouts.snapshot import build_snapshot
    from rollouts.terms import terms_of

    begin = time.perf_counter()
    with transaction.atomic():
        locked, now = lock_job(job.pk), timezone.now()
        rollout = active_rollout(locked)
        terms = terms_of(rollout.version, rollout.strategy)
        scene = Scene(job=locked, rollout=rollout, terms=terms, trigger="exec-update", now=now)
        with watch.of("settle"):
            scheduler._settle(scene)
        with watch.of("snapshot"):
            seen = build_snapshot(rollout, terms, now)
        with watch.of("plan"):
            actions = plan(seen, now)
        with watch.of("place"):
            for action in actions:
                carry_out(action, scene)
    return time.perf_counter() - begin


def timed(work):
    """Give the seconds that `work` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure_waves(rounds):
    """Decide after each wave of a tenth; give whole decisions, and every second one by steps."""
    forget_jobs()
    job = submit(pipeline(strategy="rolling", max_parallel=10))
    plan_and_place(job)
    seconds, steps = [], []
    for number in range(1, rounds + 1):
        settle_wave(number)
        if number % 2:
            seconds.append(timed(lambda: plan_and_place(job)))
        else:
            steps.append(by_steps(job, seconds))
    return seconds, steps


def measure_canaries(rounds):
    """Decide after a canary wave of 100 that promotes itself, in a new rollout each time."""
    seconds, steps = [], []
    for number in range(rounds):
        forget_jobs()
        block = {"strategy": "canary", "canary_count": 100, "auto_promote": True}
        job = submit(pipeline(max_parallel=1, **block))
        plan_and_place(job)
        settle_wave(1)
        if number % 2:
            seconds.append(timed(lambda job=job: plan_and_place(job)))
        else:
            steps.append(by_steps(job, seconds))
    return seconds, steps


def by_steps(job, seconds):
    """Decide step by step; give the seconds of each step and note those of the whole."""
    watch = Stopwatch()
    seconds.append(decide(job, watch))
    return watch.steps


def figures(nodes, rounds):
    """Make the rows of the table."""
    for row, size, goal, measured in (
        ("5", nodes // 10, 0.3, measure_waves(rounds)),
        ("5s", 100, 0.05, measure_canaries(rounds)),
    ):
        seconds, steps = measured
        parts = {step: [steps_of[step] for steps_of in steps] for step in STEPS}
        decided = [sum(it[step] for step in STEPS if step != "place") for it in steps]
        slowest = percentile(decided, 0.99)
        yield Figure(
            row=row,
            what=f"decision after the last report of a wave of {size:,} of {nodes:,} nodes",
            goal=f"p99 <= {goal * 1e3:.0f} ms",
            figure=f"slowest {slowest * 1e3:.0f} ms; {spread(decided, 'ms', 1e3, 0)}",
            met=slowest <= goal,
            method=(
                f"settle {spread(parts['settle'], 'ms', 1e3, 0)}, "
                f"snapshot {spread(parts['snapshot'], 'ms', 1e3, 0)}, "
                f"plan {spread(parts['plan'], 'ms', 1e3, 1)}; after it the next wave is placed in "
                f"{spread(parts['place'], 'ms', 1e3, 0)}; all with commit "
                f"{spread(seconds, 'ms', 1e3, 0)}"
            ),
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100_000)
    nodes = parser.parse_args().nodes
    at_start = load()
    small, large = decision_seconds(10), decision_seconds(100_000)
    found = [
        Figure(
            row="17",
            what="the planner's decision itself, 100,000 nodes beside 10",
            goal="<= 1.5x",
            figure=f"{large / small:.2f}x; {large * 1e6:.1f} µs",
            met=large / small <= 1.5,
            method=f"10 nodes: {small * 1e6:.1f} µs, best of 7 rounds",
        )
    ]
    with ground():
        make_fleet(nodes)
        found += figures(nodes, ROUNDS)
    record(found, at_start)


if __name__ == "__main__":
    main()
