"""Row 6: judging 100,000 executions' windows, beside one bare classifying statement.

Health is judged as windows arrive (docs/adr/0011): no pass over a fleet judges anything. What is
timed here is what the ingest spends on judging alone, one window for each execution, by the pure
functions of `rollouts.observation`; the statement classifies what is stored of as many.
"""

import argparse
import statistics
import time
from datetime import UTC, datetime, timedelta

from ground import ground, sql
from ledger import Figure, exponent, load, record, spread

SIZES = (100, 1_000, 10_000, 100_000)
REPEATS = 5
WINDOWS = 3
FILL = """
CREATE UNLOGGED TABLE bench_window AS SELECT e AS execution, n AS number, 100 AS messages_in,
    CASE WHEN e %% 50 = 0 THEN 20 ELSE 0 END AS errors, TRUE AS process_alive, 0 AS restarts
FROM generate_series(1, %s) e, generate_series(1, %s) n
"""
# The last windows of each execution, judged and counted into a verdict.
BARE = """
SELECT verdict, count(*) FROM (
    SELECT execution, CASE WHEN count(*) FILTER (WHERE healthy) >= 2 THEN 'stable'
        WHEN count(*) FILTER (WHERE NOT healthy) >= 3 THEN 'failed' ELSE 'undecided' END AS verdict
    FROM (SELECT execution, process_alive AND restarts = 0
        AND errors <= 0.05 * greatest(1, messages_in) AS healthy FROM bench_window) w
    GROUP BY execution) v GROUP BY verdict
"""


def timed(work):
    """Give the seconds that `work` takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def judging(size):
    """Return the work of judging one window of each of `size` executions."""
    from rollouts.facts import Facts
    from rollouts.observation import Rules, apply_window, judge_window
    from rollouts.reports import WindowSeen

    now, rules = datetime(2026, 1, 1, tzinfo=UTC), Rules(validates=True)
    facts = Facts(observed_state="validating", healthy_streak=1, window_count=1, validating_at=now)
    seen = [
        WindowSeen(
            execution_id=str(number),
            number=2,
            started_at=now,
            ended_at=now + timedelta(seconds=10),
            messages_in=100,
            errors=20 if number % 50 == 0 else 0,
        )
        for number in range(size)
    ]

    def judge():
        stable = 0
        for window in seen:
            judge_window(rules, window)
            told = apply_window(facts, rules, window, now, late=False)
            stable += told.facts.stable_at is not None
        assert stable == size - len(range(0, size, 50)), stable

    return judge


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.parse_args()
    at_start, found = load(), {}
    with ground():
        for size in SIZES:
            sql("DROP TABLE IF EXISTS bench_window")
            sql(FILL, [size, WINDOWS])
            sql("ANALYZE bench_window")
            judge = judging(size)
            found[size] = [(timed(judge), timed(lambda: sql(BARE))) for _ in range(REPEATS)]
    ours, bare = zip(*found[SIZES[-1]], strict=True)
    ratio = statistics.median(ours) / statistics.median(bare)
    slope = exponent([(n, statistics.median(o for o, _ in it)) for n, it in found.items()])
    record(
        [
            Figure(
                row="6",
                what=f"judging one window of each of {SIZES[-1]:,} executions",
                goal="<= 1.5x",
                figure=f"{ratio:.2f}x; {spread(ours)}",
                met=ratio <= 1.5,
                method=(
                    f"one statement over the last {WINDOWS} windows of as many: {spread(bare)}; "
                    "ours runs inside the ingest, each window once, and nothing judges a fleet "
                    "again (ADR 0011)"
                ),
                why=(
                    "the judge is the pure function that the simulator runs too, one call in "
                    "Python for each window, where the statement classifies columns; it is paid "
                    "once, as the window is stored (row 7w), and a decision reads verdicts"
                ),
            ),
            Figure(
                row="17j",
                what="growth of judging with the number of executions",
                goal="exponent <= 1.05",
                figure=f"{slope:.2f}",
                met=slope <= 1.05,
                method=f"{', '.join(f'{size:,}' for size in SIZES)} executions",
            ),
        ],
        at_start,
    )


if __name__ == "__main__":
    main()
