"""The health numbers of one interval, made from sums since the start (docs/semantics.md 1.8)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.runners.base import Window

SUMS = ("messages_in", "messages_ok", "delivered", "errors", "restarts", "output_errors")


@dataclass(frozen=True, slots=True)
class Usage:
    """What /proc says of a process: seconds of CPU since its start, and bytes resident."""

    cpu: float
    rss: int

    @classmethod
    def of(cls, pid: int) -> Usage | None:
        """Return the usage now, or None when the process is gone."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        ticks = int(fields[11]) + int(fields[12])
        rss = int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        return cls(ticks / os.sysconf("SC_CLK_TCK"), rss)


class Meter:
    """Turns sums since the start into windows; messages before `start` fall into the first."""

    def __init__(self) -> None:
        self._sums = dict.fromkeys(SUMS, 0)
        self._usage = Usage(0.0, 0)
        self._stuck = False
        self._clock = 0.0
        self._since = datetime.fromtimestamp(0, UTC)

    def start(self, usage: Usage | None) -> None:
        """Begin the first window now."""
        self._clock = time.monotonic()
        self._since = datetime.fromtimestamp(time.time(), UTC)
        self._usage = usage or self._usage

    def window(
        self, sums: Mapping[str, Any], usage: Usage | None, *, alive: bool, last_error: str
    ) -> Window:
        """End the window that is open, with the sums as they are now, and begin the next.

        `cpu` is in percent of one core. A number never falls below what has been reported.
        """
        now = time.monotonic()
        took = max(now - self._clock, 1e-3)
        delta = {key: max(0, int(sums.get(key, 0)) - self._sums[key]) for key in SUMS}
        self._sums = {key: self._sums[key] + delta[key] for key in SUMS}
        used = max(0.0, usage.cpu - self._usage.cpu) if usage else 0.0
        since, self._since = self._since, self._since + timedelta(seconds=took)
        self._clock = now
        self._usage = usage or self._usage
        output_errors = self._output_errors(delta, waiting=int(sums.get("waiting", 0)))
        errors = delta["errors"] + output_errors
        return Window(
            messages_in=delta["messages_in"],
            messages_ok=delta["messages_ok"],
            errors=errors,
            processor_errors=delta["errors"],
            output_errors=output_errors,
            process_alive=alive,
            restarts=delta["restarts"],
            cpu=round(100 * used / took, 2),
            rss=usage.rss if usage else 0,
            started_at=since,
            ended_at=self._since,
            last_error=last_error if errors or delta["restarts"] else "",
        )

    def _output_errors(self, delta: Mapping[str, int], *, waiting: int) -> int:
        """Count a blocked output in every window that it lasts, not only when it tries again."""
        failing = delta["output_errors"] > 0 or self._stuck
        self._stuck = failing and waiting > 0 and delta["delivered"] == 0
        if self._stuck:
            return max(delta["output_errors"], delta["messages_in"], 1)
        return delta["output_errors"]
