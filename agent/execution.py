"""One execution on this node: waits for its predecessor, starts, restarts, stops and reports."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent import processes
from agent.journal import Journal
from agent.protocol import Assignment
from agent.records import Entry
from agent.reports import Reports, failure, timestamp
from agent.runners import script
from agent.runners.base import AdoptingRunner, GatedWork, Order, Outcome, Runner, Window, Work

log = logging.getLogger("jobsite.agent.execution")

ONE_SHOT = frozenset({"script", "query", "update"})
# Starting again would fail in the same way (docs/semantics.md 1.5, "cannot start").
CANNOT_START = frozenset(
    {
        "engine_missing",
        "invalid_config",
        "missing_variables",
        "disk_full",
        "spawn_failed",
        "unknown_operation",
        "unknown_runner",
        "unsupported_type",
        "agent_error",
        "not_applied",
        script.NEVER_BEGAN,
    }
)
# Nor is work run again whose end is unknown, or that ran into a limit of its own.
NEVER_AGAIN = CANNOT_START | {"agent_restarted", "execution_timeout"}
RESTARTS_IN_VALIDATION = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The waits of the restart policy (docs/semantics.md 1.9), in seconds."""

    first_delay: float = 1.0
    longest_delay: float = 300.0
    healthy_after: float = 600.0
    grace: float = 10.0

    def delay(self, failures: int) -> float:
        """Return the wait before the next start after so many failures in a row (from 1)."""
        return min(self.longest_delay, self.first_delay * 2.0 ** min(failures - 1, 30))


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all executions of this node share."""

    journal: Journal
    folder: Path
    boot: str
    name: str
    env: Mapping[str, str]
    timing: Timing
    runner_of: Callable[[str], Runner]


class Execution:
    """Brings one execution to what is desired of it and says what is observed."""

    def __init__(
        self,
        entry: Entry,
        assignment: Assignment,
        around: Surroundings,
        turn: asyncio.Lock,
        *,
        is_recovered: bool = False,
    ) -> None:
        self.entry = entry
        self.assignment = assignment
        self.done = asyncio.Event()
        self._around = around
        self._turn = turn
        self._halt = asyncio.Event()
        self._closing = False
        self._is_recovered = is_recovered
        self._began = time.time()
        self._up_since: float | None = None
        # Ends in this life, and ends in a row without having been up for long.
        self._ends = self._failures = 0
        self._reports = Reports(entry, around.journal)

    @property
    def is_one_shot(self) -> bool:
        """Say whether its work is to be done at most once."""
        return self.assignment.job_type in ONE_SHOT

    @property
    def is_halting(self) -> bool:
        """Say whether it was told to end."""
        return self._halt.is_set()

    # --- Orders ----------------------------------------------------------------------------

    def stop(self) -> None:
        """End it: its desired state is stopped."""
        self._halt.set()

    def close(self) -> None:
        """End its processes because the agent ends; what runs long goes on at the next start."""
        self._closing = True
        self._halt.set()

    async def run(self, predecessor: asyncio.Event | None) -> None:
        """Live its whole life on this node."""
        try:
            if predecessor is not None:
                await self._unless_halted(predecessor.wait())
            holds_turn = await self._unless_halted(self._turn.acquire())
            try:
                await self._around.journal.sync()
                await self._live()
            except Exception as error:
                log.exception("execution %s broke", self.entry.execution_id)
                self._finish(failure("agent_error", repr(error)))
            finally:
                if holds_turn:
                    self._turn.release()
        finally:
            self.done.set()

    async def _unless_halted(self, wait: Coroutine[Any, Any, bool]) -> bool:
        """Wait for something, or until this is to stop; say whether the wait was worth it."""
        halted = asyncio.create_task(self._halt.wait())
        waited = asyncio.create_task(wait)
        await asyncio.wait({halted, waited}, return_when=asyncio.FIRST_COMPLETED)
        reached = waited.done()
        halted.cancel()
        waited.cancel()
        return reached

    # --- Life ------------------------------------------------------------------------------

    async def _live(self) -> None:
        if self.entry.ended:
            self.entry.attempt += 1
            self.entry.phase = "pending"
        outcome = await self._take_up() if self._is_recovered else None
        while not self._halt.is_set():
            if outcome is None:
                outcome = await self._once()
            outcome = self._limit_restarts(outcome)
            if self._halt.is_set() or not self._goes_on(outcome):
                break
            await self._wait_for_restart(outcome)
            outcome = None
        self._finish(outcome)

    async def _take_up(self) -> Outcome | None:
        """Go on where an earlier agent ended; an outcome if the work is over."""
        outcome = await self._last_end() if self.entry.start else None
        self.entry.start = None
        if self.is_one_shot:
            unknown = outcome is not None and outcome.error_code == "agent_restarted"
            return None if unknown and self._halt.is_set() else outcome
        if self.entry.phase != "pending" and not self._halt.is_set():
            self._count_agent_restart()
        return None

    async def _last_end(self) -> Outcome | None:
        """See the process of an earlier agent to its end; None if it may be started (again)."""
        start = self.entry.start or {}
        folder = start["folder"]
        same_boot = start["boot"] == self._around.boot
        runner = self._adopting_runner() if folder else None
        if runner and same_boot and processes.is_alive(start["pid"], start["started"]):
            self._began = time.time() - processes.age(start["started"])
            adopted = runner.adopt(self._order(), self, start["pid"], folder)
            outcome = await self._attend(adopted)
            return None if outcome.error_code == script.NEVER_BEGAN else outcome
        if same_boot:
            processes.kill_session(start["pid"], self.entry.execution_id)
        if runner:
            return runner.left_behind(self._order(), folder)
        return failure("agent_restarted", "the agent was restarted; how the work ended is unknown")

    def _adopting_runner(self) -> AdoptingRunner | None:
        runner = self._around.runner_of(self.assignment.job_type)
        return runner if isinstance(runner, AdoptingRunner) else None

    def _count_agent_restart(self) -> None:
        """Report the agent's own restart (docs/semantics.md 1.10: progress is never lost silently)."""
        self.entry.restarts += 1
        self._reports.unseen_restarts += 1
        self._reports.observe(
            "starting",
            message="The agent was restarted.",
            details={"restarted_at": timestamp(), "reason": "agent_restarted"},
        )

    async def _once(self) -> Outcome:
        """Start the work and see it through."""
        if self.entry.phase != "starting":
            self._reports.observe("starting")
        self._began = time.time()
        self._up_since = None
        try:
            runner = self._around.runner_of(self.assignment.job_type)
            work = await runner.start(self._order(), self)
        except script.CannotStartError as error:
            return failure(error.code, str(error))
        except OSError as error:
            return failure("spawn_failed", str(error))
        return await self._attend(work)

    async def _attend(self, work: Work) -> Outcome:
        """Journal the process, let it run, and wait for its end."""
        journal = self._around.journal
        gated = work if isinstance(work, GatedWork) else None
        self.entry.start = {
            "pid": work.pid,
            "started": processes.started_at(work.pid),
            "boot": self._around.boot,
            "folder": gated.folder if gated else None,
        }
        journal.record(entry=self.entry)
        await journal.sync()
        if journal.has_no_room:
            await work.stop(0)
            return failure("disk_full", "the journal has no room, so nothing may start")
        if gated and not self._halt.is_set():
            gated.release()
        ended = asyncio.create_task(work.wait())
        await self._unless_halted(_reached(ended))
        if not ended.done():
            await self._stop_work(work)
        return await ended

    async def _stop_work(self, work: Work) -> None:
        if not self._closing:
            self._reports.observe("stopping")
        await work.stop(self._around.timing.grace)

    # --- Restarts --------------------------------------------------------------------------

    @property
    def _is_validating(self) -> bool:
        return self.assignment.validates and not self.entry.may_be_stable

    def _limit_restarts(self, outcome: Outcome) -> Outcome:
        """Judge one end: whether it was up for long, and is one too many (docs/semantics.md 1.9, X02).

        Only the control plane knows whether it is stable; without one healthy window it is not.
        """
        self._ends += 1
        lived = time.monotonic() - self._up_since if self._up_since is not None else 0.0
        self._failures = 1 if lived >= self._around.timing.healthy_after else self._failures + 1
        too_many = self._is_validating and self._ends > RESTARTS_IN_VALIDATION
        if too_many and self._goes_on(outcome):
            error = f"more than {RESTARTS_IN_VALIDATION} restarts during validation"
            text = "\n".join(part for part in (error, outcome.error) if part)
            return replace(outcome, status="failed", error_code="too_many_restarts", error=text)
        return outcome

    def _goes_on(self, outcome: Outcome) -> bool:
        """Say whether the restart policy wants it started again (docs/semantics.md 1.9)."""
        if outcome.status in {"timeout", "cancelled"}:
            return False
        if outcome.error_code in NEVER_AGAIN or outcome.error_code == "too_many_restarts":
            return False
        policy = self.assignment.restart_policy
        return policy == "always" or (policy == "on-failure" and outcome.status == "failed")

    async def _wait_for_restart(self, outcome: Outcome) -> None:
        delay = self._around.timing.delay(self._failures)
        self.entry.restarts += 1
        self._reports.unseen_restarts += 1
        self.entry.start = None
        how = outcome.error_code or outcome.status
        if outcome.exit_code is not None:
            how = f"exit code {outcome.exit_code}"
        self._reports.observe(
            "starting",
            message=f"It ended ({how}); the next start is in {delay:g} s.",
            error_code=outcome.error_code,
            details={"error": outcome.error[:2000]} if outcome.error else {},
        )
        end = time.monotonic() + delay
        while (left := end - time.monotonic()) > 0 and not self._halt.is_set():
            since = time.time()
            step = min(left, self.assignment.interval)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._halt.wait(), step)
            if step < left and not self._halt.is_set() and not self.is_one_shot:
                self._reports.no_process(since)

    # --- The end ---------------------------------------------------------------------------

    def _finish(self, outcome: Outcome | None) -> None:
        # An end that the restart policy would not have left at that gives way to the stop.
        settled = outcome is not None and outcome.status != "cancelled"
        if settled and self._halt.is_set() and outcome is not None and self._goes_on(outcome):
            settled, outcome = False, None
        self.entry.start = None
        if not settled and self._closing and self.entry.desired_state == "running":
            if outcome is None or not self.is_one_shot:
                # Its assignment stays, so that it goes on at the next start.
                self._around.journal.record(entry=self.entry)
                return
            outcome = failure("agent_stopped", "the agent was stopped while it ran")
            settled = True
        if settled and outcome is not None:
            done = outcome.status in {"completed", "skipped"}
            self._end("completed" if done else "failed", outcome)
        else:
            self._end("stopped", outcome or Outcome(status="cancelled", exit_code=None))
        if self.is_one_shot:
            # What runs long may be resurrected, and keeps its folder.
            shutil.rmtree(self._order().workdir.parent, ignore_errors=True)

    def _end(self, state: str, outcome: Outcome) -> None:
        with_result = self.is_one_shot or state != "stopped"
        self._reports.end(state, outcome, self._began, with_result=with_result)

    # --- For runners ---------------------------------------------------------------------------

    def _order(self) -> Order:
        workdir = self._around.folder / self.entry.execution_id / "work"
        env = {
            **self._around.env,
            **self.assignment.env,
            "JOBSITE_NODE": self._around.name,
            "JOBSITE_WORKDIR": str(workdir),
            processes.EXECUTION: self.entry.execution_id,
        }
        return Order(
            execution_id=self.entry.execution_id,
            attempt=self.entry.attempt,
            job_type=self.assignment.job_type,
            config=self.assignment.config,
            env=env,
            workdir=workdir,
            interval=float(self.assignment.interval),
            timeout=self.assignment.execution_timeout,
        )

    def up(self) -> None:
        """Say that its process or pipeline is up."""
        self._up_since = time.monotonic()
        state = "validating" if self.assignment.validates else "running"
        if self.entry.phase != state and not self._halt.is_set():
            self._reports.observe(state)

    def window(self, w: Window) -> None:
        """Report the numbers of one interval."""
        self.entry.may_be_stable = self.entry.may_be_stable or w.process_alive
        self._reports.window(w)

    def log(self, stream: str, lines: list[str]) -> None:
        """Report what it wrote."""
        self._reports.log(stream, lines)


async def _reached(task: asyncio.Task[Outcome]) -> bool:
    await asyncio.wait({task})
    return True
