"""Runs scripts: shell, python and exec (docs/semantics.md 4.2), so that they outlive a killed agent.

A small shell leads the process group. It waits until the agent has journalled its pid, marks that
the script begins, and writes the exit code down: an agent that was killed finds out later how the
script ended, and whether it ever began. Output goes through named pipes that the leader keeps open
until an agent has read them; a script that writes more than they hold waits for the next agent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent import processes
from agent.engine.caps import Allowance, Lines
from agent.runners.base import Order, Outcome, Reporter

OUTPUT_LIMIT = 1 << 20
KILL_AFTER = 10.0
LOG_EVERY = 0.2
# A shell that is about to start its command would swallow a TERM.
SETTLE = 0.2
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Error code of a script whose gate was never opened: it may be started again.
NEVER_BEGAN = "never_began"
_CHUNK = 1 << 16
_STREAMS = ("stdout", "stderr")
# $1: the folder; the rest: the command. Standard input is the gate. The traps keep the shell
# alive through a TERM to its group; the script itself gets the default handling. At the end it
# waits to be killed, since with it goes what nobody has read from the pipes.
_LEADER = """
trap : HUP INT QUIT TERM
folder=$1
shift
read -r go || exit 125
exec 3<>"$folder/end" 4<>"$folder/hold"
: >"$folder/began" || exit 125
"$@" </dev/null 3>&- 4>&-
code=$?
echo "$code" >"$folder/exit"
echo "$code" >&3
read -r never <&4
"""


class CannotStartError(ValueError):
    """The script cannot be started; `code` is the error code of the execution."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def available() -> list[str]:
    """Return the script runners that this machine offers (capabilities.runtimes)."""
    return ["exec", "python", *(["shell"] if Path("/bin/sh").exists() else [])]


class Spool:
    """The last MiB of a stream, in two files of at most that size, so that it outlives the agent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._old = path.with_suffix(".old")
        self._cut = path.with_suffix(".cut")

    def add(self, data: bytes) -> None:
        """Append; without room on the disk the text is lost, the script goes on."""
        with contextlib.suppress(OSError), self._path.open("ab", buffering=0) as file:
            file.write(data)
            if file.tell() >= OUTPUT_LIMIT:
                if self._old.exists():
                    self._cut.touch()
                self._path.replace(self._old)

    def text(self) -> tuple[str, bool]:
        """Return the kept text and whether more was written than is kept."""
        parts = [path.read_bytes() if path.exists() else b"" for path in (self._old, self._path)]
        data = b"".join(parts)
        cut = len(data) > OUTPUT_LIMIT or self._cut.exists()
        return data[-OUTPUT_LIMIT:].decode(errors="replace"), cut


class ScriptRunner:
    """Starts scripts, and adopts those that a killed agent left behind."""

    async def start(self, order: Order, report: Reporter) -> ScriptWork:
        """Start the group's leader; the script runs once the work is released.

        Raises CannotStartError.
        """
        folder = _fresh_folder(order)
        command = _command(order, folder)
        gate, release = os.pipe()
        for name in (*_STREAMS, "end", "hold"):
            os.mkfifo(folder / name, 0o600)
        pipes = [os.open(folder / name, os.O_RDWR | os.O_CLOEXEC) for name in _STREAMS]
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _LEADER, "jobsite", str(folder), *command],
                stdin=gate,
                stdout=pipes[0],
                stderr=pipes[1],
                cwd=order.workdir / str(order.config.get("cwd") or ""),
                env=_environment(order),
                start_new_session=True,
                umask=0o077,
            )
        except OSError as error:
            os.close(release)
            raise CannotStartError("spawn_failed", str(error)) from error
        finally:
            for descriptor in (gate, *pipes):
                os.close(descriptor)
        return ScriptWork(order, report, folder, _Leader(process.pid, process), release)

    def adopt(self, order: Order, report: Reporter, pid: int, folder: str) -> ScriptWork:
        """Take over a script that an earlier agent started and that is still alive."""
        return ScriptWork(order, report, Path(folder), _Leader(pid, None), None)

    def left_behind(self, order: Order, folder: str) -> Outcome | None:
        """Say how a script ended while no agent watched; None if it never began."""
        return left_behind(folder)


def left_behind(folder: str) -> Outcome | None:
    """Say how a script ended while no agent watched; None if it never began.

    A script whose end nobody wrote down counts as failed: it must not run twice.
    """
    path = Path(folder)
    if not (path / "began").exists():
        return None
    code = _exit_code(path)
    if code is None:
        return _outcome(
            path, "failed", None, "agent_restarted", "the agent was restarted; its end is unknown"
        )
    return _finished(path, code)


@dataclass(slots=True)
class _Leader:
    pid: int
    process: subprocess.Popen[bytes] | None

    def reap(self) -> int | None:
        """Return the exit status of a leader that has ended, if it is a child of this process."""
        if self.process is None:
            return None
        code = self.process.wait()
        return code if code >= 0 else 128 - code


class ScriptWork:
    """One running script."""

    def __init__(
        self, order: Order, report: Reporter, folder: Path, leader: _Leader, gate: int | None
    ) -> None:
        self.pid = leader.pid
        self.folder = str(folder)
        self._order = order
        self._report = report
        self._path = folder
        self._leader = leader
        self._gate = gate
        self._started = processes.started_at(leader.pid)
        self._streams = [_Stream(name, folder, report) for name in _STREAMS]
        self._stopping = self._timed_out = False
        self._released_at: float | None = None
        self._outcome = asyncio.create_task(self._watch(), name=f"script {self.pid}")

    def release(self) -> None:
        """Let the script begin: its start is journalled."""
        if self._gate is not None:
            with contextlib.suppress(BrokenPipeError):
                os.write(self._gate, b"go\n")
            self._close_gate()
            self._released_at = asyncio.get_running_loop().time()
            self._report.up()

    async def wait(self) -> Outcome:
        """Return how the script ended."""
        return await asyncio.shield(self._outcome)

    async def stop(self, grace: float = KILL_AFTER) -> None:
        """Send TERM to the group, and KILL after `grace` seconds."""
        if self._released_at is not None:
            young = self._released_at + SETTLE - asyncio.get_running_loop().time()
            await asyncio.wait({self._outcome}, timeout=max(0.0, young))
        self._stopping = True
        self._close_gate()
        await self._terminate(grace)

    async def _terminate(self, grace: float) -> None:
        self._signal(signal.SIGTERM)
        done, _ = await asyncio.wait({self._outcome}, timeout=grace)
        if not done:
            self._signal(signal.SIGKILL)
            await asyncio.wait({self._outcome})

    def _signal(self, number: signal.Signals) -> None:
        if not self._outcome.done():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _close_gate(self) -> None:
        if self._gate is not None:
            os.close(self._gate)
            self._gate = None

    async def _watch(self) -> Outcome:
        for stream in self._streams:
            stream.open()
        limit = self._order.timeout
        timer = None
        if limit:
            left = max(0.0, limit - processes.age(self._started))
            timer = asyncio.get_running_loop().call_later(left, self._time_out)
        try:
            code = await self._script_ended()
        finally:
            if timer is not None:
                timer.cancel()
        self._end_group()
        await _ended(self.pid)
        status = self._leader.reap()
        if code is None:
            code = _exit_code(self._path)
        for stream in self._streams:
            stream.close()
        self._close_gate()
        return self._judge(status if code is None else code)

    async def _script_ended(self) -> int | None:
        """Wait for the leader to say how the script ended; None if the leader ended first."""
        loop = asyncio.get_running_loop()
        end = os.open(self._path / "end", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        said = asyncio.Event()
        loop.add_reader(end, said.set)
        waits = [asyncio.create_task(wait) for wait in (said.wait(), _ended(self.pid))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            text = os.read(end, 16) if said.is_set() else b""
            return int(text) if text.endswith(b"\n") else None
        finally:
            loop.remove_reader(end)
            os.close(end)
            for wait in waits:
                wait.cancel()

    def _end_group(self) -> None:
        """End the leader and whatever the script left running."""
        if self._leader.process is not None:
            # The leader is not reaped yet, so nobody else can have its group's number.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        processes.kill_session(self.pid, self._order.execution_id)

    def _time_out(self) -> None:
        self._timed_out = True
        self._ending = asyncio.create_task(self._terminate(KILL_AFTER))

    def _judge(self, code: int | None) -> Outcome:
        if self._timed_out:
            limit = f"{self._order.timeout:g}"
            text = f"the script ran longer than its limit of {limit} s"
            return _outcome(self._path, "timeout", None, "execution_timeout", text)
        if self._stopping:
            return _outcome(self._path, "cancelled", code)
        if not (self._path / "began").exists():
            return _outcome(self._path, "failed", None, NEVER_BEGAN, "the script did not begin")
        if code is None:
            return left_behind(self.folder) or _outcome(self._path, "failed", None)
        return _finished(self._path, code)


class _Stream:
    """One named pipe of a script: what comes out goes to the spool and, line by line, to the log."""

    def __init__(self, name: str, folder: Path, report: Reporter) -> None:
        self._name = name
        self._path = folder / name
        self._report = report
        self._spool = Spool(folder / f"{name}.spool")
        self._cutter = Lines()
        self._allowance = Allowance()
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        self._file = -1

    def open(self) -> None:
        """Begin to read. Opened for writing too, so that there is never an end of file."""
        with contextlib.suppress(OSError):
            self._file = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            asyncio.get_running_loop().add_reader(self._file, self._read)

    def _read(self) -> bool:
        try:
            data = os.read(self._file, _CHUNK)
        except BlockingIOError:
            return False
        self._spool.add(data)
        self._take(self._cutter.feed(data))
        return True

    def _take(self, lines: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        for line in lines:
            if self._allowance.admit(len(line), loop.time()):
                self._lines.append(line.decode(errors="replace"))
        if self._lines and self._timer is None:
            self._timer = loop.call_later(LOG_EVERY, self._flush)

    def _flush(self) -> None:
        self._timer = None
        if dropped := self._allowance.take_dropped():
            self._lines.append(f"{dropped} lines were left out of this log")
        lines, self._lines = self._lines, []
        if lines:
            self._report.log(self._name, lines)

    def close(self) -> None:
        """Take what is still in the pipe and stop reading."""
        if self._file < 0:
            return
        asyncio.get_running_loop().remove_reader(self._file)
        while self._read():
            pass
        os.close(self._file)
        self._file = -1
        self._take(self._cutter.end())
        if self._timer is not None:
            self._timer.cancel()
        self._flush()


async def _ended(pid: int) -> None:
    """Return when the process has ended; it need not be a child."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


def _fresh_folder(order: Order) -> Path:
    order.workdir.mkdir(mode=0o700, parents=True, exist_ok=True)
    number = sum(1 for _ in order.workdir.parent.glob(f"{order.workdir.name}.run*"))
    folder = order.workdir.with_name(f"{order.workdir.name}.run{number}")
    folder.mkdir(mode=0o700)
    return folder


def _command(order: Order, folder: Path) -> list[str]:
    runner = str(order.config.get("runner"))
    payload = str(order.config.get("payload"))
    arguments = [str(argument) for argument in order.config.get("args") or ()]
    if runner == "exec":
        program = shutil.which(payload.strip(), path=order.env.get("PATH", PATH))
        if program is None:
            raise CannotStartError("spawn_failed", f"there is no program {payload.strip()!r}")
        return [str(Path(program).absolute()), *arguments]
    interpreters = {"shell": ["/bin/sh"], "python": [sys.executable, "-u"]}
    if runner not in interpreters:
        raise CannotStartError("unknown_runner", f"this node has no runner {runner!r}")
    file = folder / "payload"
    file.write_text(payload)
    file.chmod(0o600)
    return [*interpreters[runner], str(file), *arguments]


def _environment(order: Order) -> Mapping[str, str]:
    home = os.environ.get("HOME") or str(order.workdir)
    return {"PATH": PATH, "HOME": home, "LANG": "C.UTF-8", **order.env}


def _exit_code(folder: Path) -> int | None:
    try:
        text = (folder / "exit").read_text()
    except OSError:
        return None
    return int(text) if text.endswith("\n") else None


def _finished(folder: Path, code: int) -> Outcome:
    if code == 0:
        return _outcome(folder, "completed", 0)
    return _outcome(folder, "failed", code, "exit_code")


def _outcome(
    folder: Path,
    status: str,
    code: int | None,
    error_code: str = "",
    message: str = "",
) -> Outcome:
    (output, cut), (errors, errors_cut) = (
        Spool(folder / f"{name}.spool").text() for name in _STREAMS
    )
    return Outcome(
        status=status,  # type: ignore[arg-type]
        exit_code=code,
        error_code=error_code,
        error="\n".join(part for part in (message, errors) if part),
        output=output,
        output_truncated=cut or errors_cut,
    )
