"""Nodes, their events and enrolment tokens as REST gives them: the seed documents' members."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from nodes.models import EnrolmentToken, Node, NodeEvent
from nodes.queries import active_counts, last_heard
from nodes.states import badge


def iso(at: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC, or None."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def node_records(nodes: Iterable[Node]) -> list[dict[str, Any]]:
    """Return nodes with spec, status and identity; one query for what runs on all of them."""
    nodes = list(nodes)
    active = active_counts([node.pk for node in nodes])
    return [_node_record(node, active.get(node.pk, 0)) for node in nodes]


def _node_record(node: Node, active: int) -> dict[str, Any]:
    return {
        "id": str(node.pk),
        "namespace": node.namespace_id,
        "spec": _spec(node),
        "status": _status(node, active),
        "identity": _identity(node),
    }


def _spec(node: Node) -> dict[str, Any]:
    return {
        "name": node.name,
        "hostname": node.hostname,
        "os": node.os,
        "arch": node.arch,
        "agent_version": node.agent_version,
        "labels": node.labels,
        "reported_labels": node.reported_labels,
        "operator_labels": node.operator_labels,
        "hardware_fingerprint": node.hardware_fingerprint,
        "capabilities": node.capabilities,
        "max_jobs": node.max_jobs,
    }


def _status(node: Node, active: int) -> dict[str, Any]:
    return {
        "connection_state": node.connection_state,
        "connected_since": iso(node.connected_since),
        "disconnected_since": iso(node.disconnected_since),
        "last_heartbeat": iso(last_heard(node)),
        "message": node.message,
        "revision": node.revision,
        "last_edge_seq_num": node.last_edge_seq_num,
        "last_orchestrator_seq_num": node.last_orchestrator_seq_num,
        "resource_usage": node.resource_usage,
        "scheduling_state": node.scheduling_state,
        "enrolment_state": node.enrolment_state,
        "badge": badge_of(node),
        "drain_evicts": node.drain_evicts,
        "active_executions": active,
        "conditions": node.conditions,
        "facts": node.facts,
    }


def _identity(node: Node) -> dict[str, Any]:
    return {
        "machine_id": node.machine_id,
        "fingerprint": node.fingerprint,
        "enrolled_at": iso(node.enrolled_at),
        "enrolled_by": node.enrolled_by,
        "enrollment_source_type": node.enrollment_source_type,
        "enrollment_identity_uri": node.enrollment_identity_uri,
        "credential_valid_until": iso(node.credential_valid_until),
        "enrollment_claims": node.enrollment_claims,
    }


def badge_of(node: Node) -> str:
    """Return the badge of a row."""
    return badge(
        connection=node.connection_state,
        scheduling=node.scheduling_state,
        enrolment=node.enrolment_state,
    )


def event_record(event: NodeEvent) -> dict[str, Any]:
    """Return one thing that happened to a node."""
    return {
        "seq_num": event.pk,
        "timestamp": iso(event.at),
        "node_id": str(event.node_id),
        "kind": event.kind,
        "message": event.message,
        "details": event.details,
    }


def token_record(token: EnrolmentToken) -> dict[str, Any]:
    """Return an enrolment token without its text."""
    return {
        "id": token.pk,
        "namespace": token.namespace_id,
        "labels": token.labels,
        "auto_accept": token.auto_accept,
        "max_uses": token.max_uses,
        "uses": token.uses,
        "expires_at": iso(token.expires_at),
        "created_by": token.created_by,
        "created_at": iso(token.created_at),
    }
