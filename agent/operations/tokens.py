"""Facts of the node in parameters: `@fact.NAME` in any text becomes what it is here."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from typing import Any

from agent import facts
from agent.operations.base import OperationError

# A name ends where a sentence would: `@fact.hostname.` is the host name and a full stop.
_TOKEN_RE = re.compile(r"@fact\.([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)")


def facts_of_node() -> dict[str, str]:
    """Return the facts that parameters may name (docs/semantics.md 2.3)."""
    gathered = facts.gather()
    return {
        "hostname": gathered["hostname"],
        "fqdn": socket.getfqdn(),
        "arch": gathered["architecture"],
        "kernel": gathered["kernel_version"],
        "interface.primary": facts.primary_interface(),
        "os": gathered["os_info"]["distribution"],
    }


def fill_in(value: Any, known: Mapping[str, str]) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON value with every token in its texts replaced, also nested ones and in lists.

    Raises OperationError (`unknown_fact`), which names the fact.
    """
    if isinstance(value, str):
        return _TOKEN_RE.sub(lambda match: _fact(match[1], known), value)
    if isinstance(value, Mapping):
        return {key: fill_in(child, known) for key, child in value.items()}
    return [fill_in(child, known) for child in value] if isinstance(value, list) else value


def has_tokens(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Say whether any text of a JSON value names a fact: gathering them takes a moment."""
    if isinstance(value, str):
        return _TOKEN_RE.search(value) is not None
    children = value.values() if isinstance(value, Mapping) else value
    return isinstance(value, Mapping | list) and any(map(has_tokens, children))


def _fact(name: str, known: Mapping[str, str]) -> str:
    if name not in known:
        names = ", ".join(sorted(known))
        raise OperationError(f"this node has no fact {name}; it has {names}", "unknown_fact")
    return known[name]
