"""Runs one pipeline as a process of its own and measures it (docs/semantics.md 5)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

from agent.engine.caps import Allowance, Lines, Tail
from agent.engine.logbook import Logbook
from agent.engine.process import Descriptors, command, environment
from agent.engine.windows import Meter, Usage
from agent.runners.base import Order, Outcome, Reporter, Status

STARTS_AT_ONCE = 4
START_LIMIT = 15.0
OUTPUT_LIMIT = 1 << 20
STDERR_KEPT = 4096
LEAST_RSS_LIMIT = 512 << 20
SAMPLE_EVERY = 2.0
STOP_LIMIT = 10.0
KILL_AFTER = 15.0
UNSTEADY_AFTER = 3
UNSTEADY_WITHIN = 60.0
CHUNK = 1 << 16
LOG_EVERY = 0.25
STREAMS = ("stdout", "stderr", "engine")


class PipelineRunner:
    """Starts pipelines, at most four at the same moment."""

    def __init__(self) -> None:
        self._starting = asyncio.Semaphore(STARTS_AT_ONCE)

    async def start(self, order: Order, report: Reporter) -> PipelineWork:
        """Start the pipeline's process; what is wrong with the pipeline shows in its outcome."""
        await self._starting.acquire()
        try:
            work = await PipelineWork.spawn(order, report)
        except BaseException:
            self._starting.release()
            raise
        work.begin(self._starting.release)
        return work


class PipelineWork:
    """One running pipeline."""

    def __init__(
        self,
        order: Order,
        report: Reporter,
        process: asyncio.subprocess.Process,
        descriptors: Descriptors,
    ) -> None:
        self.pid = process.pid
        self._order = order
        self._report = report
        self._process = process
        self._descriptors = descriptors
        self._logbook = Logbook()
        self._allowance = Allowance()
        self._pending: dict[str, list[str]] = {stream: [] for stream in STREAMS}
        self._output = Tail(OUTPUT_LIMIT)
        self._stderr = Tail(STDERR_KEPT)
        self._first_stderr = ""
        self._end: dict[str, Any] = {}
        self._numbers: dict[str, Any] = {}
        self._up = asyncio.Event()
        self._answered = asyncio.Event()
        self._restarts: list[float] = []
        self._stopping = self._timed_out = self._over_memory = False
        self._outcome: asyncio.Task[Outcome]
        self._meter = Meter()

    @classmethod
    async def spawn(cls, order: Order, report: Reporter) -> PipelineWork:
        """Start the process of an order."""
        order.workdir.mkdir(mode=0o700, parents=True, exist_ok=True)
        variables = {"JOBSITE_WORKDIR": str(order.workdir), **order.env}
        descriptors = Descriptors.open(
            {"config": dict(order.config), "env": variables, "memory": order.memory_limit}
        )
        try:
            process = await asyncio.create_subprocess_exec(
                *command("agent.engine.child", *descriptors.passed, os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                pass_fds=descriptors.passed,
                start_new_session=True,
                env=environment(str(order.workdir), variables),
                cwd=order.workdir,
            )
        except OSError:
            descriptors.control.close()
            os.close(descriptors.log)
            raise
        finally:
            descriptors.close_passed()
        return cls(order, report, process, descriptors)

    def begin(self, started: Callable[[], None]) -> None:
        """Watch the process; `started` is called once, when it is up or has ended."""
        self._outcome = asyncio.create_task(self._watch(started), name=f"pipeline {self.pid}")

    async def wait(self) -> Outcome:
        """Return how the pipeline ended."""
        return await asyncio.shield(self._outcome)

    async def stop(self, grace: float = KILL_AFTER) -> None:
        """Ask for an orderly stop; after `grace` seconds end the whole group.

        The engine gives itself ten seconds, so whoever grants it that much waits for its word.
        """
        self._stopping = True
        await self._terminate(grace if grace < STOP_LIMIT else max(grace, KILL_AFTER))

    async def _terminate(self, grace: float) -> None:
        if self._outcome.done():
            return
        self._signal(signal.SIGTERM)
        done, _ = await asyncio.wait({self._outcome}, timeout=grace)
        if not done:
            self._signal(signal.SIGKILL)
            await asyncio.wait({self._outcome})

    def _signal(self, number: signal.Signals) -> None:
        # To the engine alone: it drains first, so a program that feeds it must not die before.
        # What is left of the group ends when the engine has ended.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def _watch(self, started: Callable[[], None]) -> Outcome:
        process = self._process
        assert process.stdout is not None
        assert process.stderr is not None
        readers = [
            asyncio.create_task(self._read_stdout(process.stdout)),
            asyncio.create_task(self._read_stderr(process.stderr)),
            asyncio.create_task(self._read_log()),
            asyncio.create_task(self._read_control()),
        ]
        helpers = [asyncio.create_task(work) for work in self._duties(started)]
        code = await process.wait()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await asyncio.wait(readers, timeout=2.0)
        for job in (*readers, *helpers):
            job.cancel()
        await asyncio.gather(*readers, *helpers, return_exceptions=True)
        self._descriptors.control.close()
        return self._ended(code)

    def _duties(self, started: Callable[[], None]) -> list[Coroutine[Any, Any, None]]:
        duties = [self._release(started), self._measure(), self._guard_memory()]
        if self._order.timeout:
            duties.append(self._limit_time(self._order.timeout))
        return duties

    async def _release(self, started: Callable[[], None]) -> None:
        try:
            async with asyncio.timeout(START_LIMIT):
                await self._up.wait()
        except TimeoutError:
            pass
        finally:
            started()

    async def _limit_time(self, limit: float) -> None:
        await asyncio.sleep(limit)
        self._timed_out = True
        await asyncio.shield(asyncio.ensure_future(self._terminate(KILL_AFTER)))

    async def _guard_memory(self) -> None:
        limit = self._order.memory_limit
        if not limit:
            return
        while usage := Usage.of(self.pid):
            if usage.rss > max(limit, LEAST_RSS_LIMIT):
                self._over_memory = True
                self._signal(signal.SIGKILL)
                return
            await asyncio.sleep(min(SAMPLE_EVERY, self._order.interval))

    async def _measure(self) -> None:
        await self._up.wait()
        self._meter.start(Usage.of(self.pid))
        while True:
            await asyncio.sleep(self._order.interval)
            self._answered.clear()
            with contextlib.suppress(OSError):
                self._descriptors.control.send(b"?")
            # A process that hangs does not answer: no window then, which the control plane judges.
            await self._answered.wait()
            self._close_window(alive=True)

    def _rise(self) -> None:
        if not self._up.is_set():
            self._up.set()
            self._report.up()

    def _close_window(self, *, alive: bool) -> None:
        sums = {**self._numbers, "output_errors": self._logbook.output_errors}
        error = str(self._numbers.get("last_error") or self._logbook.last_error)
        self._report.window(
            self._meter.window(sums, Usage.of(self.pid), alive=alive, last_error=error)
        )
        dropped = self._allowance.take_dropped()
        if dropped:
            self._write("engine", [f"{dropped} lines were left out of this log"])

    async def _read_stdout(self, stream: asyncio.StreamReader) -> None:
        lines = Lines()
        while data := await stream.read(CHUNK):
            self._output.add(data)
            self._show("stdout", lines.feed(data))
        self._show("stdout", lines.end())

    async def _read_stderr(self, stream: asyncio.StreamReader) -> None:
        lines = Lines()
        while data := await stream.read(CHUNK):
            self._stderr.add(data)
            whole = lines.feed(data)
            if whole and not self._first_stderr:
                self._first_stderr = whole[0].decode(errors="replace")
            self._show("stderr", whole)
        self._show("stderr", lines.end())

    async def _read_log(self) -> None:
        lines = Lines()
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(self._descriptors.log, "rb", 0)
        )
        try:
            while data := await reader.read(CHUNK):
                self._take_log(lines.feed(data))
            self._take_log(lines.end())
        finally:
            transport.close()

    def _take_log(self, lines: list[bytes]) -> None:
        shown = []
        for line in lines:
            if not self._allowance.admit(len(line), time.monotonic()):
                self._logbook.skip(line)
                continue
            text = self._logbook.read(line)
            if text is not None:
                shown.append(text)
        if self._logbook.active:
            self._rise()
        self._write("engine", shown)

    def _show(self, stream: str, lines: list[bytes]) -> None:
        now = time.monotonic()
        admitted = (line for line in lines if self._allowance.admit(len(line), now))
        self._write(stream, [line.decode(errors="replace") for line in admitted])

    def _write(self, stream: str, lines: list[str]) -> None:
        if lines and not any(self._pending.values()):
            asyncio.get_running_loop().call_later(LOG_EVERY, self._flush)
        self._pending[stream] += lines

    def _flush(self) -> None:
        for stream, lines in self._pending.items():
            if lines:
                self._pending[stream] = []
                self._report.log(stream, lines)

    async def _read_control(self) -> None:
        loop = asyncio.get_running_loop()
        self._descriptors.control.setblocking(False)
        rest = b""
        while data := await loop.sock_recv(self._descriptors.control, CHUNK):
            *whole, rest = (rest + data).split(b"\n")
            for line in whole:
                self._take_control(json.loads(line))

    def _take_control(self, message: dict[str, Any]) -> None:
        kind = message.pop("kind")
        if kind in {"numbers", "end"}:
            self._numbers = message
            self._answered.set()
            if message["messages_out"]:
                self._rise()
        if kind == "end":
            self._end = message
            if "written_after_signal" in message:
                written = message["written_after_signal"]
                self._write(
                    "engine", [f"stopped; {written} messages were written after the signal"]
                )
        elif kind == "ready":
            self._logbook.level = message["log_level"]
            self._logbook.retried = message["retried"]
            self._write("engine", message["notes"])
        elif kind == "restart":
            self._write("engine", [f"the input restarts: {message['text']}", *self._unsteady()])
        elif kind == "note":
            self._write("engine", [message["text"]])

    def _unsteady(self) -> list[str]:
        now = time.monotonic()
        self._restarts = [at for at in self._restarts if now - at < UNSTEADY_WITHIN] + [now]
        if len(self._restarts) < UNSTEADY_AFTER:
            return []
        return [f"degraded: {len(self._restarts)} restarts of the input within a minute"]

    def _ended(self, code: int) -> Outcome:
        if self._up.is_set():
            self._close_window(alive=code == 0)
        self._flush()
        status, error_code, error = self._verdict(code)
        exit_code = None if status == "timeout" else code if code >= 0 else 128 - code
        return Outcome(
            status=status,
            exit_code=exit_code,
            error_code=error_code,
            error=error,
            output=self._output.text(),
            output_truncated=self._output.truncated,
        )

    def _verdict(self, code: int) -> tuple[Status, str, str]:
        if self._timed_out:
            return "timeout", "execution_timeout", f"longer than {self._order.timeout:g} s"
        if self._over_memory:
            return "failed", "memory_limit_exceeded", "the pipeline grew beyond its memory limit"
        if self._stopping:
            return "cancelled", "", str(self._end.get("error", ""))
        if code == 0:
            return "completed", "", ""
        if self._end:
            return "failed", str(self._end["error_code"]), str(self._end["error"])
        return "failed", "engine_crashed", self._crash(code)

    def _crash(self, code: int) -> str:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        tail = self._stderr.text()
        return "\n".join(part for part in (how, self._first_stderr, tail) if part)
