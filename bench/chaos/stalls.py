"""How long decisions took to be seen, from commit to commit, beyond what the faults explain."""

# From the commit that settled a wave's last node to the commit of what was decided then.
WAITS = """
    WITH opened AS (
        SELECT o.job_id, o.rollout_id, o.job_seq, pg_xact_commit_timestamp(o.xmin) AS at
        FROM jobs_event o
        WHERE o.kind IN ('wave.opened', 'rollout.completed', 'rollout.halted', 'canary.promoted')
            OR (o.kind = 'rollout.paused' AND o.details ->> 'reason' = 'awaiting_promotion')
    )
    SELECT extract(epoch FROM before.at), extract(epoch FROM opened.at), opened.rollout_id
    FROM opened CROSS JOIN LATERAL (
        SELECT max(pg_xact_commit_timestamp(b.xmin)) AS at FROM jobs_event b
        WHERE b.job_id = opened.job_id AND b.job_seq < opened.job_seq
            AND (b.rollout_id = opened.rollout_id OR b.kind = 'job.submitted')
            AND pg_xact_commit_timestamp(b.xmin) < opened.at
    ) before
    WHERE before.at IS NOT NULL
"""


def longest_decision(cursor, spans):
    """Return the longest wait, less the time in which nothing could have decided, and when."""
    outages = _merged(_nobody_could(spans))
    longest = (0.0, "")
    cursor.execute(WAITS)
    for since, until, rollout in cursor.fetchall():
        begin, end = float(since), float(until)
        wait = end - begin - sum(max(0.0, min(end, b) - max(begin, a)) for a, b in outages)
        if wait > longest[0]:
            longest = (wait, f"(rollout {rollout}, {end - begin:.2f} s with outages)")
    return longest


def _nobody_could(spans):
    """Give the spans in which the database was away; all else must go on by itself."""
    return [(s.start, s.end) for s in spans if s.kind.startswith("postgres.")]


def _merged(spans):
    merged = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([start, end])
    return merged
