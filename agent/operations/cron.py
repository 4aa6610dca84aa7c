"""Work that cron starts on a node, made from file objects (docs/semantics.md 2.7, domain cron).

An entry is one file of cron's, named jobsite-NAME, whose head says what it was made from, and the
script that it starts. What others put into cron's folders is neither told nor touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any

from agent.operations.base import (
    Answer,
    Handler,
    OperationError,
    Params,
    at,
    program,
    read,
    remove,
    write,
)
from agent.operations.cron_schedule import checked_schedule
from agent.operations.file import render
from agent.operations.objects import text_of_object

INTERVALS = ("hourly", "daily", "weekly", "monthly")
SCRIPTS = "/var/lib/jobsite/cron"
# cron and run-parts pass over names with other characters, so a dot would mean: never.
_NAME_RE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")
_HEAD = "# jobsite: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What cron starts and when: exactly one of `schedule` and `interval` is not empty."""

    name: str
    object: str
    schedule: str = ""
    interval: str = ""
    user: str = "root"
    content_type: str = "raw"
    vars: dict[str, str] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """Where cron looks for it."""
        return _path(self.name, self.interval)

    @property
    def script(self) -> str:
        """What it starts."""
        return f"{SCRIPTS}/{self.name}"

    def told(self) -> dict[str, Any]:
        """Return what an answer says; variables may be secrets, and are not told."""
        told = {"name": self.name, "object": self.object, "content_type": self.content_type}
        told |= {"interval": self.interval} if self.interval else {"schedule": self.schedule}
        return {**told, "user": self.user, "path": self.path, "script": self.script}


def _path(name: str, interval: str) -> str:
    return f"/etc/cron.{interval or 'd'}/jobsite-{name}"


def _name(params: Params) -> str:
    name = str(params["name"])
    if _NAME_RE.fullmatch(name) is None:
        message = f"{name!r} is no name of an entry: at most 64 letters, digits, '_' and '-'"
        raise OperationError(message, "invalid_value")
    return name


# --- The files -----------------------------------------------------------------------------------


def _head(entry: Entry) -> str:
    kept = {"object": entry.object, "content_type": entry.content_type, "user": entry.user}
    return _HEAD + json.dumps({**kept, "vars": entry.vars}, sort_keys=True)


def _text(entry: Entry) -> str:
    if entry.schedule:
        return f"{_head(entry)}\n{entry.schedule} {entry.user} {entry.script}\n"
    other = "" if entry.user == "root" else f"runuser -u {entry.user} -- "
    return f"#!/bin/sh\n{_head(entry)}\nexec {other}{entry.script}\n"


def _read(name: str, interval: str) -> Entry | None:
    """Return the entry of a file, None if there is no such file.

    Raises OperationError (`conflict`) if the file is not ours.
    """
    path = _path(name, interval)
    text = read(path, "")
    if not text and not at(path).exists():
        return None
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        head = json.loads(next(line for line in lines if line.startswith(_HEAD))[len(_HEAD) :])
        schedule = "" if interval else checked_schedule(" ".join(lines[-1].split()[:-2]))
        return Entry(name=name, schedule=schedule, interval=interval, **head)
    except (StopIteration, ValueError, TypeError, OperationError) as error:
        message = f"{path} is not as Jobsite makes it, so it stays; remove it by hand"
        raise OperationError(message, "conflict") from error


def _find(name: str) -> Entry | None:
    # All are read, so that another's file is a conflict before anything is done.
    found = [_read(name, interval) for interval in ("", *INTERVALS)]
    return next((entry for entry in found if entry is not None), None)


def _existing(name: str) -> Entry:
    entry = _find(name)
    if entry is None:
        raise OperationError(f"there is no cron entry {name} of Jobsite", "not_found")
    return entry


def _place(entry: Entry, script: str | None) -> bool:
    """Make the files hold an entry; say whether that changed anything.

    The script comes first, so that cron never starts what is not there; None leaves it.
    """
    changed = script is not None and write(entry.script, script, 0o755)
    changed |= write(entry.path, _text(entry), 0o755 if entry.interval else 0o644)
    for interval in ("", *INTERVALS):
        if interval != entry.interval:
            changed |= remove(_path(entry.name, interval))
    return changed


# --- Parameters ----------------------------------------------------------------------------------


def _when(params: Params) -> dict[str, Any]:
    """Return the wished schedule or interval; nothing if neither is given."""
    schedule, interval = params.get("schedule"), params.get("interval")
    if schedule is not None and interval is not None:
        raise OperationError("give schedule or interval, not both", "invalid_value")
    if schedule is not None:
        return {"schedule": checked_schedule(str(schedule)), "interval": ""}
    if interval is None:
        return {}
    if interval not in INTERVALS:
        message = f"interval {interval!r} is none of {', '.join(INTERVALS)}"
        raise OperationError(message, "invalid_value")
    if not at(f"/etc/cron.{interval}").is_dir():
        message = f"this machine has no /etc/cron.{interval}; give a schedule instead"
        raise OperationError(message)
    return {"schedule": "", "interval": str(interval)}


def _user(params: Params) -> dict[str, Any]:
    """Return the wished user; cron passes over an entry of nobody without a word."""
    if params.get("user") is None:
        return {}
    name = str(params["user"])
    try:
        return {"user": pwd.getpwnam(name).pw_name}
    except (KeyError, ValueError) as error:
        raise OperationError(f"this node has no user {name!r}", "not_found") from error


def _check(entry: Entry) -> Entry:
    if entry.interval and entry.user != "root" and program("runuser") is None:
        message = f"without runuser root alone can have an entry for every {entry.interval} run"
        raise OperationError(f"{message}; give a schedule instead")
    return entry


def _script(entry: Entry, params: Params) -> str:
    text = text_of_object(params)
    return render(text, entry.vars) if entry.content_type == "template" else text


def _source(params: Params) -> dict[str, Any]:
    """Return what of the script's origin is given."""
    names = ("object", "content_type", "vars")
    return {name: params[name] for name in names if params.get(name) is not None}


# --- Operations ----------------------------------------------------------------------------------


def _list(_: Params) -> Answer:
    found: list[dict[str, Any]] = []
    for interval in ("", *INTERVALS):
        for file in at(f"/etc/cron.{interval or 'd'}").glob("jobsite-*"):
            name = file.name.removeprefix("jobsite-")
            with contextlib.suppress(OperationError):
                entry = _read(name, interval) if _NAME_RE.fullmatch(name) else None
                found += [entry.told()] if entry is not None else []
    return Answer(data={"entries": sorted(found, key=lambda told: (told["name"], told["path"]))})


def _get(params: Params) -> Answer:
    return Answer(data={"entry": _existing(_name(params)).told()})


def _create(params: Params) -> Answer:
    name, when = _name(params), _when(params)
    if not when:
        raise OperationError("give schedule or interval", "invalid_value")
    entry = _check(Entry(name=name, **when, **_user(params), **_source(params)))
    script = _script(entry, params)
    present = _find(name)
    if present is not None and (present != entry or read(entry.script, "") != script):
        message = f"the cron entry {name} is there and is another; update it instead"
        raise OperationError(message, "conflict")
    return Answer(changed=_place(entry, script), data={"entry": entry.told()})


def _update(params: Params) -> Answer:
    """Change what is given and keep the rest; the script is made anew only from an object."""
    name = _name(params)
    source = _source(params)
    if source and "object" not in source:
        message = f"{' and '.join(source)} cannot change alone: give the object too"
        raise OperationError(message, "invalid_value")
    entry = _check(replace(_existing(name), **_when(params), **_user(params), **source))
    if not source and not at(entry.script).is_file():
        message = f"the script of the cron entry {name} is gone: give the object too"
        raise OperationError(message, "not_found")
    script = _script(entry, params) if source else None
    return Answer(changed=_place(entry, script), data={"entry": entry.told()})


def _delete(params: Params) -> Answer:
    name = _name(params)
    changed = False
    while (entry := _find(name)) is not None:
        changed |= remove(entry.path)
    changed |= remove(f"{SCRIPTS}/{name}")
    return Answer(changed=changed, data={"name": name})


HANDLERS: dict[str, Handler] = {
    "cron.entry.list": _list,
    "cron.entry.get": _get,
    "cron.entry.create": _create,
    "cron.entry.update": _update,
    "cron.entry.delete": _delete,
}
_QUERIES = ("cron.entry.list", "cron.entry.get")


def available() -> Collection[str]:
    """Return what this machine can do: it needs a cron that reads /etc/cron.d, to change it root."""
    if not (program("cron") or program("crond")) or not at("/etc/cron.d").is_dir():
        return []
    return list(HANDLERS) if os.geteuid() == 0 else _QUERIES
