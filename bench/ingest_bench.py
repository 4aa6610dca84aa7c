"""Row 7: reports taken in durably, beside one UPDATE … FROM unnest of as many rows."""

import argparse
import statistics
import time

from ground import forget_jobs, ground, make_fleet, pipeline, sql
from ledger import Figure, load, record, spread
from placement_bench import plan_and_place, submit

BATCH = 500
REPEATS = 3
WORDS = ("starting", "running")


def bare(ids, number):
    """Update as many rows as a batch has reports, in one transaction."""
    from django.db import transaction

    with transaction.atomic():
        sql(
            """
            UPDATE rollouts_execution e SET observed_message = u.message, revision = e.revision + 1,
                updated_at = now()
            FROM unnest(%s::uuid[], %s::text[]) AS u(id, message) WHERE e.id = u.id
            """,
            [ids, [f"report {number}"] * len(ids)],
        )


def batches(rows, word, seq):
    """Frames as gateways collect them: 500 reports of 500 nodes."""
    from agent.protocol import State
    from rollouts.ingest import Incoming

    for start in range(0, len(rows), BATCH):
        yield [
            Incoming(
                node_id=node_id,
                frame=State(seq=seq, execution_id=str(execution_id), observed_state=word),
            )
            for execution_id, node_id in rows[start : start + BATCH]
        ]


def windows(rows, number, seq):
    """Health windows, the report that is sent most: five of six change no state."""
    from django.utils import timezone

    from agent.protocol import WindowReport
    from rollouts.ingest import Incoming

    now = timezone.now().isoformat()
    for start in range(0, len(rows), BATCH):
        yield [
            Incoming(
                node_id=node_id,
                frame=WindowReport(
                    seq=seq,
                    execution_id=str(execution_id),
                    number=number,
                    started_at=now,
                    ended_at=now,
                    messages_in=100,
                    messages_ok=100,
                ),
            )
            for execution_id, node_id in rows[start : start + BATCH]
        ]


def rate(rows, all_batches):
    """Give reports a second through the ingest."""
    from rollouts.ingest import ingest

    ready = list(all_batches)
    begin = time.perf_counter()
    for batch in ready:
        assert not ingest(batch).dropped
    return len(rows) / (time.perf_counter() - begin)


def measure(count):
    """Give reports a second by kind."""
    found = {"bare": [], "states": [], "windows": []}
    for _ in range(REPEATS):
        forget_jobs()
        plan_and_place(submit(pipeline(strategy="immediate")))
        sql("VACUUM ANALYZE rollouts_execution")
        rows = sql("SELECT id, node_id FROM rollouts_execution ORDER BY id LIMIT %s", [count])
        ids = [execution_id for execution_id, _ in rows]
        begin = time.perf_counter()
        for start in range(0, len(ids), BATCH):
            bare(ids[start : start + BATCH], start)
        found["bare"].append(len(ids) / (time.perf_counter() - begin))
        for seq, word in enumerate(WORDS, start=1):
            found["states"].append(rate(rows, batches(rows, word, seq)))
        for number in (1, 2):
            found["windows"].append(rate(rows, windows(rows, number, 2 + number)))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reports", type=int, default=5_000)
    count = parser.parse_args().reports
    at_start = load()
    with ground():
        make_fleet(count)
        found = measure(count)
    limit = statistics.median(found["bare"])
    states, seen = statistics.median(found["states"]), statistics.median(found["windows"])
    method = (
        f"batches of {BATCH}, one process, fsync on; limit: UPDATE … FROM unnest in the same "
        f"batches {spread(found['bare'], 'a second', digits=0)}; under cProfile most of our time "
        "is Python: rows through the ORM, folding, doorbells"
    )
    record(
        [
            Figure(
                row="7",
                what="durable ingest of state reports: row, event, due job, acknowledged number",
                goal=">= 0.35x",
                figure=f"{states / limit:.2f}x; {spread(found['states'], 'a second', digits=0)}",
                met=states / limit >= 0.35,
                method=method,
            ),
            Figure(
                row="7w",
                what="durable ingest of health windows: judged, row and window stored",
                goal=">= 0.35x",
                figure=f"{seen / limit:.2f}x; {spread(found['windows'], 'a second', digits=0)}",
                met=seen / limit >= 0.35,
                method=method,
            ),
        ],
        at_start,
    )


if __name__ == "__main__":
    main()
