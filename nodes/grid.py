"""The fleet as a picture: one square for each node, or counted bars when there are too many."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Count, QuerySet
from django.db.models.fields.json import KeyTextTransform

from nodes.models import Node
from nodes.queries import BADGE
from nodes.states import SchedulingState

# Above this the squares of the grid become counted bars (mockups/README.md, known gaps).
FOLD_ABOVE = 2000
_SAMPLE = 200
_GROUPS_MOST = 24
_KEYS_MOST = 5
_READY: str = SchedulingState.READY
BADGES = ("ready", "draining", "cordoned", "disconnected", "lost", "pending", "rejected", "revoked")
# What a square looks like, and which fill its part of a bar has.
CELLS = {
    "ready": "h0",
    "draining": "is-drain",
    "cordoned": "is-cordon",
    "disconnected": "is-off",
    "lost": "is-lost",
    "pending": "is-ask",
    "rejected": "h4",
    "revoked": "h4",
    "deleted": "h4",
}
FILLS = {"ready": "ok", "draining": "warn", "pending": "warn", "lost": "bad", "rejected": "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What the address of the list asks for; every part stands in the URL."""

    namespaces: tuple[str, ...]
    labels: str = ""
    name: str = ""
    badge: str = ""
    view: str = ""
    group: str = ""

    def href(self, **changes: str) -> str:
        """Return the address with some parts changed and the place in the list forgotten."""
        parts = {
            "labels": self.labels,
            "name": self.name,
            "badge": self.badge,
            "view": self.view,
            "group": self.group,
        } | changes
        return "?" + urlencode({name: text for name, text in parts.items() if text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """One part of a filter: its words, where it leads, how many nodes it means."""

    text: str
    href: str
    count: int = 0
    is_current: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One node in the grid."""

    pk: UUID
    name: str
    badge: str
    css: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The nodes of one label's value: squares, or counts alone when there are too many."""

    title: str
    total: int
    segments: tuple[tuple[str, int, str], ...]
    cells: tuple[Cell, ...] = ()

    @property
    def note(self) -> str:
        """What is not ready, in words."""
        words = [f"{count:,} {word}" for _, count, word in self.segments if word != _READY]
        return ", ".join(words) or "all ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The fleet as a picture."""

    groups: tuple[Group, ...]
    keys: tuple[Chip, ...]
    legend: tuple[tuple[str, str, int], ...]
    is_folded: bool
    has_rest: bool


def load_grid(nodes: QuerySet[Node], query: Query) -> Grid:
    """Return the fleet as squares, grouped by a label; as counted bars above FOLD_ABOVE nodes."""
    rows = _grid_rows(nodes)
    is_folded = len(rows) > FOLD_ABOVE
    keys = _group_keys([labels for *_, labels in rows[:_SAMPLE]], query)
    if is_folded:
        groups = _counted_groups(nodes, query.group)
    else:
        groups = _squared_groups(rows, query.group)
    counts: Counter[str] = Counter()
    for group in groups:
        counts.update({badge: count for _, count, badge in group.segments})
    return Grid(
        groups=groups[:_GROUPS_MOST],
        keys=keys,
        legend=tuple((CELLS[b], b, counts[b]) for b in BADGES if counts[b]),
        is_folded=is_folded,
        has_rest=len(groups) > _GROUPS_MOST,
    )


def _grid_rows(nodes: QuerySet[Node]) -> list[tuple[UUID, str, str, dict[str, str]]]:
    named = nodes.annotate(shown_badge=BADGE).order_by("name", "pk")
    return list(named.values_list("pk", "name", "shown_badge", "labels")[: FOLD_ABOVE + 1])


def _group_keys(sample: Iterable[Mapping[str, str]], query: Query) -> tuple[Chip, ...]:
    """Return the label keys that group best: on many nodes, with few and more than one value."""
    values: dict[str, set[str]] = {}
    held: Counter[str] = Counter()
    for labels in sample:
        for key, value in labels.items():
            held[key] += 1
            values.setdefault(key, set()).add(value)
    fitting = [key for key in held if 1 < len(values[key]) <= _GROUPS_MOST]
    best = sorted(fitting, key=lambda key: (-held[key], key))[:_KEYS_MOST]
    if query.group and query.group not in best:
        best.append(query.group)
    none = Chip(text="nothing", href=query.href(group=""), is_current=not query.group)
    chips = (
        Chip(text=key, href=query.href(group=key), is_current=key == query.group) for key in best
    )
    return (none, *chips) if best else ()


def _squared_groups(
    rows: Iterable[tuple[UUID, str, str, dict[str, str]]], key: str
) -> tuple[Group, ...]:
    cells: dict[str, list[Cell]] = {}
    for pk, name, badge, labels in rows:
        cell = Cell(pk=pk, name=name, badge=badge, css=CELLS[badge])
        cells.setdefault(_title(labels.get(key) if key else None, key), []).append(cell)
    return tuple(
        _group(title, Counter(cell.badge for cell in held), tuple(held))
        for title, held in sorted(cells.items())
    )


def _counted_groups(nodes: QuerySet[Node], key: str) -> tuple[Group, ...]:
    counted = nodes.order_by().annotate(
        shown_badge=BADGE, shown_group=KeyTextTransform(key, "labels")
    )
    found: dict[str, Counter[str]] = {}
    rows: Iterable[Any] = (
        counted.values("shown_badge", "shown_group")
        .annotate(n=Count("pk"))
        .values_list("shown_group", "shown_badge", "n")
    )
    for value, badge, count in rows:
        found.setdefault(_title(value, key), Counter())[badge] += count
    return tuple(_group(title, counts) for title, counts in sorted(found.items()))


def _title(value: str | None, key: str) -> str:
    if not key:
        return "All nodes"
    return f"without {key}" if value is None else value or f"{key} is empty"


def _group(title: str, counts: Mapping[str, int], cells: tuple[Cell, ...] = ()) -> Group:
    segments = tuple((FILLS.get(b, "off"), counts[b], b) for b in BADGES if counts.get(b))
    return Group(title=title, total=sum(counts.values()), segments=segments, cells=cells)
