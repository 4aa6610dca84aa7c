"""Reads nodes: who matches a selector, and the rows that pages and sessions need."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Case, CharField, Count, F, Q, QuerySet, When
from django.db.models.lookups import In

from access.problems import Refused
from access.queries import Person, digest_of, namespaces_for, require
from nodes.models import EnrolmentToken, Node, NodeEvent
from nodes.selector import Requirement, Selector, SelectorError, parse_label_filter, to_sql
from nodes.states import ConnectionState, EnrolmentState


def find_nodes_for_sessions(node_ids: Collection[UUID]) -> dict[UUID, tuple[str, str]]:
    """Return public key and enrolment state of nodes that ask for a session, without deleted ones."""
    found = Node.objects.exclude(connection_state=ConnectionState.DELETED)
    rows = found.filter(pk__in=node_ids).values_list("pk", "public_key", "enrolment_state")
    return {pk: (key, state) for pk, key, state in rows}


# --- For people: only what they may see (law 10) -------------------------------------------------

READ = "agent:read"
WRITE = "agent:write"
# Observed states in which an execution holds one of a node's places.
ACTIVE = ("pending", "starting", "validating", "running", "degraded", "stopping")

# The badge in SQL, worst first; it agrees with `nodes.states.badge` (docs/semantics.md 4.4).
BADGE = Case(
    When(connection_state=ConnectionState.DELETED, then=F("connection_state")),
    When(~Q(enrolment_state=EnrolmentState.ACCEPTED), then=F("enrolment_state")),
    When(~Q(connection_state=ConnectionState.CONNECTED), then=F("connection_state")),
    default=F("scheduling_state"),
    output_field=CharField(),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFilter:
    """Which nodes a list shows: every member that is not empty must hold."""

    namespaces: Collection[str] = ()
    labels: str = ""
    name: str = ""
    badges: Collection[str] = ()
    connection_states: Collection[str] = ()
    scheduling_states: Collection[str] = ()
    enrolment_states: Collection[str] = ()


def find_node_for(
    user: Person, key: str, permission: str = READ, namespace: str | None = None
) -> Node:
    """Return a node by its id or by its name (a deleted one by its id only).

    A name may need `namespace` when several nodes have it.
    Raises Refused `not_found`, `forbidden`, `conflict`.
    """
    nodes = _seen_by(user)
    if namespace is not None:
        nodes = nodes.filter(namespace_id=namespace)
    try:
        found = list(nodes.filter(pk=UUID(key)))
    except ValueError:
        named = nodes.filter(name=key).exclude(connection_state=ConnectionState.DELETED)
        found = list(named[:2])
    if not found:
        raise Refused("not_found", f"There is no node {key[:128]}, or you may not see it.")
    if len(found) > 1:
        raise Refused(
            "conflict",
            f"Several nodes are named {key[:128]}.",
            hint="Add ?namespace=NAME, or use the node's id.",
        )
    require(user, permission, found[0].namespace_id)
    return found[0]


def may_read_node(user: Person, pk: str) -> bool:
    """Say whether a person may look at a node."""
    return _seen_by(user).filter(pk=pk).exists()


def nodes_for(user: Person, wanted: NodeFilter) -> QuerySet[Node]:
    """Return the nodes a person may see, filtered; deleted ones only when asked for.

    Raises Refused `invalid_selector` for a label filter that cannot be read.
    """
    nodes = _seen_by(user)
    if wanted.namespaces:
        nodes = nodes.filter(namespace_id__in=wanted.namespaces)
    if wanted.name:
        nodes = nodes.filter(name__icontains=wanted.name)
    if wanted.badges:
        nodes = nodes.filter(In(BADGE, list(wanted.badges)))
    if wanted.connection_states:
        nodes = nodes.filter(connection_state__in=wanted.connection_states)
    if wanted.scheduling_states:
        nodes = nodes.filter(scheduling_state__in=wanted.scheduling_states)
    if wanted.enrolment_states:
        nodes = nodes.filter(enrolment_state__in=wanted.enrolment_states)
    deleted = ConnectionState.DELETED
    if deleted not in wanted.connection_states and deleted not in wanted.badges:
        nodes = nodes.exclude(connection_state=deleted)
    return _with_labels(nodes, wanted.labels)


def read_label_filter(text: str) -> tuple[Requirement, ...]:
    """Return the requirements of a filter text. Raises Refused `invalid_selector`."""
    try:
        return parse_label_filter(text)
    except SelectorError as error:
        raise Refused("invalid_selector", f"labels: {error} (column {error.column})") from error


def _with_labels(nodes: QuerySet[Node], text: str) -> QuerySet[Node]:
    requirements = read_label_filter(text)
    if not requirements:
        return nodes
    condition, params = to_sql(Selector(requirements=requirements), "nodes_node")
    return nodes.extra(where=[condition], params=params)  # noqa: S610 - our own condition


def _seen_by(user: Person) -> QuerySet[Node]:
    readable = namespaces_for(user, READ)
    return Node.objects.filter(namespace_id__in=readable)


def active_counts(node_ids: Collection[UUID]) -> dict[UUID, int]:
    """Return how many executions hold a place on each of these nodes: one query."""
    # The rows are a higher app's; the reverse accessor is all that is known of them here.
    active = Count("executions", filter=Q(executions__observed_state__in=ACTIVE))
    counted = Node.objects.filter(pk__in=node_ids).annotate(active=active).order_by()
    return dict(counted.values_list("pk", "active"))


def with_presence(nodes: QuerySet[Node]) -> QuerySet[Node]:
    """Let each node know when it was last heard, without a query of its own."""
    return nodes.select_related("presence")


def last_heard(node: Node) -> datetime | None:
    """Return when a node was last heard, None if never."""
    presence = getattr(node, "presence", None)
    return presence.last_seen_at if presence is not None else None


def events_of(node: Node) -> QuerySet[NodeEvent]:
    """Return everything that happened to a node."""
    return NodeEvent.objects.filter(node=node)


def tokens_seen_by(user: Person, permission: str = READ) -> QuerySet[EnrolmentToken]:
    """Return the enrolment tokens of the namespaces in which a person holds a permission."""
    return EnrolmentToken.objects.filter(namespace_id__in=namespaces_for(user, permission))


def find_enrolment_token(user: Person, pk: int, permission: str = READ) -> EnrolmentToken:
    """Return an enrolment token. Raises Refused: not_found, forbidden."""
    token = EnrolmentToken.objects.filter(pk=pk).first()
    if token is None:
        raise Refused("not_found", "There is no such enrolment token, or you may not see it.")
    require(user, permission, token.namespace_id)
    return token


def enrolment_token_of(text: str) -> EnrolmentToken:
    """Return the row of a token that was just made."""
    return EnrolmentToken.objects.get(digest=digest_of(text))


def count_nodes(user: Person, namespaces: Collection[str]) -> int:
    """Return how many nodes the rail counts: those of these namespaces that are not deleted."""
    readable = [name for name in namespaces_for(user, READ) if name in namespaces]
    nodes = Node.objects.filter(namespace_id__in=readable)
    return nodes.exclude(connection_state=ConnectionState.DELETED).count()


def node_of(pk: UUID | str) -> Node | None:
    """Return a node with its presence, for boxes whose reader was checked by the caller."""
    return with_presence(Node.objects.all()).filter(pk=pk).first()
