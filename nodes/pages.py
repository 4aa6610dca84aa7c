"""What the pages of the fleet show: rows, squares, counts, who asks to join, and live tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Count, F, QuerySet

from access.problems import Refused
from access.queries import Person, may, namespaces_for
from access.rest import PageRequest, paginate
from nodes.controls import BulkNode, BulkQuestion, BulkVerb
from nodes.grid import BADGES, Chip, Grid, Query, load_grid
from nodes.models import EnrolmentToken, Node
from nodes.queries import (
    BADGE,
    READ,
    WRITE,
    NodeFilter,
    active_counts,
    last_heard,
    nodes_for,
    read_label_filter,
    tokens_seen_by,
    with_presence,
)
from nodes.records import badge_of
from nodes.selector import print_label_filter
from nodes.states import EnrolmentState

PENDING_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """One label of a node; `operator` marks one that a person set."""

    key: str
    value: str
    operator: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One node in the table."""

    pk: UUID
    name: str
    namespace: str
    badge: str
    labels: tuple[Label, ...]
    more_labels: int
    agent_version: str
    active: int
    last_heard: datetime | None
    cpu: float | None
    disk: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """A node that asks to join."""

    pk: UUID
    name: str
    hostname: str
    namespace: str
    fingerprint: str
    created_at: datetime
    labels: tuple[Label, ...]
    may_accept: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The list of nodes as asked for by its address."""

    rows: tuple[Row, ...]
    grid: Grid | None
    next_href: str
    matching: int
    total: int
    badges: tuple[Chip, ...]
    requirements: tuple[Chip, ...]
    pending: tuple[Newcomer, ...]
    pending_count: int
    selector: str
    error: str
    may_write: bool
    lacks_read: bool


def load_fleet(user: Person, query: Query, page: PageRequest) -> Fleet:
    """Return the list: seven queries, whatever the number of nodes."""
    everything = NodeFilter(namespaces=query.namespaces)
    total = nodes_for(user, everything).count() if query.namespaces else 0
    error, selector = "", ""
    chips: tuple[Chip, ...] = ()
    try:
        requirements = read_label_filter(query.labels)
        selector = print_label_filter(requirements)
        chips = _requirement_chips(query, [str(one) for one in requirements])
    except Refused as refused:
        error = refused.detail
    matching = _matching(user, query) if query.namespaces and not error else None
    counts = _count_badges(matching) if matching is not None else {}
    shown = _shown(user, query) if matching is not None else None
    rows: tuple[Row, ...] = ()
    next_token, grid = "", None
    if shown is not None and query.view == "grid":
        grid = load_grid(shown, query)
    elif shown is not None:
        rows, next_token = _rows(shown, page)
    pending, pending_count = pending_nodes(user, query.namespaces)
    return Fleet(
        rows=rows,
        grid=grid,
        next_href=query.href(next_token=next_token) if next_token else "",
        matching=counts.get(query.badge, 0) if query.badge else sum(counts.values()),
        total=total,
        badges=_badge_chips(query, counts),
        requirements=chips,
        pending=pending,
        pending_count=pending_count,
        selector=selector,
        error=error,
        may_write=any(may(user, WRITE, name) for name in query.namespaces),
        lacks_read=not namespaces_for(user, READ),
    )


def _matching(user: Person, query: Query) -> QuerySet[Node]:
    wanted = NodeFilter(namespaces=query.namespaces, labels=query.labels, name=query.name)
    return nodes_for(user, wanted)


def _shown(user: Person, query: Query) -> QuerySet[Node]:
    badges = (query.badge,) if query.badge else ()
    return nodes_for(
        user,
        NodeFilter(
            namespaces=query.namespaces, labels=query.labels, name=query.name, badges=badges
        ),
    )


def _count_badges(nodes: QuerySet[Node]) -> dict[str, int]:
    counted = nodes.order_by().annotate(shown_badge=BADGE).values("shown_badge")
    return dict(counted.annotate(n=Count("pk")).values_list("shown_badge", "n"))


def _badge_chips(query: Query, counts: Mapping[str, int]) -> tuple[Chip, ...]:
    every = Chip(
        text="All",
        href=query.href(badge=""),
        count=sum(counts.values()),
        is_current=not query.badge,
    )
    return (
        every,
        *(
            Chip(
                text=badge,
                href=query.href(badge=badge),
                count=counts.get(badge, 0),
                is_current=query.badge == badge,
            )
            for badge in BADGES
        ),
    )


def _requirement_chips(query: Query, texts: list[str]) -> tuple[Chip, ...]:
    return tuple(
        Chip(text=text, href=query.href(labels=",".join(texts[:at] + texts[at + 1 :])))
        for at, text in enumerate(texts)
    )


def _rows(nodes: QuerySet[Node], page: PageRequest) -> tuple[tuple[Row, ...], str]:
    found, token = paginate(with_presence(nodes), page)
    active = active_counts([node.pk for node in found])
    return tuple(_row(node, active.get(node.pk, 0)) for node in found), token


_LABELS_SHOWN = 4


def _row(node: Node, active: int) -> Row:
    labels = labels_of(node)
    return Row(
        pk=node.pk,
        name=node.name,
        namespace=node.namespace_id,
        badge=badge_of(node),
        labels=labels[:_LABELS_SHOWN],
        more_labels=max(0, len(labels) - _LABELS_SHOWN),
        agent_version=node.agent_version,
        active=active,
        last_heard=last_heard(node),
        cpu=percent_of(node.resource_usage, "cpu_percent"),
        disk=percent_of(node.resource_usage, "disk_percent"),
    )


def labels_of(node: Node) -> tuple[Label, ...]:
    """Return the labels that count, those that people set first."""
    labels = [
        Label(key=key, value=value, operator=key in node.operator_labels)
        for key, value in sorted(node.labels.items())
    ]
    return tuple(sorted(labels, key=lambda label: not label.operator))


def percent_of(usage: object, name: str) -> float | None:
    """Return a percentage that an agent reported, None if it is none."""
    value = usage.get(name) if isinstance(usage, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return min(100.0, max(0.0, float(value)))


# --- Joining -------------------------------------------------------------------------------------


def pending_nodes(
    user: Person, namespaces: tuple[str, ...], most: int = PENDING_SHOWN
) -> tuple[tuple[Newcomer, ...], int]:
    """Return the nodes that have asked longest to join, and how many ask in all."""
    if not namespaces:
        return (), 0
    wanted = NodeFilter(namespaces=namespaces, enrolment_states=(EnrolmentState.PENDING,))
    waiting = nodes_for(user, wanted).order_by("created_at", "pk")
    found = list(waiting[: most + 1])
    count = waiting.count() if len(found) > most else len(found)
    return tuple(_newcomer(user, node) for node in found[:most]), count


def _newcomer(user: Person, node: Node) -> Newcomer:
    return Newcomer(
        pk=node.pk,
        name=node.name,
        hostname=node.hostname,
        namespace=node.namespace_id,
        fingerprint=node.fingerprint,
        created_at=node.created_at,
        labels=labels_of(node)[:_LABELS_SHOWN],
        may_accept=may(user, WRITE, node.namespace_id),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """An enrolment token that still works."""

    pk: int
    namespace: str
    labels: tuple[tuple[str, str], ...]
    auto_accept: bool
    uses: int
    max_uses: int
    expires_at: datetime
    created_by: str
    may_revoke: bool


def live_tokens(
    user: Person, namespaces: Sequence[str], now: datetime, most: int = 100
) -> tuple[TokenRow, ...]:
    """Return the tokens by which a machine could join now, the newest first."""
    usable = tokens_seen_by(user).filter(
        namespace_id__in=namespaces, expires_at__gt=now, uses__lt=F("max_uses")
    )
    return tuple(_token_row(user, token) for token in usable.order_by("-created_at", "-pk")[:most])


def _token_row(user: Person, token: EnrolmentToken) -> TokenRow:
    return TokenRow(
        pk=token.pk,
        namespace=token.namespace_id,
        labels=tuple(sorted(token.labels.items())),
        auto_accept=token.auto_accept,
        uses=token.uses,
        max_uses=token.max_uses,
        expires_at=token.expires_at,
        created_by=token.created_by,
        may_revoke=may(user, WRITE, token.namespace_id),
    )


# --- Many at once --------------------------------------------------------------------------------


def bulk_question(user: Person, verb: BulkVerb, keys: Sequence[str]) -> BulkQuestion:
    """Return what would be done to these nodes. Raises Refused `not_found` if any is not there."""
    try:
        ids = {UUID(key) for key in keys}
    except ValueError as error:
        raise Refused("not_found", "There is no such node, or you may not see it.") from error
    found = list(nodes_for(user, NodeFilter()).filter(pk__in=ids).order_by("name", "pk"))
    if len(found) != len(ids):
        raise Refused("not_found", "There is no such node, or you may not see it.")
    spaces = sorted({node.namespace_id for node in found})
    return BulkQuestion(
        verb=verb,
        nodes=tuple(
            BulkNode(
                pk=node.pk,
                name=node.name,
                namespace=node.namespace_id,
                badge=badge_of(node),
                fingerprint=node.fingerprint,
            )
            for node in found
        ),
        active=sum(active_counts(list(ids)).values()),
        lacking=tuple(name for name in spaces if not may(user, WRITE, name)),
    )
