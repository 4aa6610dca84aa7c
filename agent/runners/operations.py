"""Runs node operations, each in a process of its own, started, limited and adopted like a script's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import agent
from agent.runners.base import Order, Outcome, Reporter
from agent.runners.script import CannotStartError, ScriptRunner, ScriptWork, left_behind

# -I -S keep away what the environment and the machine would add to the interpreter.
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from agent.operations.child import main; main()"
)
_REQUEST, _ANSWER = "request.json", "answer.json"
# Asking the machine what it can do; it must not keep a node from being there.
ASKING = 30.0
# Seconds for applying a stack once, where its job gives no limit.
APPLICATION = 3600.0


def _command(*more: str) -> list[str]:
    root = str(Path(agent.__path__[0]).parent)
    return [sys.executable, "-I", "-S", "-c", _BOOT, root, *more]


def capabilities() -> dict[str, Any]:
    """Return the operations that this machine can do, asked of a process that ends again."""
    try:
        done = subprocess.run(
            _command(), capture_output=True, check=True, timeout=ASKING, stdin=subprocess.DEVNULL
        )
        return {"operations": json.loads(done.stdout)}
    except (OSError, ValueError, subprocess.SubprocessError):
        return {}


class OperationsRunner:
    """Starts operations, and adopts those that a killed agent left behind."""

    def __init__(self) -> None:
        self._scripts = ScriptRunner()

    async def start(self, order: Order, report: Reporter) -> OperationWork | StackWork:
        """Write the request and start its process; one operation begins once it is released.

        Raises CannotStartError.
        """
        if order.job_type == "config":
            return StackWork(order, report, await self.apply(order, report), self)
        return await self._begin(order, report)

    async def apply(self, order: Order, report: Reporter) -> OperationWork:
        """Begin to apply a stack of operations once."""
        seconds = order.timeout or APPLICATION
        work = await self._begin(replace(order, timeout=seconds), _Lines(report))
        work.release()
        return work

    async def _begin(self, order: Order, report: Reporter) -> OperationWork:
        folder = order.workdir
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / _ANSWER).unlink(missing_ok=True)
        (folder / _REQUEST).write_text(json.dumps(dict(order.config)))
        program, *arguments = _command(str(folder / _REQUEST), str(folder / _ANSWER))
        config = {"runner": "exec", "payload": program, "args": arguments}
        work = await self._scripts.start(replace(order, config=config), report)
        return OperationWork(order, work)

    def adopt(self, order: Order, report: Reporter, pid: int, folder: str) -> OperationWork:
        """Take over an operation that an earlier agent started and that is still under way."""
        return OperationWork(order, self._scripts.adopt(order, report, pid, folder))

    def left_behind(self, order: Order, folder: str) -> Outcome | None:
        """Say how an operation ended while no agent watched; None if it never began."""
        outcome = left_behind(folder)
        return None if outcome is None else _told(order, outcome)


class OperationWork:
    """One operation under way."""

    def __init__(self, order: Order, work: ScriptWork) -> None:
        self.pid = work.pid
        self.folder = work.folder
        self.release = work.release
        self.stop = work.stop
        self._order = order
        self._work = work

    async def wait(self) -> Outcome:
        """Return what came of it."""
        return _told(self._order, await self._work.wait())


class _Lines:
    """A reporter that hands on lines alone: a stack is up once it has been applied."""

    def __init__(self, report: Reporter) -> None:
        self.log = report.log
        self.window = report.window

    def up(self) -> None:
        """Say nothing: that the process is up is not what was wished."""


class StackWork:
    """Operations that are to hold: applied, and again at each interval (docs/semantics.md 4.2).

    It ends when it is stopped, and when an application fails: the first is not tried again, as the
    rollout waits for it; a later one is a drift that could not be mended, and is.
    """

    def __init__(
        self, order: Order, report: Reporter, first: OperationWork, runner: OperationsRunner
    ) -> None:
        self.pid = first.pid
        self._order = order
        self._report = report
        self._runner = runner
        self._work: OperationWork | None = first
        self._halt = asyncio.Event()
        self._life = asyncio.create_task(self._live(first), name=f"stack {first.pid}")

    async def wait(self) -> Outcome:
        """Return how it ended."""
        return await asyncio.shield(self._life)

    async def stop(self, grace: float) -> None:
        """End what is being applied, and apply nothing more."""
        self._halt.set()
        if self._work is not None:
            await self._work.stop(grace)
        await asyncio.wait({self._life})

    async def _live(self, work: OperationWork) -> Outcome:
        interval = int(self._order.config.get("interval") or 0) / 1e9
        is_first = True
        while True:
            outcome = await work.wait()
            shutil.rmtree(work.folder, ignore_errors=True)
            self._work = None
            if outcome.status != "completed":
                return self._ended(outcome, "not_applied" if is_first else "drift")
            if is_first:
                self._report.up()
            is_first = False
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._halt.wait(), interval or None)
            if self._halt.is_set():
                return Outcome(status="cancelled", exit_code=None)
            try:
                work = self._work = await self._runner.apply(self._order, self._report)
            except (CannotStartError, OSError) as error:
                failed = Outcome(status="failed", exit_code=None, error=str(error))
                return self._ended(failed, "drift")

    def _ended(self, outcome: Outcome, code: str) -> Outcome:
        if self._halt.is_set():
            return replace(outcome, status="cancelled")
        return replace(outcome, status="failed", exit_code=None, error_code=code)


def _told(order: Order, outcome: Outcome) -> Outcome:
    """Return the outcome of the process with what it answered."""
    if outcome.status == "timeout":
        text = outcome.error.replace("the script ran", "the operation ran", 1)
        return replace(outcome, error=text)
    if outcome.status == "cancelled":
        return outcome
    try:
        answer = json.loads((order.workdir / _ANSWER).read_text())
    except (OSError, ValueError):
        if outcome.status == "completed":
            text = "the operation ended without an answer"
            outcome = replace(outcome, status="failed", error_code="operation_failed", error=text)
        return replace(outcome, exit_code=None)
    texts = (answer["error"], outcome.error)
    return replace(
        outcome,
        status=answer["status"],
        exit_code=answer["exit_code"],
        error_code=answer["error_code"],
        error="\n".join(text for text in texts if text),
        changed=answer["changed"],
        data=answer["data"],
    )
