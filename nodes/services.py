"""Every change of a node's three states and of its labels, each with its event (law 4)."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from access.problems import Refused
from access.services import SYSTEM, Actor, record_audit
from live.push import announce
from nodes.enrolment import check_labels, enrol_node, issue_enrolment_token
from nodes.models import IngestClock, Node, NodeEvent
from nodes.sessions import (
    Arrival,
    Greeting,
    connect_node,
    connect_nodes,
    record_all_facts,
    record_facts,
)
from nodes.states import (
    ENROLMENT_TRANSITIONS,
    ConnectionState,
    EnrolmentState,
    SchedulingState,
)

__all__ = [
    "Arrival",
    "Greeting",
    "accept_node",
    "change_node_labels",
    "connect_node",
    "connect_nodes",
    "cordon_nodes",
    "delete_node",
    "drain_node",
    "enrol_node",
    "issue_enrolment_token",
    "mark_silent_nodes",
    "record_all_facts",
    "record_facts",
    "reject_node",
    "revoke_node",
    "set_node_labels",
    "undrain_node",
]

_UNFINISHED = ("pending", "starting", "validating", "running", "degraded", "stopping")
_LONG_RUNNING = ("pipeline", "config")
# Time since a node was heard in which nobody could be heard (law 7, docs/semantics.md 1.10).
GAPS_SINCE = """
    (SELECT coalesce(sum(least(g.ended_at, %(now)s) - greatest(g.started_at, {since})),
        interval '0') FROM nodes_ingestgap g
     WHERE g.ended_at > {since} AND g.started_at < %(now)s)
"""


# --- Enrolment -----------------------------------------------------------------------------------


def accept_node(node_id: UUID, actor: Actor = SYSTEM, *, fingerprint: str = "") -> Node:
    """Trust a pending or rejected node; with a fingerprint only if it is this node's.

    Raises Refused: not_found, conflict (docs/semantics.md 4.4, X84).
    """
    return _enrol(node_id, EnrolmentState.ACCEPTED, actor, fingerprint=fingerprint)


def reject_node(node_id: UUID, actor: Actor = SYSTEM) -> Node:
    """Turn a pending node away. Raises Refused: not_found, conflict."""
    return _enrol(node_id, EnrolmentState.REJECTED, actor)


def revoke_node(node_id: UUID, actor: Actor = SYSTEM) -> Node:
    """Take an accepted node's trust back; its session ends. Raises Refused: not_found, conflict."""
    return _enrol(node_id, EnrolmentState.REVOKED, actor)


@transaction.atomic
def _enrol(node_id: UUID, to: EnrolmentState, actor: Actor, *, fingerprint: str = "") -> Node:
    node = _lock(node_id)
    if to not in ENROLMENT_TRANSITIONS[EnrolmentState(node.enrolment_state)]:
        raise Refused("conflict", f"A node that is {node.enrolment_state} cannot be {to}.")
    if fingerprint and fingerprint != node.fingerprint:
        raise Refused("conflict", "The fingerprint is not that of this node.")
    now = timezone.now()
    node.enrolment_state = to
    if to is EnrolmentState.ACCEPTED:
        node.enrolled_at, node.enrolled_by = now, actor.name[:150]
    _store(node, now, f"node.{to}", f"{to} by {actor.name}", "enrolment_state", "enrolled_at",
           "enrolled_by")  # fmt: skip
    record_audit(actor, f"node.{to}", "node", node.id, node.namespace_id)
    return node


# --- Labels and scheduling -----------------------------------------------------------------------


@transaction.atomic
def set_node_labels(node_id: UUID, labels: Mapping[str, str], actor: Actor = SYSTEM) -> Node:
    """Replace the labels that people set; they win over what the agent reports (docs/semantics.md 4.4).

    Raises Refused: not_found, invalid_value.
    """
    return _put_labels(_lock(node_id), dict(labels), actor)


@transaction.atomic
def change_node_labels(
    node_id: UUID,
    changes: Mapping[str, str | None],
    actor: Actor = SYSTEM,
    *,
    revision: int | None = None,
) -> Node:
    """Set some of the labels that people set and take away those that are None (docs/semantics.md 4.4).

    With a revision only if the node still has it. Raises Refused: not_found, invalid_value,
    stale_revision.
    """
    node = _lock(node_id)
    if revision is not None and revision != node.revision:
        raise Refused("stale_revision", f"The node's revision is {node.revision}.")
    merged = {**node.operator_labels, **changes}
    return _put_labels(node, {k: v for k, v in merged.items() if v is not None}, actor)


def _put_labels(node: Node, labels: dict[str, str], actor: Actor) -> Node:
    check_labels(labels)
    if node.operator_labels == labels:
        return node
    details = {"old": node.operator_labels, "new": labels}
    node.operator_labels = labels
    node.labels = {**node.reported_labels, **labels}
    _store(node, timezone.now(), "node.labelled", f"labels set by {actor.name}",
           "operator_labels", "labels", details=details)  # fmt: skip
    record_audit(actor, "node.label", "node", node.id, node.namespace_id, details=details)
    return node


@transaction.atomic
def drain_node(node_id: UUID, actor: Actor = SYSTEM, *, evict: bool = False) -> Node:
    """Give a node no more work; it is cordoned once its one-shot work has ended (docs/semantics.md 4.4).

    Raises Refused: not_found, already_draining.
    """
    node = _lock(node_id)
    if node.scheduling_state != SchedulingState.READY:
        raise Refused("already_draining", f"The node is {node.scheduling_state}.")
    now = timezone.now()
    node.scheduling_state, node.drain_evicts = SchedulingState.DRAINING, evict
    words = "drained, its work is moved off" if evict else "drained"
    _store(node, now, "node.draining", f"{words} by {actor.name}", "scheduling_state",
           "drain_evicts")  # fmt: skip
    record_audit(actor, "node.drain", "node", node.id, node.namespace_id, details={"evict": evict})
    if not _in_flight(node):
        cordon_nodes([node.id], now)
        node.refresh_from_db()
    return node


@transaction.atomic
def undrain_node(node_id: UUID, actor: Actor = SYSTEM) -> Node:
    """Let a draining or cordoned node take work again. Raises Refused: not_found, not_draining."""
    node = _lock(node_id)
    if node.scheduling_state == SchedulingState.READY:
        raise Refused("not_draining", "The node is ready.")
    node.scheduling_state, node.drain_evicts = SchedulingState.READY, False
    _store(node, timezone.now(), "node.undrained", f"ready again, said {actor.name}",
           "scheduling_state", "drain_evicts")  # fmt: skip
    record_audit(actor, "node.undrain", "node", node.id, node.namespace_id)
    return node


@transaction.atomic
def delete_node(node_id: UUID, actor: Actor = SYSTEM) -> Node:
    """Remove a node; its row stays for history and its machine may enrol anew (docs/semantics.md 4.4).

    Raises Refused `not_found`.
    """
    node = _lock(node_id)
    node.connection_state = ConnectionState.DELETED
    _store(node, timezone.now(), "node.deleted", f"deleted by {actor.name}", "connection_state")
    record_audit(actor, "node.delete", "node", node.id, node.namespace_id)
    return node


def cordon_nodes(node_ids: Iterable[UUID], now: datetime) -> int:
    """Say that draining nodes have finished what they had to; return how many it was true for."""
    return _move_set(
        "scheduling_state = 'cordoned'",
        "n.id = ANY(%(ids)s) AND n.scheduling_state = 'draining'",
        {"ids": list(node_ids), "now": now},
        kind="node.cordoned",
        message="drained: it takes no new work",
        now=now,
    )


def _in_flight(node: Node) -> bool:
    """Say whether work is left that a drain waits for (executions are a higher app's rows)."""
    left = node.executions.filter(observed_state__in=_UNFINISHED)
    if not node.drain_evicts:
        left = left.exclude(job__job_type__in=_LONG_RUNNING)
    return left.exists()


# --- Silence -------------------------------------------------------------------------------------


def mark_silent_nodes(now: datetime | None = None) -> int:
    """Mark nodes disconnected strictly after 30 s of silence, lost 5 min later (docs/semantics.md X57).

    Time in which the control plane heard nobody is taken off, nothing is marked in the grace
    after such a time (X57), and above the brake's share of a namespace nobody turns lost until
    the silence is twice as long (docs/semantics.md 1.10). Returns how many nodes were marked.
    """
    now = now or timezone.now()
    clock = IngestClock.objects.order_by("pk").first()
    if clock is None or now <= clock.started_at + settings.START_GRACE:
        return 0
    with transaction.atomic():
        return _mark_disconnected(now) + _mark_lost(now)


def _mark_disconnected(now: datetime) -> int:
    return _move_set(
        "connection_state = 'disconnected', disconnected_since = p.last_seen_at",
        "n.connection_state = 'connected' AND p.last_seen_at < %(limit)s"
        f" AND p.last_seen_at + {GAPS_SINCE.format(since='p.last_seen_at')} < %(limit)s",
        {"now": now, "limit": now - settings.DISCONNECTED_AFTER},
        kind="node.disconnected",
        message="not heard for a while",
        now=now,
    )


def _mark_lost(now: datetime) -> int:
    silent = f"p.last_seen_at + {GAPS_SINCE.format(since='p.last_seen_at')}"
    braked = f"""
        n.connection_state = 'disconnected' AND p.last_seen_at < %(limit)s
        AND {silent} < %(limit)s AND ({silent} < %(twice)s OR (
            SELECT count(*) FROM nodes_node m JOIN nodes_nodepresence q ON q.node_id = m.id
            WHERE m.namespace_id = n.namespace_id AND m.connection_state = 'disconnected'
                AND q.last_seen_at < %(limit)s
        ) <= greatest(1, (SELECT count(*) FROM nodes_node m
            WHERE m.namespace_id = n.namespace_id AND m.enrolment_state = 'accepted'
                AND m.connection_state <> 'deleted') * %(brake)s / 100))
    """  # noqa: S608 - the fragments are ours, values are parameters
    return _move_set(
        "connection_state = 'lost'",
        braked,
        {
            "now": now,
            "limit": now - settings.LOST_AFTER,
            "twice": now - 2 * settings.LOST_AFTER,
            "brake": settings.LOST_BRAKE_PERCENT,
        },
        kind="node.lost",
        message="silent for so long that its work counts as lost",
        now=now,
    )


def _move_set(
    assignment: str,
    condition: str,
    params: dict[str, Any],
    *,
    kind: str,
    message: str,
    now: datetime,
) -> int:
    """Change every node `n` (with its presence `p`) that meets the condition, with its event."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH chosen AS (
                SELECT n.id FROM nodes_node n
                LEFT JOIN nodes_nodepresence p ON p.node_id = n.id
                WHERE {condition} ORDER BY n.id FOR NO KEY UPDATE OF n
            ), moved AS (
                UPDATE nodes_node n SET {assignment}, message = %(message)s,
                    revision = n.revision + 1, changed_at = %(now)s
                FROM chosen LEFT JOIN nodes_nodepresence p ON p.node_id = chosen.id
                WHERE n.id = chosen.id RETURNING n.id, n.revision
            ), told AS (
                INSERT INTO nodes_nodeevent (node_id, at, kind, message, details)
                SELECT id, %(now)s, %(kind)s, %(message)s, '{{}}' FROM moved
            )
            SELECT id, revision FROM moved
            """,  # noqa: S608 - the fragments are ours, values are parameters
            {**params, "now": now, "kind": kind, "message": message},
        )
        moved = cursor.fetchall()
        for node_id, revision in moved:
            announce("node", node_id, revision)
    return len(moved)


# --- One node ------------------------------------------------------------------------------------


def _lock(node_id: UUID) -> Node:
    """Return the node with its row held. Raises Refused `not_found`."""
    rows = Node.objects.select_for_update(no_key=True).exclude(
        connection_state=ConnectionState.DELETED
    )
    node = rows.filter(pk=node_id).first()
    if node is None:
        raise Refused("not_found", "There is no such node.")
    return node


def _store(
    node: Node,
    now: datetime,
    kind: str,
    message: str,
    *names: str,
    moves: bool = True,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write these fields of a locked node, with its revision and one event."""
    values = {name: getattr(node, name) for name in names}
    if moves:
        values["changed_at"] = now
    Node.objects.filter(pk=node.pk).update(
        **values, message=message[:1024], revision=F("revision") + 1
    )
    node.refresh_from_db()
    NodeEvent.objects.create(
        node=node, at=now, kind=kind, message=message[:1024], details=dict(details or {})
    )
    announce("node", node.pk, node.revision)
