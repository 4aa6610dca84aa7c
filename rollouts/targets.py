"""The nodes of a rollout as sets: frozen, released, deferred, settled, joining and leaving.

Every function here runs inside a transaction of `rollouts.scheduler`, under the job's
lock. Nothing is decided here (law 5).
"""

import json
from datetime import datetime

from jobs.models import Job
from nodes.presence import JOURNAL_FULL
from nodes.selector import to_sql
from rollouts.models import Rollout
from rollouts.sets import change, fetch
from rollouts.states import Strategy
from rollouts.terms import Terms

# A node that may be counted on, and one that can take work this moment (docs/semantics.md 1.7, 4.3).
ELIGIBLE = (
    "n.enrolment_state = 'accepted' AND n.scheduling_state = 'ready' "
    "AND n.connection_state IN ('connected', 'disconnected')"
)
FIT = (
    "n.enrolment_state = 'accepted' AND n.scheduling_state = 'ready' "
    "AND n.connection_state = 'connected'"
)

# What a condition or a column of `n` is for the node of a target: asked by its key, row by row,
# so that a plan made before anything was known of the tables cannot become a product of two.
_OF_NODE = "(SELECT {0} FROM nodes_node n WHERE n.id = {1}.node_id)"


def match_of(job: Job, terms: Terms) -> tuple[str, list[object]]:
    """Return the condition on `n`: namespace, selector and the capabilities that are needed."""
    match, params = to_sql(terms.selector, "n")
    parts, values = ["n.namespace_id = %s", match], [job.namespace_id, *params]
    for kind, names in sorted(terms.capabilities.items()):
        parts.append("coalesce(n.capabilities -> %s, '[]') @> %s::jsonb")
        values += [kind, json.dumps(sorted(names))]
    return f"({' AND '.join(parts)})", values


def order_sql(terms: Terms) -> tuple[str, str, list[object]]:
    """Return ring expression, ORDER BY and parameters of the rollout's order (docs/semantics.md X93)."""
    order = terms.order
    if terms.takes_any:
        active = (
            "(SELECT count(*) FROM rollouts_execution x WHERE x.node_id = n.id AND "
            "x.desired_state = 'running' AND x.observed_state NOT IN "
            "('completed', 'failed', 'stopped', 'lost'))"
        )
        idle = (
            "coalesce((SELECT max(x.updated_at) FROM rollouts_execution x "
            "WHERE x.node_id = n.id), n.created_at)"
        )
        return "0", f"{active}, {idle}, n.id", []
    if order.by == "spread":
        value = "coalesce(n.labels ->> %s, '')"
        turn = f"row_number() OVER (PARTITION BY {value} ORDER BY n.id)"
        return "0", f'{turn}, {value} COLLATE "C", n.id', [order.label, order.label]
    if order.by == "rings":
        ring = "coalesce(array_position(%s::text[], n.labels ->> %s), %s)"
        return ring, f"{ring}, n.id", [list(order.values), order.label, len(order.values) + 1]
    return "0", "n.id", []


def freeze_targets(job: Job, rollout: Rollout, terms: Terms) -> tuple[int, int]:
    """Write the rollout's nodes in their order; return how many there are and are current.

    A node is current when it already runs an equal spec (docs/semantics.md C01), except for a restart.
    """
    match, match_params = match_of(job, terms)
    ring, order, order_params = order_sql(terms)
    ring_params = order_params if ring != "0" else []
    limit = "LIMIT 1" if terms.takes_any else ""
    fit = FIT if terms.one_shot else ELIGIBLE
    rows = fetch(
        f"""
        WITH sorted AS (
            SELECT n.id, {ring} AS ring FROM nodes_node n WHERE {fit} AND {match}
            ORDER BY {order} {limit}
        ), matched AS (
            SELECT id, ring, row_number() OVER () AS position FROM sorted
        ), frozen AS (
            INSERT INTO rollouts_rollouttarget (rollout_id, node_id, position, ring, wave, state)
            SELECT %s, m.id, m.position, m.ring, 0,
                CASE WHEN %s AND EXISTS (
                    SELECT 1 FROM rollouts_execution cur WHERE cur.job_id = %s
                        AND cur.node_id = m.id AND cur.desired_state = 'running'
                        AND cur.run_hash = %s AND cur.observed_state <> 'failed'
                ) THEN 'current' ELSE 'remaining' END
            FROM matched m
            RETURNING state
        )
        SELECT count(*), count(*) FILTER (WHERE state = 'current') FROM frozen
        """,  # noqa: S608 - fragments are ours, values are parameters
        [
            *ring_params,
            *match_params,
            *order_params,
            rollout.id,
            rollout.rollout_type != "restart",
            job.id,
            rollout.version.run_hash,
        ],
    )
    return rows[0]


def release(rollout: Rollout, *, number: int, size: int) -> int:
    """Release the next `size` fit nodes of the list as wave `number`; return how many."""
    return change(
        f"""
        UPDATE rollouts_rollouttarget t SET state = 'released', wave = %s
        WHERE t.id = ANY(ARRAY(
            SELECT c.id FROM rollouts_rollouttarget c
            WHERE c.rollout_id = %s AND c.state = 'remaining' AND {_OF_NODE.format(FIT, "c")}
            ORDER BY c.position LIMIT %s))
        """,  # noqa: S608 - likewise
        [number, rollout.id, size],
    )


def defer_passed_over(rollout: Rollout, *, number: int | None) -> list[str]:
    """Take nodes off the list that can take no work now; return their names.

    With a wave's number: those that stood before its last node. Without: all that remain.
    """
    before = ""
    params: list[object] = [rollout.id]
    if number is not None:
        before = (
            "AND t.position < (SELECT max(position) FROM rollouts_rollouttarget "
            "WHERE rollout_id = %s AND wave = %s AND state = 'released')"
        )
        params += [rollout.id, number]
    rows = fetch(
        f"""
        UPDATE rollouts_rollouttarget t SET state = 'deferred'
        WHERE t.rollout_id = %s AND t.state = 'remaining'
            AND NOT {_OF_NODE.format(FIT, "t")} {before}
        RETURNING {_OF_NODE.format("n.name", "t")}
        """,  # noqa: S608 - likewise
        params,
    )
    return sorted(name for (name,) in rows)


def settle(rollout: Rollout, *, one_shot: bool) -> dict[str, int]:
    """Move released nodes whose execution has settled to their end; count the ends.

    Settled (docs/semantics.md 1.7): stable, or ended. One-shot work settles by its end alone (X52).
    """
    stable = "FALSE" if one_shot else "e.stable_at IS NOT NULL"
    of_target = (
        "FROM rollouts_execution e WHERE e.rollout_id = t.rollout_id AND e.node_id = t.node_id"
    )
    rows = fetch(
        f"""
        WITH settled AS (
            UPDATE rollouts_rollouttarget t SET state = (SELECT CASE
                    WHEN {stable} OR e.observed_state = 'completed' THEN 'updated'
                    WHEN e.observed_state IN ('failed', 'lost') THEN 'failed'
                    ELSE 'stopped' END {of_target})
            WHERE t.rollout_id = %s AND t.wave = %s AND t.state = 'released'
                AND (SELECT {stable}
                    OR e.observed_state IN ('completed', 'failed', 'stopped', 'lost') {of_target})
            RETURNING t.state
        )
        SELECT state, count(*) FROM settled GROUP BY state
        """,  # noqa: S608 - likewise
        [rollout.id, rollout.current_wave],
    )
    return {state: int(count) for state, count in rows}


def bring_back(rollout: Rollout) -> list[str]:
    """Put deferred nodes that can take work again at the end of the list; return their names."""
    rows = fetch(
        f"""
        UPDATE rollouts_rollouttarget t SET state = 'remaining',
            position = t.position + (SELECT max(position) FROM rollouts_rollouttarget
                                     WHERE rollout_id = %s)
        WHERE t.rollout_id = %s AND t.state = 'deferred' AND {_OF_NODE.format(FIT, "t")}
        RETURNING {_OF_NODE.format("n.name", "t")}
        """,  # noqa: S608 - likewise
        [rollout.id, rollout.id],
    )
    return sorted(name for (name,) in rows)


def join(job: Job, rollout: Rollout, terms: Terms) -> list[str]:
    """Put nodes that match now and are new to the rollout at the end of the list (C03).

    So are those that left and are back: what they had before belongs to the rollout no more.
    Returns their names.
    """
    match, params = match_of(job, terms)
    ring, _, order_params = order_sql(terms)
    rows = fetch(
        f"""
        WITH new AS (
            INSERT INTO rollouts_rollouttarget (rollout_id, node_id, position, ring, wave, state)
            SELECT %s, n.id, coalesce((SELECT max(position) FROM rollouts_rollouttarget
                    WHERE rollout_id = %s), 0) + row_number() OVER (ORDER BY n.id),
                {ring}, 0, 'remaining'
            FROM nodes_node n
            WHERE {ELIGIBLE} AND {match}
            ON CONFLICT (rollout_id, node_id) DO UPDATE
                SET state = 'remaining', wave = 0, position = EXCLUDED.position
                WHERE rollouts_rollouttarget.state = 'left'
            RETURNING node_id
        ), earlier AS (
            UPDATE rollouts_execution e SET rollout_id = NULL FROM new
            WHERE e.rollout_id = %s AND e.node_id = new.node_id
        )
        SELECT n.name FROM new JOIN nodes_node n ON n.id = new.node_id ORDER BY n.name
        """,  # noqa: S608 - likewise
        [rollout.id, rollout.id, *(order_params if ring != "0" else []), *params, rollout.id],
    )
    return [name for (name,) in rows]


def leave(job: Job, rollout: Rollout, terms: Terms) -> list[tuple[str, str]]:
    """Take nodes that no longer match or were deleted out of the rollout.

    Returns name and former state of each (docs/semantics.md 1.10, C08).
    """
    match, params = match_of(job, terms)
    wanted = f"n.enrolment_state = 'accepted' AND n.connection_state <> 'deleted' AND {match}"
    rows = fetch(
        f"""
        UPDATE rollouts_rollouttarget t SET state = 'left'
        WHERE t.rollout_id = %s AND t.state <> 'left' AND NOT {_OF_NODE.format(wanted, "t")}
        RETURNING {_OF_NODE.format("n.name", "t")}, old.state
        """,  # noqa: S608 - likewise
        [rollout.id, *params],
    )
    return sorted(rows)


def to_catch_up(job: Job, terms: Terms, *, run_hash: str, rollout: Rollout | None) -> list[object]:
    """Return ids of nodes outside any open wave that should get an execution now (C03, 1.10).

    A node that has none, or one of another spec once its job's rollout is over; never one on
    which the job's last rollout failed, and never one that waits for its wave with work running.
    """
    match, params = match_of(job, terms)
    if rollout is None:
        active, replace_old, replace_params = False, "FALSE", []
    else:
        active = rollout.completed_at is None
        replace_old = "wanted.run_hash <> %s" if rollout.state == "completed" else "FALSE"
        replace_params = [run_hash] if rollout.state == "completed" else []
    busy = "'released', 'failed'" if not active else "'released', 'failed', 'updated', 'current'"
    rows = fetch(
        f"""
        SELECT n.id FROM nodes_node n
        WHERE {FIT} AND {match}
            AND (SELECT {replace_old} FROM rollouts_execution wanted WHERE wanted.job_id = %s
                AND wanted.node_id = n.id AND wanted.desired_state = 'running') IS NOT FALSE
            AND (SELECT t.state NOT IN ({busy}) FROM rollouts_rollouttarget t
                WHERE t.rollout_id = %s AND t.node_id = n.id) IS NOT FALSE
        ORDER BY n.id
        """,  # noqa: S608 - likewise
        [*params, *replace_params, job.id, rollout.id if rollout else None],
    )
    return [node_id for (node_id,) in rows]


def refused_before(job: Job, terms: Terms, now: datetime) -> tuple[list[object], datetime | None]:
    """Return ids of nodes that refused their work and may be asked again, and when the next may.

    What a node refused for want of room has not begun, so it stays wanted (docs/semantics.md X96). While
    the node says that it has no room it is left alone, and after each refusal for longer: the
    back-off of docs/semantics.md 1.9, from 10 seconds to 5 minutes.
    """
    match, params = match_of(job, terms)
    rows = fetch(
        f"""
        SELECT e.node_id, e.finished_at + make_interval(secs => least(300, 10 * 2 ^ least(8, (
            SELECT count(*) - 1 FROM rollouts_execution r WHERE r.job_id = e.job_id
                AND r.node_id = e.node_id AND r.run_hash = e.run_hash
                AND r.details ->> 'reason' = 'refused')))) AS due_at
        FROM rollouts_execution e
        WHERE e.job_id = %s AND e.desired_state = 'running' AND e.observed_state = 'stopped'
            AND e.details ->> 'reason' = 'refused' AND (
                SELECT {FIT} AND {match} AND NOT n.conditions @> %s::jsonb
                FROM nodes_node n WHERE n.id = e.node_id)
        ORDER BY due_at
        """,  # noqa: S608 - likewise
        [job.id, *params, JOURNAL_FULL],
    )
    due = [node_id for node_id, due_at in rows if due_at <= now]
    return due, min((due_at for _, due_at in rows if due_at > now), default=None)


def total_waves(rollout: Rollout, terms: Terms) -> int:
    """Return how many waves there will have been: the open ones and those of the list (C09)."""
    if terms.policy.strategy is Strategy.IMMEDIATE:
        return 1
    rows = fetch(
        """
        SELECT ring, sum(count) FROM rollouts_rollouttally
        WHERE rollout_id = %s AND state = 'remaining' GROUP BY ring ORDER BY ring
        """,
        [rollout.id],
    )
    sizes = [int(count) for _, count in rows]
    if terms.order.by != "rings":
        sizes = [sum(sizes)]
    ahead = 0
    if rollout.canary_size and rollout.current_wave == 0 and sum(sizes):
        ahead, sizes = 1, _without_first(sizes, rollout.canary_size)
    size = max(1, rollout.wave_size)
    return rollout.current_wave + ahead + sum(-(-count // size) for count in sizes)


def _without_first(sizes: list[int], taken: int) -> list[int]:
    """Return what is left of each ring when the first nodes of the order are taken."""
    rest = []
    for count in sizes:
        used = min(count, taken)
        taken -= used
        rest.append(count - used)
    return rest
