"""What a node is and how it fares (docs/semantics.md 2.7, domain node)."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Collection
from typing import Any

from agent import facts
from agent.operations.base import (
    Answer,
    Handler,
    OperationError,
    Params,
    has_systemd,
    program,
    read,
    run,
    write,
)


def _hostname(_: Params) -> Answer:
    return Answer(data={"hostname": socket.gethostname(), "fqdn": socket.getfqdn()})


def _disk(_: Params) -> Answer:
    return Answer(data={"disks": facts.disks()})


def _memory(_: Params) -> Answer:
    return Answer(data={"memory": facts.memory()})


def _load(_: Params) -> Answer:
    return Answer(data={"load_average": facts.load(), "cpu_count": os.cpu_count() or 1})


def _os() -> dict[str, Any]:
    return {
        **facts.os_release(),
        "kernel": platform.release(),
        "architecture": facts.architecture(),
    }


def _uptime() -> int:
    return round(facts.uptime())


def _status(_: Params) -> Answer:
    return Answer(
        data={
            "hostname": socket.gethostname(),
            "os_info": _os(),
            "uptime": _uptime(),
            "load_average": facts.load(),
            "cpu_count": os.cpu_count() or 1,
            "memory": facts.memory(),
            "disks": facts.disks(),
        }
    )


def _set_hostname(params: Params) -> Answer:
    wanted = str(params["hostname"])
    labels = wanted.split(".")
    plain = all(
        0 < len(label) <= 63
        and label.replace("-", "").isalnum()
        and label.isascii()
        and not label.startswith("-")
        and not label.endswith("-")
        for label in labels
    )
    if not plain:
        raise OperationError(f"{wanted!r} is no host name (RFC 1123)", "invalid_value")
    before = socket.gethostname()
    if before == wanted and read("/etc/hostname", "").strip() == wanted:
        return Answer(changed=False, data={"hostname": wanted})
    if (tool := program("hostnamectl")) and has_systemd():
        run([tool, "set-hostname", wanted])
    else:
        write("/etc/hostname", f"{wanted}\n")
        try:
            socket.sethostname(wanted)
        except OSError as error:
            raise OperationError(f"the host name cannot be set: {error.strerror}") from error
    return Answer(changed=True, data={"hostname": wanted, "before": before})


HANDLERS: dict[str, Handler] = {
    "node.status.get": _status,
    "node.disk.get": _disk,
    "node.memory.get": _memory,
    "node.load.get": _load,
    "node.os.get": lambda _: Answer(data={"os_info": _os()}),
    "node.uptime.get": lambda _: Answer(data={"uptime": _uptime()}),
    "node.hostname.get": _hostname,
    "node.hostname.update": _set_hostname,
}


def available() -> Collection[str]:
    """Return what this machine can do: the name is set by root alone."""
    return [name for name in HANDLERS if name != "node.hostname.update" or os.geteuid() == 0]
