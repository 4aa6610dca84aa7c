"""Reads nodes: who matches a selector, and the rows that pages and sessions need."""

from uuid import UUID

from nodes.models import Node
from nodes.selector import Selector, to_sql
from nodes.states import ConnectionState


def matching_condition(selector: Selector, namespace: str) -> tuple[str, list[object]]:
    """Return the SQL condition on `nodes_node n` for the nodes that a selector means.

    Namespace, selector, accepted and not deleted; connection and scheduling are the caller's.
    """
    match, params = to_sql(selector, "n")
    trusted = "n.enrolment_state = 'accepted' AND n.connection_state <> 'deleted'"
    return f"(n.namespace_id = %s AND {trusted} AND {match})", [namespace, *params]


def get_node_for_session(node_id: UUID) -> Node | None:
    """Return the node that asks for a session, None if there is none (or it was deleted)."""
    return (
        Node.objects.exclude(connection_state=ConnectionState.DELETED)
        .only("id", "public_key", "enrolment_state")
        .filter(pk=node_id)
        .first()
    )
