"""The time zone of a node (docs/semantics.md 2.7, domain timezone)."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection
from pathlib import Path

from agent.operations.base import (
    Answer,
    Handler,
    OperationError,
    Params,
    at,
    has_systemd,
    program,
    read,
    run,
    write,
)

ZONES = "/usr/share/zoneinfo"
LINK = "/etc/localtime"
NAME_FILE = "/etc/timezone"
_NAME_RE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_+-]*(/[A-Za-z0-9_][A-Za-z0-9_+-]*)*")
# How a file of a zone begins (RFC 9636).
_MAGIC = b"TZif"


def _linked() -> str | None:
    """Return the zone that /etc/localtime is a link to, None if it is no such link."""
    try:
        target = str(at(LINK).readlink())
    except OSError:
        return None
    return target.partition("zoneinfo/")[2] or None


def _current() -> str | None:
    """Return the name of the zone; None where /etc/localtime is a file that names none."""
    if name := _linked() or read(NAME_FILE, "").strip():
        return name
    return None if os.path.lexists(at(LINK)) else "UTC"


def _get(_: Params) -> Answer:
    return Answer(data={"timezone": _current()})


def _wanted(params: Params) -> str:
    name = str(params["timezone"])
    if not _NAME_RE.fullmatch(name) or len(name) > 100:
        text = f"{name!r} is no name of a time zone, such as Europe/Zurich"
        raise OperationError(text, "invalid_value")
    try:
        with at(f"{ZONES}/{name}").open("rb") as file:
            is_zone = file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        is_zone = False
    if not is_zone:
        raise OperationError(f"this node knows no time zone {name}", "invalid_value")
    return name


def _link(name: str) -> None:
    """Let /etc/localtime be a link to the zone, at no moment none. Raises OperationError."""
    link = at(LINK)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(Path(ZONES, name))
        temporary.replace(link)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OperationError(f"{LINK} cannot be replaced: {error.strerror}") from error


def _update(params: Params) -> Answer:
    name, before = _wanted(params), _current()
    is_named = read(NAME_FILE, name).strip() == name
    if before == name and is_named:
        return Answer(changed=False, data={"timezone": name})
    tool = program("timedatectl") if has_systemd() else None
    if tool is None:
        _link(name)
    else:
        run([tool, "set-timezone", name])
    # With systemd the link is all there is, but some programs read the older file where it is.
    if tool is None or at(NAME_FILE).exists():
        write(NAME_FILE, f"{name}\n")
    return Answer(changed=True, data={"timezone": name, "before": before})


HANDLERS: dict[str, Handler] = {
    "timezone.config.get": _get,
    "timezone.config.update": _update,
}


def available() -> Collection[str]:
    """Return what this machine can do: root sets the zone, where there are zones."""
    can_set = os.geteuid() == 0 and at(ZONES).is_dir()
    return list(HANDLERS) if can_set else ["timezone.config.get"]
