"""Sessions that open, and what agents say of their machines: in sets, each change with its event."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from access.problems import Refused
from live.push import announce_all
from nodes.enrolment import usable_labels
from nodes.facts import changes_in_words, lasting
from nodes.models import Node
from nodes.states import ConnectionState, EnrolmentState

_LOADED = (
    *("id", "namespace_id", "name", "hostname", "os", "arch", "agent_version", "operator_labels"),
    *("reported_labels", "labels", "capabilities", "connection_state", "enrolment_state"),
    *("disconnected_since", "last_edge_seq_num"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """What an agent says of its machine when its session opens, checked by the caller."""

    hostname: str = ""
    os: str = ""
    arch: str = ""
    agent_version: str = ""
    labels: Mapping[str, str] | None = None
    capabilities: Mapping[str, Any] | None = None
    # Only during a session; None: nothing was said of them.
    facts: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What the server knew when a session opened; `away_since` is None if it was connected."""

    node_id: UUID
    namespace: str
    name: str
    last_up_seq: int
    away_since: datetime | None
    was_lost: bool


def connect_node(node_id: UUID, greeting: Greeting, now: datetime | None = None) -> Arrival:
    """Record that a node's session opened. Raises Refused: not_found, forbidden."""
    arrival = connect_nodes({node_id: greeting}, now or timezone.now()).get(node_id)
    if arrival is not None:
        return arrival
    node = Node.objects.exclude(connection_state=ConnectionState.DELETED).filter(pk=node_id)
    state = node.values_list("enrolment_state", flat=True).first()
    if state is None:
        raise Refused("not_found", "There is no such node.")
    raise Refused("forbidden", f"The node is {state}.")


def connect_nodes(greetings: Mapping[UUID, Greeting], now: datetime) -> dict[UUID, Arrival]:
    """Record that the sessions of these nodes opened: two statements for all of them.

    Anything that can move work sets changed_at: it came back, its labels or capabilities differ.
    Nodes that are deleted or not accepted have no arrival.
    """
    with transaction.atomic():
        nodes = [
            node for node in _lock_all(greetings) if node.enrolment_state == EnrolmentState.ACCEPTED
        ]
        rows = (_arrived(node, _changes(node, greetings[node.pk])) for node in nodes)
        _store_all([row for row in rows if row is not None], now)
    return {node.pk: _arrival(node) for node in nodes}


def record_facts(
    node_id: UUID, greeting: Greeting, facts: Mapping[str, Any] | None, now: datetime
) -> None:
    """Take in what one agent says of its machine: see record_all_facts."""
    record_all_facts({node_id: replace(greeting, facts=facts)}, now)


def record_all_facts(said: Mapping[UUID, Greeting], now: datetime) -> None:
    """Take in what agents say of their machines during their sessions: two statements for all.

    Each has one event, if it differs in what will last.
    """
    with transaction.atomic():
        rows = (_told(node, said[node.pk]) for node in _lock_all(said, "facts"))
        _store_all([row for row in rows if row is not None], now)


def _lock_all(node_ids: Iterable[UUID], *more: str) -> list[Node]:
    return list(
        Node.objects.select_for_update(no_key=True)
        .exclude(connection_state=ConnectionState.DELETED)
        .filter(pk__in=list(node_ids))
        .only(*_LOADED, *more)
        .order_by("pk")
    )


def _arrival(node: Node) -> Arrival:
    was = ConnectionState(node.connection_state)
    return Arrival(
        node_id=node.pk,
        namespace=node.namespace_id,
        name=node.name,
        last_up_seq=node.last_edge_seq_num,
        away_since=None if was is ConnectionState.CONNECTED else node.disconnected_since,
        was_lost=was is ConnectionState.LOST,
    )


def _arrived(node: Node, changed: Mapping[str, Any]) -> dict[str, Any] | None:
    if node.connection_state == ConnectionState.CONNECTED:
        return _row(node, changed) if changed else None
    return _row(node, changed) | {
        "came": True,
        "moves": True,
        "kind": "node.connected",
        "message": f"connected, was {node.connection_state}",
    }


def _told(node: Node, said: Greeting) -> dict[str, Any] | None:
    changed = _changes(node, said)
    old, new = node.facts, dict(said.facts) if said.facts else node.facts
    names = changed.keys() | ({"facts"} if lasting(old) != lasting(new) else set())
    if not names and old == new:
        return None
    row = _row(node, changed) | {"facts": new, "is_news": bool(names)}
    return row | {"message": changes_in_words(names, old, new)} if names else row


def _row(node: Node, changed: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": str(node.pk),
        "came": False,
        "moves": bool(changed.keys() & {"labels", "capabilities"}),
        "is_news": True,
        "kind": "node.changed",
        "message": changes_in_words(set(changed), {}, {}),
        **changed,
    }


def _changes(node: Node, said: Greeting) -> dict[str, Any]:
    """Return the columns in which a node differs from what is said of it."""
    new: dict[str, Any] = {
        "hostname": said.hostname[:253] or node.hostname,
        "os": said.os[:32] or node.os,
        "arch": said.arch[:32] or node.arch,
        "agent_version": said.agent_version[:32] or node.agent_version,
    }
    if said.labels is not None:
        new["reported_labels"] = usable_labels(said.labels)
        new["labels"] = {**new["reported_labels"], **node.operator_labels}
    if said.capabilities is not None:
        new["capabilities"] = dict(said.capabilities)
    return {name: value for name, value in new.items() if getattr(node, name) != value}


# A member that a row lacks is NULL here, and leaves its column as it is.
_KEPT = ("hostname", "os", "arch", "agent_version", "reported_labels", "labels", "capabilities",
         "facts")  # fmt: skip
_STORE = f"""
    WITH news AS (
        SELECT * FROM json_to_recordset(%(rows)s::json) AS u(id uuid, came boolean, moves boolean,
            is_news boolean, kind text, message text, hostname text, os text, arch text, agent_version text,
            reported_labels jsonb, labels jsonb, capabilities jsonb, facts jsonb)
    ), moved AS (
        UPDATE nodes_node n SET {", ".join(f"{name} = coalesce(u.{name}, n.{name})" for name in _KEPT)},
            connection_state = CASE WHEN u.came THEN 'connected' ELSE n.connection_state END,
            connected_since = CASE WHEN u.came THEN %(now)s ELSE n.connected_since END,
            disconnected_since = CASE WHEN u.came THEN NULL ELSE n.disconnected_since END,
            changed_at = CASE WHEN u.moves THEN %(now)s ELSE n.changed_at END,
            message = CASE WHEN u.is_news THEN u.message ELSE n.message END,
            revision = n.revision + u.is_news::integer
        FROM news u WHERE n.id = u.id RETURNING n.id, n.revision, u.is_news
    ), told AS (
        INSERT INTO nodes_nodeevent (node_id, at, kind, message, details)
        SELECT id, %(now)s, kind, message, '{{}}' FROM news WHERE is_news ORDER BY id
    )
    SELECT id, revision FROM moved WHERE is_news
"""  # noqa: S608 - names of our own columns, values are parameters


def _store_all(rows: list[dict[str, Any]], now: datetime) -> None:
    """Write nodes that are held; what is news with a new revision and one event (law 4)."""
    if not rows:
        return
    with connection.cursor() as cursor:
        cursor.execute(_STORE, {"rows": json.dumps(rows), "now": now})
        announce_all({("node", node_id): revision for node_id, revision in cursor.fetchall()})
