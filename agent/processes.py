"""What /proc says of processes: who still lives, since when, and which belong to an execution."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

EXECUTION = "JOBSITE_EXECUTION"


def boot_id() -> str:
    """Return the id of this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def started_at(pid: int) -> int:
    """Return when a process started, in clock ticks since boot; 0 when it is gone."""
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def age(started: int) -> float:
    """Return the seconds since a start time that `started_at` gave, on this boot."""
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return max(0.0, uptime - started / os.sysconf("SC_CLK_TCK"))


def is_alive(pid: int, started: int) -> bool:
    """Say whether this very process still runs; a pid alone proves nothing."""
    fields = _stat(pid)
    return bool(fields) and fields is not None and fields[0] != "Z" and int(fields[19]) == started


def _members(session: int, execution_id: str) -> Iterator[int]:
    """Yield the processes of a session that carry this execution's mark in their environment."""
    mark = f"{EXECUTION}={execution_id}".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        fields = _stat(int(entry.name))
        if fields is None or fields[3] != str(session) or fields[0] == "Z":
            continue
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name)


def kill_session(session: int, execution_id: str) -> int:
    """Kill what is left of an execution whose leader was `session`; return how many there were."""
    count = 0
    for pid in list(_members(session, execution_id)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            count += 1
    return count
