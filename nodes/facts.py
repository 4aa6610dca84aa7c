"""What an agent says of its machine, told apart: what lasts, and what every look changes."""

from collections.abc import Collection, Mapping
from typing import Any

PASSING = frozenset({"memory", "load_average", "disks", "uptime"})
# The fields of a node that are told of, by the words that people read.
_WORDS = {
    "hostname": "host name",
    "os": "system",
    "arch": "architecture",
    "agent_version": "agent version",
    "reported_labels": "labels",
    "labels": "labels",
    "capabilities": "abilities",
}


def lasting(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts whose change is worth an event.

    >>> lasting({"uptime": 3, "kernel_version": "6.1"})
    {'kernel_version': '6.1'}
    """
    return {name: value for name, value in facts.items() if name not in PASSING}


def changes_in_words(
    fields: Collection[str], old: Mapping[str, Any], new: Mapping[str, Any]
) -> str:
    """Say what an agent now reports differently: fields of the node, then facts by their names.

    >>> changes_in_words({"labels", "os"}, {"kernel_version": "6.1"}, {"kernel_version": "6.2"})
    'its agent reports other labels, system, kernel version'
    """
    words = sorted({_WORDS[name] for name in fields if name in _WORDS})
    before, after = lasting(old), lasting(new)
    names = sorted(n for n in {*before, *after} if before.get(n) != after.get(n))
    return "its agent reports other " + ", ".join([*words, *(n.replace("_", " ") for n in names)])
