"""The processes of a node, read from /proc (docs/semantics.md 2.7, domain process)."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Collection
from pathlib import Path
from typing import Any

from agent.operations.base import Answer, Handler, OperationError, Params

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
# Signals that a parameter may name -> their number.
SIGNALS = {
    name: getattr(signal, f"SIG{name}") for name in ("TERM", "KILL", "HUP", "INT", "USR1", "USR2")
}


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _entry(folder: Path, uptime: float) -> dict[str, Any]:
    """Read one process. Raises OSError when it is gone meanwhile."""
    # The name stands in parentheses and may hold any character, so fields are counted from its end.
    text = (folder / "stat").read_text(errors="replace")
    name = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 2 :].split()
    command = (
        (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    )
    spent = (int(fields[11]) + int(fields[12])) / _TICKS
    age = max(0.0, uptime - int(fields[19]) / _TICKS)
    return {
        "pid": int(folder.name),
        "ppid": int(fields[1]),
        "name": name,
        "command": command or f"[{name}]",
        "state": fields[0],
        "user": _user(folder.stat().st_uid),
        "threads": int(fields[17]),
        "memory_rss": int(fields[21]) * _PAGE,
        "cpu_seconds": round(spent, 2),
        "cpu_percent": round(100 * spent / age, 1) if age else 0.0,
        "age_seconds": round(age),
    }


def _uptime() -> float:
    return float((PROC / "uptime").read_text().split()[0])


def _list(_: Params) -> Answer:
    found, uptime = [], _uptime()
    for folder in sorted(
        (f for f in PROC.iterdir() if f.name.isdecimal()), key=lambda f: int(f.name)
    ):
        try:
            found.append(_entry(folder, uptime))
        except OSError:
            continue
    return Answer(data={"processes": found})


def _get(params: Params) -> Answer:
    pid = int(params["pid"])
    try:
        return Answer(data={"process": _entry(PROC / str(pid), _uptime())})
    except OSError as error:
        raise OperationError(f"there is no process {pid}", "not_found") from error


def _signal(params: Params) -> Answer:
    pid, name = int(params["pid"]), str(params["signal"])
    try:
        os.kill(pid, SIGNALS[name])
    except ProcessLookupError as error:
        raise OperationError(f"there is no process {pid}", "not_found") from error
    except PermissionError as error:
        raise OperationError(f"process {pid} is not the agent's to signal", "forbidden") from error
    return Answer(changed=True, data={"pid": pid, "signal": name})


HANDLERS: dict[str, Handler] = {
    "process.entry.list": _list,
    "process.entry.get": _get,
    "process.entry.signal": _signal,
}


def available() -> Collection[str]:
    """Return what this machine can do: everything, wherever /proc is."""
    return list(HANDLERS) if PROC.is_dir() else []
