"""In which order nodes are taken into waves: by id, spread over a label, or in rings."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class OrderBy(StrEnum):
    """The three orders (docs/semantics.md X93)."""

    ID = "id"
    SPREAD = "spread"
    RINGS = "rings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The `rollout.order` block; `label` for spread and rings, `values` for rings."""

    by: OrderBy = OrderBy.ID
    label: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A node before it has a place. Ids are compared as texts."""

    node_id: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a node stands: position from 1; ring from 1, or 0 when the order has no rings."""

    node_id: str
    position: int
    ring: int


def ring_of(labels: Mapping[str, str], order: Order) -> int:
    """Return the ring of a node: the place of its value in the list, else one behind the last.

    >>> order = Order(by=OrderBy.RINGS, label="ring", values=("lab", "shop"))
    >>> [ring_of(labels, order) for labels in ({"ring": "shop"}, {"ring": "x"}, {})]
    [2, 3, 3]
    """
    if order.by is not OrderBy.RINGS:
        return 0
    value = labels.get(order.label)
    return order.values.index(value) + 1 if value in order.values else len(order.values) + 1


def order_nodes(candidates: Iterable[Candidate], order: Order) -> tuple[Place, ...]:
    """Return the nodes in the order in which they are taken, whatever order they came in (X93).

    Spread takes one node of each value in turn, values sorted, nodes by id inside a value; nodes
    without the label share the value "". Rings come in the order of their values, the rest last.
    """
    by_id = sorted(candidates, key=lambda candidate: candidate.node_id)
    ranked: list[tuple[int, Candidate]] = [(ring_of(c.labels, order), c) for c in by_id]
    if order.by is OrderBy.SPREAD:
        ranked = [(0, candidate) for candidate in _spread(by_id, order.label)]
    ranked.sort(key=lambda pair: pair[0])
    return tuple(
        Place(node_id=candidate.node_id, position=position, ring=ring)
        for position, (ring, candidate) in enumerate(ranked, start=1)
    )


def _spread(by_id: list[Candidate], label: str) -> list[Candidate]:
    seen: dict[str, int] = defaultdict(int)
    turns: list[tuple[int, str, str, Candidate]] = []
    for candidate in by_id:
        value = candidate.labels.get(label, "")
        seen[value] += 1
        turns.append((seen[value], value, candidate.node_id, candidate))
    return [candidate for *_, candidate in sorted(turns, key=lambda turn: turn[:3])]
