"""One child process: its start, its output, the rule of its restarts, and its end."""

import asyncio
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

PR_SET_PDEATHSIG = 1
LAST_LINES = 20
COLOURS = (36, 32, 33, 35, 34, 96, 92, 93, 95, 94)
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def die_with_parent(signum: signal.Signals) -> Callable[[], None]:
    """Make what a new child does first: ask the kernel for `signum` when its parent dies.

    Linux alone can do this; elsewhere a killed supervisor's servers are found at the next start.
    """
    parent = os.getpid()

    def ask() -> None:  # pragma: no cover -- runs in the child, which coverage does not see
        if _libc is not None:
            _libc.prctl(PR_SET_PDEATHSIG, int(signum), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    return ask


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of the restart rule: waits double from `first_wait` to `longest_wait`."""

    first_wait: float = 1.0
    longest_wait: float = 30.0
    window: float = 60.0
    deaths: int = 5
    ready_within: float = 90.0
    poll: float = 0.1


class Restarts:
    """The restart rule of one process: how long to wait after a death, and when to give up."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._recent: deque[float] = deque()
        self._in_a_row = 0

    def after_death(self, *, started: float, now: float) -> float | None:
        """Seconds to wait before the next start; None when it died too often in one window."""
        timing = self._timing
        if now - started >= timing.window:
            self._in_a_row = 0
        self._recent.append(now)
        while now - self._recent[0] > timing.window:
            self._recent.popleft()
        if len(self._recent) >= timing.deaths:
            return None
        wait = timing.first_wait * 2.0**self._in_a_row
        self._in_a_row += 1
        return min(wait, timing.longest_wait)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proc:
    """One process to run.

    `ready` looks at the last lines it said and at the world; `prepare` runs before each start;
    `log` is a file that takes the output in place of the terminal; `options` go to Popen.
    `orphan_signal` is what it gets when the supervisor is killed: its stop signal unless said.
    `children_survive`: when it dies its own children are left to its next life, to adopt.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] | None = None
    ready: Callable[["Sequence[str]"], Awaitable[bool] | bool] | None = None
    prepare: Callable[[], None] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    last_signal: signal.Signals = signal.SIGKILL
    orphan_signal: signal.Signals | None = None
    grace: float = 20.0
    restart: bool = True
    children_survive: bool = False
    log: Path | None = None
    cwd: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


class ChildFailedError(RuntimeError):
    """A child failed for good: `name` says which, `lines` are the last it said."""

    def __init__(self, name: str, reason: str, lines: Sequence[str] = ()) -> None:
        self.name, self.lines = name, tuple(lines)
        super().__init__(f"{name} {reason}")


class Printer:
    """Writes lines with the name of who said them in front, in colour on a terminal."""

    def __init__(self, out: TextIO, names: Sequence[str] = ()) -> None:
        self._out = out
        self._coloured = out.isatty()
        self._width = max((len(name) for name in names), default=0)
        self._colours: dict[str, int] = {}

    def line(self, name: str, text: str) -> None:
        """Write one line of `name`."""
        label = name.ljust(self._width)
        if self._coloured:
            colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
            label = f"\x1b[{colour}m{label}\x1b[0m"
        self.text(f"{label} | {text}")

    def text(self, text: str) -> None:
        """Write as it is; a terminal that has gone away is no reason to stop."""
        with contextlib.suppress(OSError, ValueError):
            print(text, file=self._out, flush=True)


class Child:
    """A Proc at work: starts it, listens to it, restarts it, ends it."""

    def __init__(self, proc: Proc, printer: Printer | None, timing: Timing) -> None:
        self.proc = proc
        self.ended = asyncio.Event()
        self.failure: ChildFailedError | None = None
        self._printer = printer
        self._timing = timing
        self._restarts = Restarts(timing)
        self._lines: deque[str] = deque(maxlen=200)
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._stopping = False
        self._starting = asyncio.Lock()
        self._started = 0.0
        self._lives = 0

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def returncode(self) -> int | None:
        """How its present or last life ended; None while it runs."""
        return self._process.returncode if self._process is not None else None

    def launch(self) -> None:
        """Begin to run and to keep the process."""
        self._keeper = asyncio.create_task(self._keep(), name=self.proc.name)

    async def until_ready(self) -> None:
        """Wait for the ready probe; ChildFailedError when it does not say yes in time."""
        end = time.monotonic() + self._timing.ready_within
        while not await self._is_ready():
            if self.failure is not None:
                raise self.failure
            if time.monotonic() > end:
                raise ChildFailedError(self.proc.name, "did not become ready", self.last_lines())
            await asyncio.sleep(self._timing.poll)

    def last_lines(self) -> list[str]:
        """Give the last lines that the process said, or wrote to its log file."""
        log = self.proc.log
        if log is None:
            return list(self._lines)[-LAST_LINES:]
        with contextlib.suppress(OSError):
            return log.read_text(errors="replace").splitlines()[-LAST_LINES:]
        return []

    async def stop(self) -> None:
        """End the process with its signal, after its grace with the last one; wait until done."""
        self._stopping = True
        async with self._starting:
            pass  # a start that has begun is finished first, so that its process is known
        for signum, grace in ((self.proc.stop_signal, self.proc.grace), (self.proc.last_signal, 5)):
            self._send(signum)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(self._gone()), grace)
                break
        self._send_group(signal.SIGKILL)
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    def kill(self) -> None:
        """Cut the grace short: the last signal now."""
        self._stopping = True
        self._send(self.proc.last_signal)

    def _tell(self, text: str) -> None:
        if self._printer is not None:
            self._printer.line(self.proc.name, text)

    async def _gone(self) -> None:
        if self._process is not None:
            await self._process.wait()

    def _send(self, signum: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signum)

    def _send_group(self, signum: signal.Signals) -> None:
        """To what is left of the child's session: its own children in the same group."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signum)

    async def _is_ready(self) -> bool:
        if self.pid is None:
            return False
        if self.proc.ready is None:
            return True
        answer = self.proc.ready(tuple(self._lines))
        return answer if isinstance(answer, bool) else await answer

    async def _keep(self) -> None:
        try:
            while not self._stopping:
                await self._live_once()
                if not await self._wait_for_next_life():
                    break
        except Exception as error:
            self.failure = ChildFailedError(
                self.proc.name, f"cannot start: {error}", self.last_lines()
            )
        finally:
            self.ended.set()

    async def _live_once(self) -> None:
        self._lines.clear()
        self._started = time.monotonic()
        if self.proc.prepare is not None:
            self.proc.prepare()
        with contextlib.ExitStack() as files:
            out, listening = await self._output(files)
            files.callback(listening.cancel)
            try:
                async with self._starting:
                    if self._stopping:
                        return
                    self._process = process = await self._spawn(out)
            finally:
                os.close(out)
            self._lives += 1
            if self._lives > 1:
                self._tell(f"started again as process {process.pid}")
            await process.wait()
            # A grandchild may hold the pipe open: what the process itself said is there by now.
            await asyncio.wait({listening}, timeout=0.5)

    async def _output(self, files: contextlib.ExitStack) -> tuple[int, "asyncio.Future[Any]"]:
        """Give where the child writes, and who listens there.

        The pipe is not asyncio's own: its `wait` would wait for grandchildren that hold it open.
        """
        loop = asyncio.get_running_loop()
        if self.proc.log is not None:
            self.proc.log.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            silence: asyncio.Future[None] = loop.create_future()
            silence.set_result(None)
            return os.open(self.proc.log, flags, 0o600), silence
        read, write = os.pipe()
        reader = asyncio.StreamReader(limit=1 << 20)
        transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", 0)
        )
        files.callback(transport.close)
        return write, asyncio.create_task(self._listen(reader))

    async def _spawn(self, out: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *self.proc.argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=self.proc.env,
            cwd=self.proc.cwd,
            start_new_session=True,
            preexec_fn=die_with_parent(self.proc.orphan_signal or self.proc.stop_signal),
            **self.proc.options,
        )

    async def _listen(self, stream: asyncio.StreamReader) -> None:
        while True:
            try:
                raw = await stream.readline()
            except ValueError:  # a line longer than the reader's limit; the rest of it follows
                continue
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip()
            self._lines.append(line)
            self._tell(line)

    async def _wait_for_next_life(self) -> bool:
        if self._stopping:
            return False
        ended = _how_it_ended(self.returncode)
        if not self.proc.restart:
            self.failure = ChildFailedError(self.proc.name, ended, self.last_lines())
            return False
        wait = self._restarts.after_death(started=self._started, now=time.monotonic())
        if wait is None:
            often = f"{self._timing.deaths} times in {self._timing.window:g} s"
            self.failure = ChildFailedError(self.proc.name, f"{ended}, {often}", self.last_lines())
            return False
        if not self.proc.children_survive:
            self._send_group(signal.SIGKILL)
        self._tell(f"{ended}; starts again in {wait:g} s")
        await asyncio.sleep(wait)
        return True


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with code {code}"
