"""The plan of a spec before it is submitted: which nodes, in which waves, and who is left out."""

import json
from collections import defaultdict
from typing import Any

from jobs.models import Job
from jobs.planning import LeftOut, NodeName, SpecPlan
from jobs.spec import JobSpec
from nodes.selector import to_sql
from nodes.states import ConnectionState, EnrolmentState, SchedulingState
from rollouts.preview import PreviewNode, preview
from rollouts.sets import fetch
from rollouts.targets import order_sql
from rollouts.terms import Terms, terms_of_spec

_COLUMNS = ("id", "name", "ring", "enrolment", "scheduling", "connection", "capabilities", "run")


def plan_spec(spec: JobSpec, job: Job | None, *, run_hash: str) -> SpecPlan:
    """Return the plan of `spec` as the next version of `job`: two queries, nothing written.

    It goes through the planner that will carry it out, over the nodes as they are now, so what
    it shows is what happens unless nodes change in between (docs/semantics.md 4.9).
    """
    terms = terms_of_spec(spec)
    matched = _matched(spec.namespace, job, terms)
    eligible = [row for row in matched if not _why_left_out(row, terms)]
    chosen = eligible[:1] if terms.takes_any else eligible
    nodes = [
        PreviewNode(
            node_id=str(row["id"]),
            name=row["name"],
            ring=row["ring"],
            fit=row["connection"] == ConnectionState.CONNECTED,
        )
        for row in chosen
    ]
    current = {str(row["id"]) for row in chosen if row["run"] == run_hash}
    seen = preview(nodes, terms.policy, current)
    before = _running_on(job)
    now = {node.node_id for node in nodes}
    return SpecPlan(
        strategy=terms.policy.strategy,
        matched=len(matched),
        eligible=len(eligible),
        pending_enrolment=sum(row["enrolment"] == EnrolmentState.PENDING for row in matched),
        waves=tuple(tuple(map(_named, wave.nodes)) for wave in seen.waves),
        unchanged=tuple(map(_named, seen.current)),
        deferred=tuple(map(_named, seen.deferred)),
        added=tuple(_named(node) for node in nodes if job and node.node_id not in before),
        removed=tuple(
            NodeName(id=node_id, name=name)
            for node_id, name in sorted(before.items(), key=lambda pair: pair[1])
            if node_id not in now
        ),
        left_out=_left_out(matched, terms),
        facts={
            "wave_size": seen.wave_size,
            "canary_size": seen.canary_size,
            "total_nodes": seen.total_nodes,
            "waiting_on": seen.waiting_on,
            "order": terms.order.by,
        },
    )


def _named(node: PreviewNode) -> NodeName:
    return NodeName(id=node.node_id, name=node.name)


def _matched(namespace: str, job: Job | None, terms: Terms) -> list[dict[str, Any]]:
    """Return the nodes that the selector names, in the order in which they would be taken."""
    match, params = to_sql(terms.selector, "n")
    ring, order, order_params = order_sql(terms)
    rows = fetch(
        f"""
        SELECT n.id, n.name, {ring}, n.enrolment_state, n.scheduling_state, n.connection_state,
            n.capabilities, e.run_hash
        FROM nodes_node n
        LEFT JOIN rollouts_execution e ON e.node_id = n.id AND e.job_id = %s
            AND e.desired_state = 'running' AND e.observed_state <> 'failed'
        WHERE n.namespace_id = %s AND n.connection_state <> 'deleted' AND {match}
        ORDER BY {order}
        """,  # noqa: S608 - the fragments are ours, values are parameters
        [
            *(order_params if ring != "0" else []),
            job.pk if job else None,
            namespace,
            *params,
            *order_params,
        ],
    )
    # Django leaves jsonb of a raw query as text.
    return [
        dict(zip(_COLUMNS, row, strict=True)) | {"capabilities": json.loads(row[6])} for row in rows
    ]


def _running_on(job: Job | None) -> dict[str, str]:
    """Return id and name of the nodes on which the job should run now."""
    if job is None:
        return {}
    rows = fetch(
        "SELECT n.id, n.name FROM rollouts_execution e JOIN nodes_node n ON n.id = e.node_id "
        "WHERE e.job_id = %s AND e.desired_state = 'running'",
        [job.pk],
    )
    return {str(node_id): name for node_id, name in rows}


def _why_left_out(row: dict[str, Any], terms: Terms) -> str:
    """Say why a node that the selector names gets nothing, or ""."""
    if row["enrolment"] != EnrolmentState.ACCEPTED:
        return f"enrolment {row['enrolment']}"
    if row["scheduling"] != SchedulingState.READY:
        return str(row["scheduling"])
    if row["connection"] == ConnectionState.LOST:
        return "lost"
    if terms.one_shot and row["connection"] != ConnectionState.CONNECTED:
        return "disconnected"
    missing = [
        f"{kind[:-1]} {name}"
        for kind, names in sorted(terms.capabilities.items())
        for name in sorted(names - set(row["capabilities"].get(kind, [])))
    ]
    return f"lacks {', '.join(missing)}" if missing else ""


def _left_out(matched: list[dict[str, Any]], terms: Terms) -> tuple[LeftOut, ...]:
    groups: dict[str, list[NodeName]] = defaultdict(list)
    for row in matched:
        if reason := _why_left_out(row, terms):
            groups[reason].append(NodeName(id=str(row["id"]), name=row["name"]))
    return tuple(
        LeftOut(reason=reason, nodes=tuple(nodes)) for reason, nodes in sorted(groups.items())
    )
