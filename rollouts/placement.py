"""Places, replaces, stops and revives sets of executions: one statement, whatever their number.

Every function here runs inside a transaction of `rollouts.scheduler`, under the job's
lock, and returns counts. Nothing is decided here (law 5).
"""

from datetime import datetime
from uuid import UUID

from jobs.models import Job, JobVersion
from rollouts.events import RETURNED, change_executions
from rollouts.models import Rollout
from rollouts.sets import change, fetch
from rollouts.terms import Terms

# Ends stay what they are when the work is no longer wanted (docs/semantics.md X86).
ENDED = "e.observed_state IN ('completed', 'failed', 'stopped', 'lost')"


def place_wave(
    job: Job,
    rollout: Rollout,
    terms: Terms,
    *,
    number: int,
    evaluation_id: UUID,
    now: datetime,
    is_first: bool = False,
) -> int:
    """Stop what runs on the nodes just released and create their new executions.

    The wave is placed by one INSERT … SELECT. Released nodes that have their execution already
    are left alone, so doing it twice does nothing. `is_first`: the job never ran anywhere.
    """
    waiting = (
        "SELECT t.node_id FROM rollouts_rollouttarget t WHERE t.rollout_id = %s AND t.wave = %s "
        # Not NOT EXISTS: an anti join would read the rows of its own INSERT again and again.
        "AND t.state = 'released' AND (SELECT x.id FROM rollouts_execution x "
        "WHERE x.rollout_id = t.rollout_id AND x.node_id = t.node_id LIMIT 1) IS NULL "
        "ORDER BY t.position"
    )
    return replace_executions(
        job,
        rollout.version,
        terms,
        chosen=waiting,
        params=[rollout.id, number],
        rollout=rollout,
        wave=number,
        evaluation_id=evaluation_id,
        now=now,
        is_first=is_first,
    )


def replace_executions(
    job: Job,
    version: JobVersion,
    terms: Terms,
    *,
    chosen: str,
    params: list[object],
    rollout: Rollout | None,
    wave: int,
    evaluation_id: UUID | None,
    now: datetime,
    is_first: bool = False,
) -> int:
    """Give each node that `chosen` yields an execution of `version` in place of its present one.

    `chosen` is SQL for a set of node ids. The old execution is told to stop; the agent starts
    the new one when it has (docs/semantics.md 1.5).
    """
    deadline = now + terms.start_deadline
    if not is_first:
        stop_executions(
            job,
            condition=_WANTED_ON.format(chosen=chosen),
            params=[job.id, *params],
            message=f"replaced by version {version.number}",
            stop_deadline=deadline,
            now=now,
        )
    created = change_executions(
        job_id=job.id,
        statement=_PLACE.format(chosen=chosen),
        params=[
            job.namespace_id,
            job.id,
            version.id,
            version.number,
            version.run_hash,
            rollout.id if rollout else None,
            evaluation_id,
            wave,
            now,
            deadline,
            now + 2 * terms.start_deadline,
            now,
            now,
            *params,
            job.id,
        ],
        kind="execution.created",
        message=f"version {version.number} placed",
        at=now,
    )
    if not is_first:
        change(_LINK, [job.id, now])
    return created


# An array, so that it is found once and by the keys, whatever the planner believes of its size.
_WANTED_ON = """e.id = ANY(ARRAY(
    SELECT (SELECT x.id FROM rollouts_execution x
        WHERE x.job_id = %s AND x.node_id = c.node_id AND x.desired_state = 'running')
    FROM ({chosen}) AS c(node_id)))"""
_LINK = """
    UPDATE rollouts_execution old SET next_id = new.id FROM rollouts_execution new
    WHERE new.job_id = %s AND new.created_at = %s AND old.id = new.previous_id
"""
_PLACE = f"""
    INSERT INTO rollouts_execution (namespace, job_id, version_id, job_version, run_hash,
        node_id, rollout_id, evaluation_id, rollout_wave, previous_id, desired_state,
        desired_message, desired_seq, delivered_seq, observed_state, observed_message,
        error_code, details, revision, attempt, restarts, healthy_streak, unhealthy_streak,
        window_count, released_at, deadline_at, deadline_cap_at, created_at, updated_at)
    SELECT %s, %s, %s, %s, %s, chosen.node_id, %s::uuid, %s::uuid, %s, previous_id, 'running', '',
        1, 0, 'pending', '', '', '{{{{}}}}', 1, 1, 0, 0, 0, 0, %s::timestamptz,
        CASE WHEN previous_state = 'stopping' THEN NULL ELSE %s::timestamptz END,
        %s::timestamptz, %s::timestamptz, %s::timestamptz
    FROM (
        SELECT wanted.node_id, previous.id, previous.observed_state
        FROM (
            SELECT c.node_id, row_number() OVER () AS place FROM ({{chosen}}) AS c(node_id)
        ) wanted
        LEFT JOIN LATERAL (
            SELECT x.id, x.observed_state FROM rollouts_execution x
            WHERE x.job_id = %s AND x.node_id = wanted.node_id
            -- A revived execution that is stopping now is older than the one that failed.
            ORDER BY x.observed_state = 'stopping' DESC, x.created_at DESC, x.id DESC LIMIT 1
        ) previous ON TRUE
        -- Sorted, so that all is read before the first row is written: else a plan made for a
        -- small table reads what this statement itself writes, over and over.
        ORDER BY wanted.place
    ) AS chosen(node_id, previous_id, previous_state)
    {RETURNED}
"""  # noqa: S608 - the fragments are ours, values are parameters


def stop_executions(
    job: Job,
    *,
    condition: str,
    params: list[object],
    message: str,
    stop_deadline: datetime | None,
    now: datetime,
) -> int:
    """Want every execution `e` of the job that meets `condition` and should run to be stopped."""
    cap = stop_deadline and stop_deadline + (stop_deadline - now)
    return change_executions(
        job_id=job.id,
        statement=f"""
        UPDATE rollouts_execution e SET
            desired_state = 'stopped', desired_seq = e.desired_seq + 1, desired_message = %s,
            observed_state = CASE WHEN {ENDED} THEN e.observed_state ELSE 'stopping' END,
            deadline_at = CASE WHEN {ENDED} THEN NULL ELSE %s::timestamptz END,
            -- A node that is away holds the wave up for twice the deadline at most.
            deadline_cap_at = CASE WHEN {ENDED} THEN NULL ELSE %s::timestamptz END,
            revision = e.revision + 1, updated_at = %s
        WHERE e.job_id = %s AND e.desired_state = 'running' AND {condition}
        {RETURNED}
        """,  # noqa: S608 - the fragments are ours, values are parameters
        params=[message, stop_deadline, cap, now, job.id, *params],
        kind="execution.stopped_by_scheduler",
        message=message,
        at=now,
    )


# The last execution of a node that was stable and has stopped: what a failed node returns to.
_REVIVABLE = """
    SELECT new.id AS failed_id, old.id AS old_id
    FROM rollouts_rollouttarget t
    JOIN rollouts_execution new ON new.rollout_id = t.rollout_id AND new.node_id = t.node_id
        AND new.observed_state IN ('failed', 'lost')
    CROSS JOIN LATERAL (
        SELECT x.id, x.observed_state, x.desired_state FROM rollouts_execution x
        WHERE x.job_id = new.job_id AND x.node_id = new.node_id AND x.id <> new.id
            AND x.stable_at IS NOT NULL
        ORDER BY x.created_at DESC, x.id DESC LIMIT 1
    ) old
    WHERE t.rollout_id = %s AND t.state = 'failed'
        AND old.observed_state = 'stopped' AND old.desired_state = 'stopped'
        AND NOT EXISTS (SELECT 1 FROM rollouts_execution y WHERE y.job_id = new.job_id
            AND y.node_id = new.node_id AND y.id <> new.id AND y.desired_state = 'running')
"""


def count_resurrectable(rollout: Rollout) -> int:
    """Count failed nodes whose last stable execution has stopped and could run again."""
    (row,) = fetch(f"SELECT count(*) FROM ({_REVIVABLE}) r", [rollout.id])  # noqa: S608 - ours
    return int(row[0])


def resurrect(job: Job, rollout: Rollout, terms: Terms, *, now: datetime) -> int:
    """Let the last stable execution of each failed node run again (docs/semantics.md 1.7, X06, X07).

    Its stable_at stays, so it is not validated again.
    """
    pairs = fetch(_REVIVABLE, [rollout.id])
    if not pairs:
        return 0
    failed_ids, old_ids = ([pair[i] for pair in pairs] for i in (0, 1))
    stop_executions(
        job,
        condition="e.id = ANY(%s)",
        params=[failed_ids],
        message="its node returns to the last stable execution",
        stop_deadline=None,
        now=now,
    )
    return change_executions(
        job_id=job.id,
        statement=f"""
        UPDATE rollouts_execution e SET desired_state = 'running',
            desired_seq = e.desired_seq + 1, desired_message = 'resurrected',
            observed_state = 'starting', attempt = e.attempt + 1, finished_at = NULL,
            healthy_streak = 0, unhealthy_streak = 0, last_window_at = NULL,
            released_at = %s, deadline_at = %s, error_code = '', observed_message = '',
            details = e.details || jsonb_build_object('resurrected_at', %s::text),
            revision = e.revision + 1, updated_at = %s
        WHERE e.id = ANY(%s)
        {RETURNED}
        """,  # noqa: S608 - likewise
        params=[now, now + terms.start_deadline, now.isoformat(), now, old_ids],
        kind="execution.resurrected",
        message="runs again: the newer version failed on its node",
        at=now,
    )


def arm_start_clocks(job: Job, terms: Terms, *, now: datetime) -> int:
    """Start the clock of executions that waited for their predecessor to stop (docs/semantics.md C02)."""
    return change(
        """
        UPDATE rollouts_execution e SET deadline_at = %s, deadline_cap_at = %s, released_at = %s
        FROM rollouts_execution previous
        WHERE e.job_id = %s AND e.desired_state = 'running' AND e.observed_state = 'pending'
            AND e.deadline_at IS NULL AND previous.id = e.previous_id
            AND previous.observed_state IN ('completed', 'failed', 'stopped', 'lost')
        """,
        [now + terms.start_deadline, now + 2 * terms.start_deadline, now, job.id],
    )


def stop_unwanted(job: Job, terms: Terms, match: str, params: list[object], now: datetime) -> int:
    """Stop what runs on nodes that no longer match or were deleted (docs/semantics.md 1.10, X25)."""
    wanted = f"n.enrolment_state = 'accepted' AND n.connection_state <> 'deleted' AND {match}"
    return stop_executions(
        job,
        condition=(
            f"(SELECT {wanted} FROM nodes_node n WHERE n.id = e.node_id) IS NOT TRUE"  # noqa: S608 - the fragments are ours
        ),
        params=params,
        message="its node no longer matches",
        stop_deadline=now + terms.start_deadline,
        now=now,
    )


def lose_executions(job: Job, *, now: datetime) -> int:
    """Mark what ran on lost or deleted nodes as lost; unvalidated work is not wanted any more.

    A stable execution stays wanted and revives by its own report (docs/semantics.md 1.5, X19, C04).
    """
    return change_executions(
        job_id=job.id,
        statement=f"""
        UPDATE rollouts_execution e SET observed_state = 'lost', deadline_at = NULL,
            desired_state = CASE WHEN e.stable_at IS NULL THEN 'stopped' ELSE e.desired_state END,
            desired_seq = e.desired_seq + CASE
                WHEN e.stable_at IS NULL AND e.desired_state = 'running' THEN 1 ELSE 0 END,
            observed_message = 'its node is lost', revision = e.revision + 1, updated_at = %s
        FROM nodes_node n
        WHERE n.id = e.node_id AND e.job_id = %s
            AND n.connection_state IN ('lost', 'deleted') AND NOT ({ENDED})
        {RETURNED}
        """,  # noqa: S608 - likewise
        params=[now, job.id],
        kind="execution.observed",
        message="its node is lost",
        at=now,
    )


def evict_drained(job: Job, terms: Terms, *, now: datetime) -> int:
    """Stop long-running work on nodes that are drained with eviction (docs/semantics.md 4.4)."""
    if terms.one_shot:
        return 0
    return stop_executions(
        job,
        condition=(
            "EXISTS (SELECT 1 FROM nodes_node n WHERE n.id = e.node_id AND n.drain_evicts "
            "AND n.scheduling_state <> 'ready')"
        ),
        params=[],
        message="its node is drained",
        stop_deadline=now + terms.start_deadline,
        now=now,
    )
