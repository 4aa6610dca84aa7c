"""Which module knows the operations of a domain, and which of them this machine can do."""

from __future__ import annotations

import importlib
from types import ModuleType

from agent.operations.base import Handler, OperationError

# The first part of an operation's name -> its module; an operation loads its own domain alone.
DOMAINS = {
    "certificate": "agent.operations.certificate",
    "command": "agent.operations.command",
    "cron": "agent.operations.cron",
    "docker": "agent.operations.docker",
    "file": "agent.operations.file",
    "group": "agent.operations.group",
    "log": "agent.operations.log",
    "network": "agent.operations.network",
    "node": "agent.operations.node",
    "ntp": "agent.operations.ntp",
    "package": "agent.operations.package",
    "power": "agent.operations.power",
    "process": "agent.operations.process",
    "service": "agent.operations.service",
    "sysctl": "agent.operations.sysctl",
    "timezone": "agent.operations.timezone",
    "user": "agent.operations.user",
}


def _module(domain: str) -> ModuleType:
    return importlib.import_module(DOMAINS[domain])


def handler_of(name: str) -> Handler:
    """Return what does an operation. Raises OperationError (`unknown_operation`)."""
    domain = name.partition(".")[0]
    handler: Handler | None = _module(domain).HANDLERS.get(name) if domain in DOMAINS else None
    if handler is None:
        raise OperationError(f"this node has no operation {name}", "unknown_operation")
    return handler


def available() -> list[str]:
    """Return the names of all operations that this machine can do, sorted."""
    return sorted(name for domain in DOMAINS for name in _module(domain).available())
