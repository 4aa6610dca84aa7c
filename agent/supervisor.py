"""Desired state in, observed state out: keeps the executions of this node. Keeps no policy."""

from __future__ import annotations

import asyncio
import importlib
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent import processes
from agent.execution import Execution, Surroundings, Timing
from agent.journal import Journal
from agent.protocol import Ack, Assignment, Desired, ResultReport, State, to_assignment
from agent.records import Entry
from agent.reports import timestamp
from agent.runners.base import Runner
from agent.runners.script import CannotStartError, ScriptRunner
from agent.verify import AssignmentRefusedError, Verifier

log = logging.getLogger("jobsite.agent.supervisor")

KEPT_FOLDERS = 20
_RUNNERS = {
    "script": "agent.runners.script:ScriptRunner",
    "pipeline": "agent.runners.pipeline:PipelineRunner",
    "config": "agent.runners.operations:OperationsRunner",
    "query": "agent.runners.operations:OperationsRunner",
    "update": "agent.runners.operations:OperationsRunner",
}


class Runners:
    """The runners of this node, each loaded at its first use: an idle node stays small."""

    def __init__(self) -> None:
        self._made: dict[str, Runner] = {"agent.runners.script:ScriptRunner": ScriptRunner()}

    def of(self, job_type: str) -> Runner:
        """Return the runner of a job type. Raises CannotStartError."""
        name = _RUNNERS.get(job_type)
        if name is None:
            raise CannotStartError("unsupported_type", f"this node runs no {job_type!r} jobs")
        if name not in self._made:
            module, _, attribute = name.partition(":")
            try:
                self._made[name] = getattr(importlib.import_module(module), attribute)()
            except ImportError as error:
                reason = f"this node cannot run {job_type} jobs: {error}"
                raise CannotStartError("unsupported_type", reason) from error
        return self._made[name]


class Supervisor:
    """All executions of this node, by id."""

    def __init__(
        self,
        journal: Journal,
        verifier: Verifier,
        folder: Path,
        *,
        name: str,
        env: Mapping[str, str],
        timing: Timing | None = None,
        runner_of: Callable[[str], Runner] | None = None,
    ) -> None:
        self._journal = journal
        self._verifier = verifier
        self._around = Surroundings(
            journal=journal,
            folder=folder,
            boot=processes.boot_id(),
            name=name,
            env=env,
            timing=timing or Timing(),
            runner_of=runner_of or Runners().of,
        )
        self._live: dict[str, Execution] = {}
        self._lives: set[asyncio.Task[None]] = set()
        self._turns: dict[str, asyncio.Lock] = {}

    # --- From the control plane ------------------------------------------------------------

    def assign(self, envelope: Mapping[str, Any], now: float) -> None:
        """Take a signed assignment in; `now` is the control plane's time (Unix, seconds).

        What was refused is reported as failed; what is not newer than what is known is dropped.
        """
        try:
            assignment = self._verifier.open(envelope, now)
        except AssignmentRefusedError as error:
            self._refuse_envelope(error)
            return
        entry = self._journal.entries.get(assignment.execution_id)
        if entry is not None and assignment.desired_seq <= entry.desired_seq:
            if assignment.desired_seq == entry.desired_seq:
                self._acknowledge(entry)
            return
        if not self._journal.recover_space() and not self._goes_on(assignment.execution_id):
            self._refuse_for_space(entry, assignment)
            return
        self._take(entry, assignment)

    def _goes_on(self, execution_id: str) -> bool:
        """Say whether it runs and is to go on: an assignment renewed then starts nothing."""
        live = self._live.get(execution_id)
        return live is not None and not live.is_halting and not live.entry.ended

    def _take(self, entry: Entry | None, assignment: Assignment) -> None:
        execution_id = assignment.execution_id
        has_ended = entry is not None and entry.ended
        if entry is None:
            entry = Entry(execution_id)
        elif has_ended:
            # Resurrected: the same execution once more (docs/semantics.md X06).
            entry.attempt += 1
            entry.phase = "pending"
            entry.start = None
        entry.desired_state = "running"
        entry.desired_seq = assignment.desired_seq
        entry.assignment = asdict(assignment)
        ack = Ack(execution_id=execution_id, desired_seq=assignment.desired_seq)
        self._journal.record([ack], entry=entry, with_assignment=True)
        live = self._live.get(execution_id)
        if live is None:
            self._begin(entry, assignment)
        elif live.is_halting or has_ended:
            # It starts again once its present life is over.
            self._begin(entry, assignment, after=live)
        else:
            live.assignment = assignment

    def desire(self, frame: Desired) -> None:
        """Note what should be: `stopped` ends it."""
        entry = self._journal.entries.get(frame.execution_id)
        if entry is None:
            self._answer_unknown(frame)
            return
        if frame.desired_seq < entry.desired_seq:
            return
        entry.desired_seq = frame.desired_seq
        entry.desired_state = frame.desired_state
        self._journal.record(self._answer(entry), entry=entry)
        live = self._live.get(frame.execution_id)
        if live is not None and entry.desired_state == "stopped":
            live.stop()

    def _answer(self, entry: Entry) -> list[Ack | State]:
        """Acknowledge; of what has ended, say so once more.

        The control plane may have wanted it again, and stopped it before this node heard of that.
        """
        ack = Ack(execution_id=entry.execution_id, desired_seq=entry.desired_seq)
        if entry.desired_state != "stopped" or not entry.ended:
            return [ack]
        state = State(
            execution_id=entry.execution_id,
            observed_state="stopped",
            attempt=entry.attempt,
            restarts=entry.restarts,
            message="It had ended before.",
            at=timestamp(),
        )
        return [ack, state]

    def _acknowledge(self, entry: Entry) -> None:
        ack = Ack(execution_id=entry.execution_id, desired_seq=entry.desired_seq)
        self._journal.record([ack])

    # --- What is not done --------------------------------------------------------------------

    def _refuse(
        self, entry: Entry, desired_seq: int, frames: Sequence[State | ResultReport]
    ) -> None:
        """Say of an assignment that it is not carried out, and stand by that under its number.

        The control plane may die before it has stored the answer, and send the same again when
        there is room: run then, the work would be done once here, and once by its successor.
        """
        entry.desired_state = "stopped"
        entry.desired_seq = desired_seq
        ack = Ack(execution_id=entry.execution_id, desired_seq=desired_seq)
        self._journal.record([ack, *frames], entry=entry)

    def _answer_unknown(self, frame: Desired) -> None:
        """Say of an execution that is not here that it does not run."""
        state = State(
            execution_id=frame.execution_id,
            observed_state="stopped",
            message="This node does not know it.",
            details={"reason": "unknown"},
            at=timestamp(),
        )
        self._refuse(Entry(frame.execution_id, phase="stopped"), frame.desired_seq, [state])

    def _refuse_envelope(self, error: AssignmentRefusedError) -> None:
        log.error("an assignment was refused: %s", error)
        if not error.execution_id or error.execution_id in self._journal.entries:
            return
        code = "assignment_signature_invalid"
        state = State(
            execution_id=error.execution_id,
            observed_state="failed",
            message=f"The assignment was refused: {error}.",
            error_code=code,
            at=timestamp(),
        )
        result = ResultReport(
            execution_id=error.execution_id,
            status="failed",
            error=f"the assignment was refused: {error}",
            error_code=code,
            completed_at=timestamp(),
        )
        self._refuse(Entry(error.execution_id, phase="failed"), error.desired_seq, [state, result])

    def _refuse_for_space(self, entry: Entry | None, assignment: Assignment) -> None:
        """Refuse what would start while the disk is full (reliability.md F14, docs/semantics.md X96)."""
        state = State(
            execution_id=assignment.execution_id,
            observed_state="stopped",
            message="The node's disk is full.",
            error_code="disk_full",
            details={"reason": "refused"},
            at=timestamp(),
        )
        entry = entry or Entry(assignment.execution_id, phase="stopped")
        self._refuse(entry, assignment.desired_seq, [state])

    # --- Lives -----------------------------------------------------------------------------

    def recover(self) -> None:
        """Go on with everything that has not ended: what has a process comes first."""
        unended = [entry for entry in self._journal.entries.values() if not entry.ended]
        for entry in sorted(unended, key=lambda entry: entry.start is None):
            if entry.assignment is not None:
                self._begin(entry, to_assignment(entry.assignment), is_recovered=True)
        self._remove_old_folders()

    def _remove_old_folders(self) -> None:
        """Remove what no execution owns, what ended scripts left, and the oldest of the rest.

        Ended work that runs long keeps its folder for a while: it may be resurrected.
        """
        folder = self._around.folder
        kept = []
        for each in folder.iterdir() if folder.exists() else ():
            entry = self._journal.entries.get(each.name)
            if entry is None or (entry.ended and any(each.glob("work.run*"))):
                shutil.rmtree(each, ignore_errors=True)
            elif entry.ended:
                kept.append((each.stat().st_mtime, each))
        for _, each in sorted(kept)[:-KEPT_FOLDERS]:
            shutil.rmtree(each, ignore_errors=True)

    def _begin(
        self,
        entry: Entry,
        assignment: Assignment,
        *,
        is_recovered: bool = False,
        after: Execution | None = None,
    ) -> None:
        turn = self._turns.setdefault(assignment.job_id, asyncio.Lock())
        execution = Execution(entry, assignment, self._around, turn, is_recovered=is_recovered)
        previous = after or self._live.get(assignment.previous_execution_id or "")
        self._live[entry.execution_id] = execution
        if entry.desired_state == "stopped":
            execution.stop()
        life = asyncio.create_task(
            execution.run(previous.done if previous else None),
            name=f"execution {entry.execution_id}",
        )
        self._lives.add(life)
        life.add_done_callback(lambda life: self._bury(execution, life))

    def _bury(self, execution: Execution, life: asyncio.Task[None]) -> None:
        self._lives.discard(life)
        execution_id = execution.entry.execution_id
        if self._live.get(execution_id) is execution:
            del self._live[execution_id]
        turn = self._turns.get(execution.assignment.job_id)
        others = (each.assignment.job_id for each in self._live.values())
        if turn is not None and execution.assignment.job_id not in others:
            del self._turns[execution.assignment.job_id]
        self._remove_old_folders()

    def inventory(self) -> list[dict[str, Any]]:
        """Return what is believed to run, as `hello.running` says it."""
        return [
            {
                "execution_id": execution.entry.execution_id,
                "observed_state": execution.entry.phase,
                "desired_seq": execution.entry.desired_seq,
                "attempt": execution.entry.attempt,
            }
            for execution in self._live.values()
            if not execution.entry.ended
        ]

    async def close(self) -> None:
        """End every process; assignments that run long stay in the journal."""
        for execution in self._live.values():
            execution.close()
        while self._lives:
            await asyncio.wait(self._lives)
        await self._journal.sync()
