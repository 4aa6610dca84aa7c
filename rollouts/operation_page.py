"""The page that runs an operation: whom the target means, and which operations there are."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.db.models import Count, Q, QuerySet

from access.queries import Person, may, readable_namespaces
from nodes.models import Node
from nodes.operations import OPERATIONS, Operation
from nodes.queries import READ, NodeFilter, nodes_for
from nodes.selector import (
    Selector,
    SelectorError,
    Target,
    TargetKind,
    parse_target,
    to_sql,
)
from nodes.states import ConnectionState, EnrolmentState, SchedulingState

# Where an operation goes unless somebody says where: one node, so that a slip costs little.
DEFAULT_TARGET = str(TargetKind.ANY)
NAMES_SHOWN = 8
_SUGGESTED_NODES = 200
_SUGGESTED_LABELS = 100
# Takes one-shot work now; it agrees with the planner (rollouts.dry_run).
_READY = Q(
    enrolment_state=EnrolmentState.ACCEPTED,
    scheduling_state=SchedulingState.READY,
    connection_state=ConnectionState.CONNECTED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """The nodes that a target means now, and those of them that can do the operation."""

    target: str
    namespace: str
    error: str = ""
    may_look: bool = True
    takes_any: bool = False
    total: int = 0
    ready: int = 0
    able: int = 0
    names: tuple[str, ...] = ()

    @property
    def touched(self) -> int:
        """How many nodes it runs on."""
        return min(1, self.able) if self.takes_any else self.able

    @property
    def mark(self) -> str:
        """What a person has seen who was asked about these nodes."""
        return str(self.able) if self.may_look else "unseen"

    @property
    def away(self) -> int:
        """How many are meant that can take no work now."""
        return self.total - self.ready

    @property
    def lacking(self) -> int:
        """How many could take work, but do not offer the operation."""
        return self.ready - self.able

    @property
    def more(self) -> int:
        """How many are not named."""
        return self.able - len(self.names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One operation of the list; `lacking` names the permission that its reader has not."""

    name: str
    verb: str
    kind: str
    href: str
    lacking: str
    is_chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The operations of one domain."""

    name: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PickerView:
    """The left side of the page, as its address asks for it."""

    aim: Aim
    q: str
    chosen: Operation | None
    lacking: str
    domains: tuple[Domain, ...]
    namespaces: tuple[str, ...]
    suggestions: tuple[str, ...]


def picker_view(
    user: Person, *, target: str, namespace: str, q: str, chosen: Operation | None
) -> PickerView:
    """Return the target's nodes and the operations: three queries, whatever the number of nodes."""
    return PickerView(
        aim=aim_at(user, target, namespace, chosen),
        q=q,
        chosen=chosen,
        lacking=lacking(user, chosen, namespace) if chosen else "",
        domains=_domains(user, target, namespace, q, chosen),
        namespaces=readable_namespaces(user),
        suggestions=_suggestions(_nodes_in(user, namespace)),
    )


def lacking(user: Person, operation: Operation, namespace: str) -> str:
    """Return the permission that a person would need to run an operation, "" if he holds it."""
    held = [name for name in (operation.permission, operation.also) if name]
    return "" if any(may(user, name, namespace) for name in held) else operation.permission


def _nodes_in(user: Person, namespace: str) -> QuerySet[Node]:
    return nodes_for(user, NodeFilter(namespaces=(namespace,)))


def aim_at(user: Person, text: str, namespace: str, operation: Operation | None) -> Aim:
    """Return the nodes that a target means: two queries."""
    if not may(user, READ, namespace):
        return Aim(target=text, namespace=namespace, may_look=False)
    try:
        target = parse_target(text)
    except SelectorError as error:
        message = f"Column {error.column}: {error.message}"
        return Aim(target=text, namespace=namespace, error=message)
    meant = _meant(_nodes_in(user, namespace), target)
    able = _READY
    if operation is not None:
        able = able & Q(capabilities__contains={"operations": [operation.name]})
    counts = meant.aggregate(
        total=Count("pk"), ready=Count("pk", filter=_READY), able=Count("pk", filter=able)
    )
    named = meant.filter(able).order_by("name", "pk").values_list("name", flat=True)
    return Aim(
        target=text,
        namespace=namespace,
        takes_any=target.kind is TargetKind.ANY,
        names=tuple(named[:NAMES_SHOWN]),
        **counts,
    )


def _meant(nodes: QuerySet[Node], target: Target) -> QuerySet[Node]:
    condition, params = to_sql(Selector(target=target), "nodes_node")
    return nodes.extra(where=[condition], params=params)  # noqa: S610 - our own condition


def _suggestions(nodes: QuerySet[Node]) -> tuple[str, ...]:
    """Return targets to choose from: the two words, names of nodes, and their labels."""
    rows = list(nodes.order_by("name", "pk").values_list("name", "labels")[:_SUGGESTED_NODES])
    pairs = {f"{key}:{value}" for _, labels in rows for key, value in labels.items()}
    branches = [pair for pair in sorted(pairs) if _is_branch(pair)][:_SUGGESTED_LABELS]
    words = (str(TargetKind.ANY), str(TargetKind.ALL))
    return (*words, *branches, *dict.fromkeys(name for name, _ in rows))


def _is_branch(text: str) -> bool:
    try:
        return parse_target(text).kind is TargetKind.LABEL
    except SelectorError:
        return False


def _domains(
    user: Person, target: str, namespace: str, q: str, chosen: Operation | None
) -> tuple[Domain, ...]:
    found: dict[str, list[Entry]] = {}
    place = {"target": target, "namespace": namespace, "q": q}
    for operation in OPERATIONS.values():
        if _is_found(operation, q.lower().split()):
            asked = {name: text for name, text in place.items() if text}
            entry = Entry(
                name=operation.name,
                verb=operation.name.partition(".")[2],
                kind=operation.kind,
                href="?" + urlencode(asked | {"operation": operation.name}),
                lacking=lacking(user, operation, namespace),
                is_chosen=operation is chosen,
            )
            found.setdefault(operation.domain, []).append(entry)
    return tuple(Domain(name=name, entries=tuple(entries)) for name, entries in found.items())


def _is_found(operation: Operation, words: Sequence[str]) -> bool:
    text = f"{operation.name} {operation.kind} {operation.permission}"
    return all(word in text for word in words)
