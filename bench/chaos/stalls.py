"""How long decisions took to be seen, from commit to commit, beyond what the faults explain."""

from dataclasses import dataclass

# From the commit that settled a wave's last node, or submitted the version, to the commit of what
# was decided then. Where a person resumed or promoted, the time before was the person's.
WAITS = """
    WITH opened AS (
        SELECT o.job_id, o.rollout_id, o.job_seq, o.kind, o.xmin,
            pg_xact_commit_timestamp(o.xmin) AS at
        FROM jobs_event o
        WHERE (o.kind IN ('wave.opened', 'rollout.completed', 'rollout.halted')
                OR (o.kind = 'rollout.paused' AND o.details ->> 'reason' = 'awaiting_promotion'))
            AND NOT EXISTS (SELECT 1 FROM jobs_event p
                WHERE p.job_id = o.job_id AND p.xmin = o.xmin AND (p.kind = 'rollout.resumed'
                    OR (p.kind = 'canary.promoted' AND p.details ->> 'rule' = 'canary.promoted')))
    )
    SELECT extract(epoch FROM before.at), extract(epoch FROM opened.at), opened.rollout_id,
        opened.kind, before.kind
    FROM opened CROSS JOIN LATERAL (
        SELECT pg_xact_commit_timestamp(b.xmin) AS at, b.kind FROM jobs_event b
        WHERE b.job_id = opened.job_id AND b.job_seq < opened.job_seq
            AND (b.rollout_id = opened.rollout_id OR b.kind = 'job.submitted')
            AND b.xmin <> opened.xmin
        ORDER BY pg_xact_commit_timestamp(b.xmin) DESC LIMIT 1
    ) before
    WHERE before.at IS NOT NULL
"""
# Waits above it are listed, each with what was wrong meanwhile.
TELLING = 3.0
# The database is away, or a process sleeps that may hold a job's lock or be waited for. Kills hold
# nothing: whatever dies, the others must go on by themselves.
HOLDING = ("postgres.", "worker.stop", "web.stop", "valkey.stop")
# As long as all of these are dead at the same time, nobody is left to decide.
DECIDERS = ("web-1", "web-2", "worker-1", "worker-2")
OF_SERVERS = ("web.", "worker.", "beat.", "postgres.", "valkey.")


@dataclass(frozen=True, slots=True, order=True)
class Stall:
    """A wait for a decision, in seconds beyond the faults, and what it was.

    Those seconds are a sum: who waits through five restarts of the database begins five times to
    catch up. `stretch` is the longest of its parts, in which nothing held it up.
    """

    seconds: float
    stretch: float = 0.0
    what: str = ""

    def __str__(self):
        """Say it in a line."""
        return f"{self.seconds:.2f} s, {self.stretch:.2f} s at a stretch {self.what}".rstrip()


def long_waits(cursor, spans):
    """Return the longest wait first, and after it all others above TELLING."""
    held = [(s.start, s.end) for s in spans if s.kind.startswith(HOLDING)]
    outages = _merged(held + _nobody_stands(spans))
    found = [Stall(0.0)]
    cursor.execute(WAITS)
    for since, until, rollout, decision, cause in cursor.fetchall():
        begin, end = float(since), float(until)
        parts = between(begin, end, outages)
        wait, stretch = sum(parts), max(parts, default=0.0)
        if wait > TELLING or wait > max(found).seconds:
            what = f"from {cause} to {decision} of rollout {rollout}, {end - begin:.2f} s in all"
            found.append(Stall(wait, stretch, f"({what}; {_meanwhile(spans, begin, end)})"))
    found.sort(reverse=True)
    return [found[0], *(stall for stall in found[1:] if stall.seconds > TELLING)]


def between(begin, end, outages):
    """Return the lengths of what is left of a time without the outages, which come in order."""
    parts = []
    for start, over in outages:
        if over > begin and start < end:
            parts.append(start - begin)
            begin = over
    return [part for part in (*parts, end - begin) if part > 0]


def _meanwhile(spans, begin, end):
    """Say which server processes were not there, and when, in seconds of the wait."""
    told = sorted(
        (max(0.0, s.start - begin), min(end, s.end) - begin, f"{s.kind} {s.name}")
        for s in spans
        if s.kind.startswith(OF_SERVERS) and s.start < end and s.end > begin
    )
    return ", ".join(f"{since:.1f}-{until:.1f} {name}" for since, until, name in told) or "no fault"


def _nobody_stands(spans):
    """Return when every process that decides was dead, or not there again yet."""
    common = None
    for name in DECIDERS:
        down = _merged(
            (s.start, s.end)
            for s in spans
            if s.name == name and s.kind.endswith((".kill", ".term"))
        )
        common = down if common is None else _common(common, down)
    return common


def _common(some, others):
    pairs = ((max(a, c), min(b, d)) for a, b in some for c, d in others)
    return [(start, end) for start, end in pairs if start < end]


def _merged(spans):
    merged = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(end, merged[-1][1])
        else:
            merged.append([start, end])
    return merged
