"""What every runner promises the supervisor: one order in, one piece of work, one outcome out."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

Status = Literal["completed", "skipped", "failed", "timeout", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run: times in seconds, `memory_limit` in bytes (None = the runner's default)."""

    execution_id: str
    attempt: int
    job_type: str
    config: Mapping[str, Any]
    env: Mapping[str, str] = field(default_factory=dict)
    workdir: Path
    interval: float = 10.0
    timeout: float | None = None
    memory_limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The health numbers of one interval (docs/semantics.md 1.8); `errors` is the total of the kinds."""

    messages_in: int
    messages_ok: int
    errors: int
    processor_errors: int
    output_errors: int
    process_alive: bool
    restarts: int
    cpu: float
    rss: int
    started_at: datetime
    ended_at: datetime
    last_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a piece of work ended; `exit_code` is None unless a process ran to its own end."""

    status: Status
    exit_code: int | None
    error_code: str = ""
    error: str = ""
    output: str = ""
    output_truncated: bool = False
    # Of operations only: whether anything was changed, and the result's data (docs/semantics.md 4.7).
    changed: bool | None = None
    data: Any = None


class Reporter(Protocol):
    """Callbacks of the supervisor: synchronous, cheap, called on the event loop."""

    def up(self) -> None:
        """Say that the process or pipeline is up."""

    def window(self, w: Window) -> None:
        """Hand over the numbers of one health interval."""

    def log(self, stream: str, lines: list[str]) -> None:
        """Hand over lines for the log of the execution."""


class Work(Protocol):
    """One running piece of work."""

    pid: int
    """Leader of the process group, for the journal and for ending it after a kill -9."""

    async def wait(self) -> Outcome:
        """Return when the work has ended."""

    async def stop(self, grace: float) -> None:
        """Send TERM to the group, and KILL after `grace` seconds."""


@runtime_checkable
class GatedWork(Work, Protocol):
    """Work that waits until its start is journalled, and that outlives a killed agent."""

    folder: str
    """Where it keeps what is needed to adopt it."""

    def release(self) -> None:
        """Let it run."""


class Runner(Protocol):
    """Starts one kind of work."""

    def start(self, order: Order, report: Reporter) -> Awaitable[Work]:
        """Start the work; raise nothing that an Outcome can say."""


@runtime_checkable
class AdoptingRunner(Runner, Protocol):
    """Starts gated work, and sees that of an earlier agent to its end."""

    def adopt(self, order: Order, report: Reporter, pid: int, folder: str) -> Work:
        """Take over work that an earlier agent started and that is still alive."""

    def left_behind(self, order: Order, folder: str) -> Outcome | None:
        """Say how work ended while no agent watched; None if it never began."""
