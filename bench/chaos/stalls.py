"""How long decisions took to be seen, from commit to commit, beyond what the faults explain."""

# From the commit that settled a wave's last node, or submitted the version, to the commit of what
# was decided then. Where a person resumed or promoted, the time before was the person's.
WAITS = """
    WITH opened AS (
        SELECT o.job_id, o.rollout_id, o.job_seq, o.xmin, pg_xact_commit_timestamp(o.xmin) AS at
        FROM jobs_event o
        WHERE (o.kind IN ('wave.opened', 'rollout.completed', 'rollout.halted')
                OR (o.kind = 'rollout.paused' AND o.details ->> 'reason' = 'awaiting_promotion'))
            AND NOT EXISTS (SELECT 1 FROM jobs_event p
                WHERE p.job_id = o.job_id AND p.xmin = o.xmin AND (p.kind = 'rollout.resumed'
                    OR (p.kind = 'canary.promoted' AND p.details ->> 'rule' = 'canary.promoted')))
    )
    SELECT extract(epoch FROM before.at), extract(epoch FROM opened.at), opened.rollout_id
    FROM opened CROSS JOIN LATERAL (
        SELECT max(pg_xact_commit_timestamp(b.xmin)) AS at FROM jobs_event b
        WHERE b.job_id = opened.job_id AND b.job_seq < opened.job_seq
            AND (b.rollout_id = opened.rollout_id OR b.kind = 'job.submitted')
            AND b.xmin <> opened.xmin
    ) before
    WHERE before.at IS NOT NULL
"""


# The database is away, or a process sleeps that may hold a job's lock or be waited for. Kills hold
# nothing: whatever dies, the others must go on by themselves.
HOLDING = ("postgres.", "worker.stop", "web.stop", "valkey.stop")


def longest_decision(cursor, spans):
    """Return the longest wait beyond the faults that can hold a decision, and which it was."""
    outages = _merged((s.start, s.end) for s in spans if s.kind.startswith(HOLDING))
    longest = (0.0, "")
    cursor.execute(WAITS)
    for since, until, rollout in cursor.fetchall():
        begin, end = float(since), float(until)
        wait = end - begin - sum(max(0.0, min(end, b) - max(begin, a)) for a, b in outages)
        if wait > longest[0]:
            meanwhile = sorted({f"{s.kind} {s.name}" for s in spans if _meets(s, begin, end)})
            during = f"during {', '.join(meanwhile)}" if meanwhile else "without a fault"
            longest = (wait, f"(rollout {rollout}, {end - begin:.2f} s in all, {during})")
    return longest


def _meets(span, begin, end):
    """Say whether a server fault was under way: those of agents hold no decision."""
    is_server = span.kind.startswith(("web.", "worker.", "beat.", "postgres.", "valkey."))
    return is_server and span.start < end and span.end > begin


def _merged(spans):
    merged = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([start, end])
    return merged
