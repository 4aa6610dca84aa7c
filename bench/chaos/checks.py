"""What must never be found after a run: plain SQL, each statement returns the rows that break it.

The tables whose names begin with `ev_` are the harness's own evidence, loaded by `load_evidence`:
what the scripts wrote on their nodes' disks, what the agents' journals say, and what users were
promised. `tests/rollouts/test_chaos_checks.py` shows that each of them can fail.
"""

from dataclasses import dataclass, field

TERMINAL = "('completed', 'failed', 'stopped', 'lost')"
# Ends that the control plane decides by itself; then the agent knows another one.
BY_SERVER = "('health_deadline_exceeded', 'previous_not_stopped', 'too_many_restarts')"

EVIDENCE = """
CREATE TEMP TABLE ev_disk (node text, execution_id uuid, word text);
CREATE TEMP TABLE ev_journal (node text, execution_id uuid, phase text, attempt int);
CREATE TEMP TABLE ev_unsent (node text, frames int);
CREATE TEMP TABLE ev_accepted (job_id uuid, version int);
"""

_STATES = """
    SELECT job_id, execution_id, job_seq, details ->> 'old_state' AS old,
        details ->> 'new_state' AS new, kind,
        lag(details ->> 'new_state') OVER (PARTITION BY execution_id ORDER BY job_seq) AS before
    FROM jobs_event WHERE execution_id IS NOT NULL AND details ? 'new_state'
"""

LOST = {
    "lost: began on a node's disk, unknown here": """
        SELECT d.* FROM ev_disk d LEFT JOIN rollouts_execution e ON e.id = d.execution_id
        WHERE e.id IS NULL""",
    "lost: came to its end on disk, here it did not": """
        SELECT d.*, e.observed_state, e.error_code, e.desired_state
        FROM ev_disk d JOIN rollouts_execution e ON e.id = d.execution_id
        WHERE d.word = 'end' AND e.observed_state <> 'completed'
            AND NOT (e.desired_state = 'stopped' AND e.observed_state = 'stopped')
            AND NOT (e.observed_state = 'failed' AND e.error_code = 'agent_stopped')""",
    "lost: ended in an agent's journal, otherwise here": f"""
        SELECT j.*, e.observed_state, e.error_code
        FROM ev_journal j LEFT JOIN rollouts_execution e ON e.id = j.execution_id
        WHERE j.phase IN ('completed', 'failed', 'stopped')
            AND (e.id IS NULL OR e.observed_state <> j.phase)
            -- A node remembers its last 2,000 ends. Of an older one it says that it does not know
            -- it, and notes that as stopped; its result had come long before.
            AND NOT (j.phase = 'stopped' AND e.desired_state = 'stopped' AND EXISTS (
                SELECT 1 FROM rollouts_result r WHERE r.execution_id = e.id))
            AND coalesce(e.error_code, '') NOT IN {BY_SERVER}""",
    "lost: reports that were never committed": "SELECT * FROM ev_unsent WHERE frames > 0",
    "lost: a version that was promised to a user": """
        SELECT a.* FROM ev_accepted a
        LEFT JOIN jobs_jobversion v ON v.job_id = a.job_id AND v.number = a.version
        WHERE v.id IS NULL""",
    "lost: a result": f"""
        SELECT e.id, e.observed_state, e.error_code FROM rollouts_execution e
        JOIN jobs_job j ON j.id = e.job_id AND j.job_type = 'script'
        LEFT JOIN rollouts_result r ON r.execution_id = e.id
        WHERE e.observed_state IN ('completed', 'failed') AND r.execution_id IS NULL
            AND e.error_code NOT IN {BY_SERVER}""",
    "lost: completed here, but its end is on no disk": """
        SELECT e.id FROM rollouts_execution e
        WHERE e.observed_state = 'completed' AND EXISTS (SELECT 1 FROM ev_disk)
            AND NOT EXISTS (SELECT 1 FROM ev_disk d
                WHERE d.execution_id = e.id AND d.word = 'end')""",
}
DOUBLED = {
    "doubled: began or ended twice on disk": """
        SELECT execution_id, word, count(*) FROM ev_disk
        GROUP BY execution_id, word HAVING count(*) > 1""",
    "doubled: ran on a node that is not its own": """
        SELECT d.*, n.name FROM ev_disk d JOIN rollouts_execution e ON e.id = d.execution_id
        JOIN nodes_node n ON n.id = e.node_id WHERE n.name <> d.node""",
}
VIOLATIONS = {
    "S1 two rollouts of a job under way": """
        SELECT job_id, count(*) FROM rollouts_rollout
        WHERE state IN ('active', 'paused') GROUP BY job_id HAVING count(*) > 1""",
    "S2 two live executions of a job on a node": """
        SELECT job_id, node_id, count(*) FROM rollouts_execution
        WHERE observed_state IN ('starting', 'validating', 'running', 'degraded')
        GROUP BY job_id, node_id HAVING count(*) > 1""",
    "S2 two wanted executions of a job on a node": """
        SELECT job_id, node_id, count(*) FROM rollouts_execution
        WHERE desired_state = 'running' GROUP BY job_id, node_id HAVING count(*) > 1""",
    "S3 a wave larger than it may be": """
        SELECT r.id, e.rollout_wave, count(*), r.wave_size, r.canary_size
        FROM rollouts_rollout r JOIN rollouts_execution e ON e.rollout_id = r.id
        -- A canary whose node refused it (a full disk) is replaced by another.
        WHERE e.rollout_wave > 0 AND e.observed_state <> 'stopped'
        GROUP BY r.id, e.rollout_wave HAVING count(*) > CASE
            WHEN r.canary_size > 0 AND e.rollout_wave = 1 THEN r.canary_size
            ELSE r.wave_size END""",
    "S4 a wave opened before the one before it had settled": """
        SELECT o.rollout_id, o.details FROM jobs_event o
        WHERE o.kind = 'wave.opened' AND (o.details ->> 'wave')::int > 1 AND (
            SELECT coalesce(sum((p.details ->> 'size')::int), 0) FROM jobs_event p
            WHERE p.rollout_id = o.rollout_id AND p.kind = 'wave.opened'
                AND (p.details ->> 'wave')::int = (o.details ->> 'wave')::int - 1
        ) IS DISTINCT FROM (
            SELECT coalesce(sum(coalesce((s.details ->> 'updated')::int, 0)
                + coalesce((s.details ->> 'failed')::int, 0)
                + coalesce((s.details ->> 'stopped')::int, 0)), 0)
            FROM jobs_event s
            WHERE s.rollout_id = o.rollout_id AND s.kind = 'wave.settled'
                AND s.job_seq < o.job_seq
                AND (s.details ->> 'wave')::int = (o.details ->> 'wave')::int - 1
        )""",
    "S5 something after a final state": f"""
        SELECT * FROM ({_STATES}) s
        WHERE before IN ('completed', 'failed', 'stopped') AND kind <> 'execution.resurrected'""",
    "S5 an event that does not begin where the one before ended": f"""
        SELECT * FROM ({_STATES}) s WHERE before IS NOT NULL AND before <> old""",
    "S5 a row that says something else than its last event": f"""
        SELECT e.id, e.observed_state, s.new FROM rollouts_execution e
        LEFT JOIN LATERAL (SELECT new FROM ({_STATES}) s WHERE s.execution_id = e.id
            ORDER BY job_seq DESC LIMIT 1) s ON TRUE
        WHERE s.new IS DISTINCT FROM e.observed_state""",
    "S6 a gap in a job's events": """
        SELECT j.id, j.event_seq, count(v.id), min(v.job_seq), max(v.job_seq)
        FROM jobs_job j LEFT JOIN jobs_event v ON v.job_id = j.id
        GROUP BY j.id, j.event_seq
        HAVING j.event_seq <> count(v.id) OR j.event_seq <> coalesce(max(v.job_seq), 0)""",
    "S6 a version without its number": """
        SELECT j.id, j.version, count(v.id) FROM jobs_job j
        LEFT JOIN jobs_jobversion v ON v.job_id = j.id
        GROUP BY j.id, j.version HAVING j.version <> count(v.id) OR j.version <> max(v.number)""",
    "S7 a completed rollout with an unsettled node": """
        SELECT r.id, t.state FROM rollouts_rollout r
        JOIN rollouts_rollouttarget t ON t.rollout_id = r.id
        WHERE r.state = 'completed' AND t.state IN ('released', 'remaining')""",
    "S8 something placed after a rollout had ended badly": """
        SELECT c.rollout_id, c.execution_id FROM jobs_event c
        JOIN jobs_event h ON h.rollout_id = c.rollout_id AND h.job_seq < c.job_seq
            AND h.kind IN ('rollout.halted', 'rollout.cancelled', 'rollout.superseded')
        WHERE c.kind = 'execution.created' AND (c.details ->> 'wave')::int > 0""",
    "S8 a limit was crossed, and the next wave opened": """
        SELECT r.id, o.details FROM rollouts_rollout r
        JOIN jobs_jobversion v ON v.id = r.version_id
        JOIN jobs_event o ON o.rollout_id = r.id AND o.kind = 'wave.opened'
        WHERE (SELECT coalesce(sum((s.details ->> 'failed')::int), 0) FROM jobs_event s
            WHERE s.rollout_id = r.id AND s.kind = 'wave.settled' AND s.job_seq < o.job_seq)
            > (v.spec #>> '{rollout,max_failed_nodes}')::int""",
    "S9 a rollback of a rollback": """
        SELECT v.job_id, v.number FROM jobs_jobversion v
        JOIN jobs_jobversion w ON w.job_id = v.job_id AND w.number = v.rolled_back_from
        WHERE v.cause = 'rollback' AND v.created_by = 'scheduler' AND w.cause = 'rollback'""",
    "S9 stable once, and forgotten": """
        SELECT e.id FROM rollouts_execution e JOIN jobs_event v ON v.execution_id = e.id
        WHERE v.kind = 'execution.stable' AND e.stable_at IS NULL""",
    "S10 a decision made twice": """
        SELECT rollout_id, wave, kind, generation, count(*) FROM rollouts_evaluation
        WHERE rollout_id IS NOT NULL AND kind <> ''
        GROUP BY rollout_id, wave, kind, generation HAVING count(*) > 1""",
    "S10 a rollout that ended, or was promoted, more than once": """
        SELECT rollout_id, kind, count(*) FROM jobs_event
        WHERE kind IN ('rollout.started', 'rollout.completed', 'rollout.halted',
            'rollout.cancelled', 'rollout.superseded', 'canary.promoted')
        GROUP BY rollout_id, kind HAVING count(*) > 1""",
    "S10 a wave without its decision": """
        SELECT v.rollout_id, v.details FROM jobs_event v
        WHERE v.kind = 'wave.opened' AND NOT EXISTS (SELECT 1 FROM rollouts_evaluation d
            WHERE d.rollout_id = v.rollout_id AND d.kind = 'wave.open'
                AND d.wave = (v.details ->> 'wave')::int)""",
    "S12 a count that differs from a recount": """
        SELECT r.id, r.total_nodes, r.updated_nodes, r.failed_nodes, c.*
        FROM rollouts_rollout r CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE t.state <> 'left') AS total,
                count(*) FILTER (WHERE t.state IN ('updated', 'current')) AS updated,
                count(*) FILTER (WHERE t.state = 'failed') AS failed
            FROM rollouts_rollouttarget t WHERE t.rollout_id = r.id) c
        WHERE (r.total_nodes, r.updated_nodes, r.failed_nodes)
            IS DISTINCT FROM (c.total::int, c.updated::int, c.failed::int)""",
    "S12 a node counted as what it is not": """
        SELECT t.id, t.state, e.observed_state FROM rollouts_rollouttarget t
        JOIN rollouts_execution e ON e.rollout_id = t.rollout_id AND e.node_id = t.node_id
        JOIN jobs_job j ON j.id = e.job_id AND j.job_type = 'script'
        WHERE (t.state = 'updated' AND e.observed_state <> 'completed')
            OR (t.state = 'failed' AND e.observed_state NOT IN ('failed', 'lost'))""",
    "S14 due, and nobody looked": """
        SELECT id, reconcile_due_at FROM jobs_job
        WHERE reconcile_due_at < now() - interval '10 seconds'""",
    "S14 not finished in time": f"""
        SELECT e.id, e.observed_state, e.desired_state, e.node_id FROM rollouts_execution e
        JOIN jobs_job j ON j.id = e.job_id AND j.job_type = 'script'
        WHERE e.observed_state NOT IN {TERMINAL}""",
    "S14 a desired state that no agent was told of": """
        SELECT e.id, e.desired_seq, e.delivered_seq FROM rollouts_execution e
        JOIN nodes_node n ON n.id = e.node_id AND n.connection_state = 'connected'
        WHERE e.delivered_seq < e.desired_seq""",
    "S14 a rollout that did not end": """
        SELECT id, state, pause_reason, waiting_on FROM rollouts_rollout
        WHERE state IN ('active', 'paused')""",
    "S15 an execution of another spec than its version's": """
        SELECT e.id FROM rollouts_execution e JOIN jobs_jobversion v ON v.id = e.version_id
        WHERE e.run_hash <> v.run_hash OR e.job_version <> v.number OR e.job_id <> v.job_id""",
    "S16 a node blamed for a silence that was short": """
        SELECT execution_id, details FROM jobs_event
        WHERE execution_id IS NOT NULL AND details ->> 'new_state' = 'lost'""",
    "S20 a change by a user without its audit row": """
        SELECT v.job_id, v.number FROM jobs_jobversion v
        WHERE v.created_by <> 'scheduler' AND NOT EXISTS (SELECT 1 FROM access_auditentry a
            WHERE a.object_id = v.job_id::text AND a.action = 'job.submit'
                AND a.outcome = 'done')""",
    "S21 a rollout's tally that differs from a recount": """
        WITH counted AS (
            SELECT t.rollout_id, t.wave, t.state, t.ring, coalesce((
                SELECT e.observed_state FROM rollouts_execution e
                WHERE e.rollout_id = t.rollout_id AND e.node_id = t.node_id
                ORDER BY e.created_at DESC, e.id DESC LIMIT 1), '') AS seen, count(*) AS n
            FROM rollouts_rollouttarget t WHERE t.state <> 'left' GROUP BY 1, 2, 3, 4, 5
        ), kept AS (
            SELECT rollout_id, wave, state, ring, seen, count AS n
            FROM rollouts_rollouttally WHERE state <> '' AND count <> 0
        )
        SELECT 'kept', * FROM (TABLE kept EXCEPT TABLE counted) a
        UNION ALL SELECT 'counted', * FROM (TABLE counted EXCEPT TABLE kept) b""",
    "S21 a job's tally that differs from a recount": """
        WITH counted AS (
            SELECT job_id, desired_state, observed_state, count(*) AS n
            FROM rollouts_execution GROUP BY 1, 2, 3
        ), kept AS (
            SELECT job_id, desired_state, observed_state, count AS n
            FROM rollouts_jobtally WHERE count <> 0
        )
        SELECT 'kept', * FROM (TABLE kept EXCEPT TABLE counted) a
        UNION ALL SELECT 'counted', * FROM (TABLE counted EXCEPT TABLE kept) b""",
    "an end without its time, or a time without an end": """
        SELECT id, observed_state, finished_at FROM rollouts_execution
        WHERE (observed_state IN ('completed', 'failed', 'stopped')) <> (finished_at IS NOT NULL)
            AND observed_state <> 'lost'""",
}
CHECKS = {"lost": LOST, "doubled": DOUBLED, "violations": VIOLATIONS}


@dataclass(slots=True)
class Evidence:
    """What the harness knows by itself."""

    disk: list[tuple[str, str, str]] = field(default_factory=list)
    journal: list[tuple[str, str, str, int]] = field(default_factory=list)
    unsent: list[tuple[str, int]] = field(default_factory=list)
    accepted: list[tuple[str, int]] = field(default_factory=list)


def load_evidence(cursor, evidence):
    """Put the evidence beside the product's tables, for this session alone."""
    cursor.execute(EVIDENCE)
    for table, rows in (
        ("ev_disk", evidence.disk),
        ("ev_journal", evidence.journal),
        ("ev_unsent", evidence.unsent),
        ("ev_accepted", evidence.accepted),
    ):
        if rows:
            marks = ", ".join(["%s"] * len(rows[0]))
            cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
    cursor.execute("ANALYZE ev_disk; ANALYZE ev_journal")


def run_checks(cursor):
    """Return group -> check -> the rows that break it, checks that found nothing left out."""
    found = {}
    for group, checks in CHECKS.items():
        found[group] = {}
        for name, statement in checks.items():
            cursor.execute(statement)
            if rows := cursor.fetchall():
                found[group][name] = rows
    return found
