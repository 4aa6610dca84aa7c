"""The three axes of a node's state, their transitions, and the one badge that is shown."""

from enum import StrEnum


class ConnectionState(StrEnum):
    """Whether the node's agent is heard (docs/semantics.md 1.10)."""

    DISCONNECTED = "disconnected"
    CONNECTED = "connected"
    LOST = "lost"
    DELETED = "deleted"


class SchedulingState(StrEnum):
    """Whether the node takes new work (docs/semantics.md 4.4)."""

    READY = "ready"
    DRAINING = "draining"
    CORDONED = "cordoned"


class EnrolmentState(StrEnum):
    """Whether the node is trusted (docs/semantics.md 4.4)."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    REVOKED = "revoked"


CONNECTION_TRANSITIONS: dict[ConnectionState, frozenset[ConnectionState]] = {
    ConnectionState.DISCONNECTED: frozenset(
        {ConnectionState.CONNECTED, ConnectionState.LOST, ConnectionState.DELETED}
    ),
    ConnectionState.CONNECTED: frozenset({ConnectionState.DISCONNECTED, ConnectionState.DELETED}),
    ConnectionState.LOST: frozenset({ConnectionState.CONNECTED, ConnectionState.DELETED}),
    ConnectionState.DELETED: frozenset(),
}

SCHEDULING_TRANSITIONS: dict[SchedulingState, frozenset[SchedulingState]] = {
    SchedulingState.READY: frozenset({SchedulingState.DRAINING}),
    SchedulingState.DRAINING: frozenset({SchedulingState.CORDONED, SchedulingState.READY}),
    SchedulingState.CORDONED: frozenset({SchedulingState.READY}),
}

ENROLMENT_TRANSITIONS: dict[EnrolmentState, frozenset[EnrolmentState]] = {
    EnrolmentState.PENDING: frozenset({EnrolmentState.ACCEPTED, EnrolmentState.REJECTED}),
    EnrolmentState.ACCEPTED: frozenset({EnrolmentState.REVOKED}),
    # A rejected machine may be let in after all, by an administrator (docs/semantics.md X84).
    EnrolmentState.REJECTED: frozenset({EnrolmentState.ACCEPTED}),
    EnrolmentState.REVOKED: frozenset(),
}

CONNECTION_MEANINGS: dict[ConnectionState, str] = {
    ConnectionState.DISCONNECTED: "Its agent has not been heard for a short while.",
    ConnectionState.CONNECTED: "Its agent holds an open session.",
    ConnectionState.LOST: "It has been silent for so long that its work is counted as lost.",
    ConnectionState.DELETED: "It was removed; the row stays for history.",
}
SCHEDULING_MEANINGS: dict[SchedulingState, str] = {
    SchedulingState.READY: "It takes new work.",
    SchedulingState.DRAINING: "It finishes its one-shot work and takes no more.",
    SchedulingState.CORDONED: "It takes no new work.",
}
ENROLMENT_MEANINGS: dict[EnrolmentState, str] = {
    EnrolmentState.PENDING: "It waits for an administrator's word.",
    EnrolmentState.ACCEPTED: "It is trusted.",
    EnrolmentState.REJECTED: "An administrator turned it away.",
    EnrolmentState.REVOKED: "Its trust was taken back.",
}


def badge(*, connection: str, scheduling: str, enrolment: str) -> str:
    """Return the one word shown for a node: the worst of its three axes (docs/semantics.md 4.4).

    >>> badge(connection="connected", scheduling="draining", enrolment="accepted")
    'draining'
    """
    if connection == ConnectionState.DELETED:
        return connection
    if enrolment != EnrolmentState.ACCEPTED:
        return enrolment
    if connection in (ConnectionState.LOST, ConnectionState.DISCONNECTED):
        return connection
    return scheduling
