"""The live boxes of this app: which parts the page of a node has, and who may look at them."""

from collections.abc import Callable
from typing import Any

from live.registry import Fragment, Noun
from nodes import node_page
from nodes.queries import may_read_node

PARTS: dict[str, Callable[[str], Any]] = {
    "head": node_page.head_view,
    "day": node_page.day_view,
    "vitals": node_page.vitals_view,
    "labels": node_page.labels_view,
    "events": node_page.events_view,
}

NODE = Noun(
    name="node",
    may_read=may_read_node,
    fragments=tuple(
        Fragment(noun="node", name=name, template=f"nodes/_node_{name}.html", query=query)
        for name, query in PARTS.items()
    ),
)
