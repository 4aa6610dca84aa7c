"""Runs child processes in an order, keeps them up, shows what they say, and leaves none behind."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobsite.children import Child, ChildFailedError, Printer, Proc, Timing

PR_SET_CHILD_SUBREAPER = 36


class Supervisor:
    """Starts stages of processes in order, keeps them all, and stops them in reverse.

    With `adopt_orphans` every other child of this process is one to be reaped and, at the end,
    killed: for a process that does nothing but supervise.
    """

    def __init__(
        self, printer: Printer, timing: Timing | None = None, *, adopt_orphans: bool = False
    ) -> None:
        self.printer = printer
        self.timing = timing or Timing()
        self._stages: list[list[Child]] = []
        self._stop_asked = asyncio.Event()
        self._adopts_orphans = adopt_orphans and _become_subreaper()
        self._orphans_seen: set[int] = set()

    def ask_to_stop(self) -> None:
        """End the run; asked a second time, cut every grace short."""
        if self._stop_asked.is_set():
            for child in self._children():
                child.kill()
        self._stop_asked.set()

    @property
    def stop_asked(self) -> bool:
        """Whether somebody wants the run to end."""
        return self._stop_asked.is_set()

    def catch_signals(self) -> None:
        """Ctrl-C, TERM and HUP ask for the end: said explicitly, `cmd &` leaves INT ignored."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signum, self.ask_to_stop)

    async def start(self, *procs: Proc) -> None:
        """Start these together, and return when all are ready or a stop was asked for."""
        stage = [Child(proc, self.printer, self.timing) for proc in procs]
        self._stages.append(stage)
        for child in stage:
            child.launch()
        await self._or_stop(asyncio.gather(*(child.until_ready() for child in stage)))

    async def once(self, name: str, *argv: str, env: Mapping[str, str] | None = None) -> list[str]:
        """Run a command to its end and give its lines; ChildFailedError unless it returns 0."""
        proc = Proc(name=name, argv=argv, env=env, restart=False)
        child = Child(proc, None, self.timing)
        self._stages.append([child])
        child.launch()
        await self._or_stop(asyncio.ensure_future(child.ended.wait()))
        if not self.stop_asked and child.returncode != 0:
            raise child.failure or ChildFailedError(name, "failed", child.last_lines())
        self._stages.remove([child])
        if self.stop_asked:
            await child.stop()
        return child.last_lines()

    async def run(self) -> None:
        """Keep everything up until a stop is asked for; ChildFailedError when a child gave up."""
        while not self.stop_asked:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_asked.wait(), 0.2)
            self._reap_orphans()
            for child in self._children():
                if child.failure is not None:
                    raise child.failure

    async def stop(self) -> None:
        """End everything, the last started first; when this returns no child is left."""
        while self._stages:
            await asyncio.gather(*(child.stop() for child in self._stages[-1]))
            self._stages.pop()
            self._reap_orphans()
        self._kill_orphans()

    def _children(self) -> list[Child]:
        return [child for stage in self._stages for child in stage]

    async def _or_stop(self, work: "asyncio.Future[Any]") -> None:
        asked = asyncio.ensure_future(self._stop_asked.wait())
        await asyncio.wait({work, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if work.done():
            work.result()
            return
        work.cancel()
        await asyncio.wait({work})
        if not work.cancelled():
            work.exception()

    # --- processes whose parent died: the kernel gives them to us on Linux ----------------------

    def _orphans(self) -> set[int]:
        if not self._adopts_orphans:
            return set()
        return _child_pids() - {child.pid for child in self._children()}

    def _reap_orphans(self) -> None:
        """Only those seen before: a child that is just being started is nobody's yet."""
        orphans = self._orphans()
        for pid in orphans & self._orphans_seen:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._orphans_seen = orphans

    def _kill_orphans(self) -> None:
        """Until none is left: a killed orphan's own children come to us in turn."""
        while orphans := self._orphans():
            for pid in orphans:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)


def _become_subreaper() -> bool:
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def _child_pids() -> set[int]:
    """List this process's children by /proc; none where the kernel does not tell."""
    found: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found.update(int(pid) for pid in listing.read_text().split())
    return found
