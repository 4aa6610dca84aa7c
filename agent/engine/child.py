"""One pipeline's process: `agent.engine.child ORDER_FD CONTROL_FD LOG_FD AGENT_PID`."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import logging
import os
import re
import resource
import signal
import socket
import sys
import threading
import time
from typing import Any, NoReturn

from agent.engine import checks
from agent.engine.document import ARRIVED, DELIVERED, Pipeline, config_of, divide
from agent.engine.library import Counter, EngineMissingError, Library
from agent.engine.rendering import render
from agent.engine.variables import MissingVariablesError, substitute

COMPLETED, FAILED, BAD_CONFIG, STOP_TIMED_OUT = 0, 1, 3, 4
STOP_LIMIT = 10.0
START_LIMIT = 10.0
# After the stop the route takes nothing more; what it has taken is written within milliseconds.
QUIET, LOOK_EVERY = 0.25, 0.02
LEAST_DATA = 1_500_000_000
DEFAULT_DATA = 2_500_000_000
PR_SET_PDEATHSIG = 1

FATAL = re.compile(
    r"failed to init|was not found|not recognised|lint errors|address already in use|"
    r"failed to create the connect"
)
EXPECTED = re.compile(r"Python handler raised|Dropping message \(ID")
ROUTE_OPTIONS = {"batch_size": 32, "startup_timeout_ms": 5000, "reconnect_interval_ms": 1000}


class Tally:
    """What has gone through since the start; asked for by the agent at each window."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.messages_out = self.errors = self.restarts = 0
        self.first_error = self.last_error = ""
        self.last_message_at = 0.0
        self._arrived: Counter | None = None
        self._delivered: Counter | None = None
        self._drops_errored = False
        self._reads = 0

    def watch(self, library: Library, pipeline: Pipeline) -> None:
        """Read what came in and what the output has taken from the engine's own counters."""
        self._drops_errored = pipeline.drop_errored
        self._arrived = library.counter(f'root = count("{ARRIVED}").string()')
        if pipeline.retried:
            self._delivered = library.counter(f'root = count("{DELIVERED}").string()')

    def passed(self, packed: str) -> bool:
        """Count one message by its packed error field; True if it had failed."""
        failed = not packed.startswith('{"e":null')
        with self._lock:
            self.messages_out += 1
            self.last_message_at = time.time()
            if failed:
                self.errors += 1
                self.last_error = _error_in(packed)
                self.first_error = self.first_error or self.last_error
        return failed

    def numbers(self) -> dict[str, Any]:
        """Return the sums since the start."""
        with self._lock:
            # Reading counts too, so our own reads are taken off.
            self._reads += 1
            handed = self.messages_out - (self.errors if self._drops_errored else 0)
            arrived = self._arrived.read() - self._reads if self._arrived else 0
            delivered = self._delivered.read() - self._reads if self._delivered else handed
            return {
                "messages_in": arrived,
                "messages_out": self.messages_out,
                "delivered": delivered,
                "waiting": handed - delivered,
                "messages_ok": delivered - (0 if self._drops_errored else self.errors),
                "errors": self.errors,
                "restarts": self.restarts,
                "first_error": self.first_error,
                "last_error": self.last_error,
                "last_message_at": self.last_message_at,
            }


def _error_in(packed: str) -> str:
    try:
        return str(json.loads(packed)["e"])[:4096]
    except (ValueError, KeyError, TypeError):
        return "the message lost its error state"


class Control:
    """The control descriptor: JSON lines to the agent, one byte from it asks for the numbers."""

    def __init__(self, descriptor: int, tally: Tally) -> None:
        self._socket = socket.socket(fileno=descriptor)
        self._lock = threading.Lock()
        self._ending = threading.Lock()
        self._tally = tally

    def send(self, kind: str, **fields: object) -> None:
        """Write one line; a vanished agent is not an error here."""
        line = json.dumps({"kind": kind, **fields}) + "\n"
        with self._lock, contextlib.suppress(OSError):
            self._socket.sendall(line.encode())

    def answer(self) -> None:
        """Answer requests until the agent closes its end."""
        with contextlib.suppress(OSError):
            while self._socket.recv(1):
                self.send("numbers", **self._tally.numbers())

    def finish(
        self, code: int, error_code: str = "", error: str = "", **fields: object
    ) -> NoReturn:
        """Report the end, once, and leave at once: the engine's own shutdown may hang."""
        self._ending.acquire()
        numbers = self._tally.numbers()
        self.send("end", code=code, error_code=error_code, error=error, **numbers, **fields)
        sys.stdout.flush()
        os._exit(code)


class RouteWatch(logging.Handler):
    """Reads what the bridge only logs: start failures are fatal, the rest are restarts."""

    def __init__(self, control: Control, tally: Tally) -> None:
        super().__init__(logging.WARNING)
        self._control = control
        self._tally = tally
        self._started = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Judge one log record of the bridge."""
        text = record.getMessage()
        if "Reconnecting" not in text:
            if not EXPECTED.match(text):
                self._control.send("note", text=text[:4096])
            return
        young = time.monotonic() - self._started < START_LIMIT
        if young and not self._tally.messages_out and FATAL.search(text):
            self._control.finish(BAD_CONFIG, "invalid_config", _reason(text))
        self._tally.restarts += 1
        self._tally.last_error = _reason(text)
        self._control.send("restart", text=_reason(text))


def _reason(text: str) -> str:
    text = re.sub(r"\.? Reconnecting in \d+ms.*$", "", text)
    return re.sub(r"^Route '\w+' failed( to start)?: ", "", text)[:4096]


def fence(agent_pid: int, memory: int | None) -> None:
    """Die with the agent, and never grow beyond the memory limit (docs/semantics.md 5)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != agent_pid:
        os._exit(FAILED)
    limit = max(memory or DEFAULT_DATA, LEAST_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)


def prepare(order: dict[str, Any], log_fd: int, control: Control) -> tuple[Library, Pipeline]:
    """Substitute, lint and divide the ordered pipeline; ends the process if it cannot run."""
    try:
        library = Library()
    except EngineMissingError as error:
        control.finish(BAD_CONFIG, "engine_missing", str(error))
    try:
        config = substitute(config_of(order["config"]), order["env"])
        problems = checks.problems(config, library.refusal)
        if problems:
            text = "\n".join(f"{p.path or '/'}: {p.message}" for p in problems)
            control.finish(BAD_CONFIG, "invalid_config", text)
        return library, divide(config, f"/proc/self/fd/{log_fd}")
    except MissingVariablesError as error:
        control.finish(BAD_CONFIG, "missing_variables", str(error))
    except ValueError as error:
        control.finish(BAD_CONFIG, "invalid_config", str(error))


class Run:
    """The running route, and its one orderly stop."""

    def __init__(self, pipeline: Pipeline, tally: Tally, control: Control) -> None:
        self._pipeline = pipeline
        self._tally = tally
        self._control = control
        self._stopping = threading.Event()
        self._out_at_signal = 0
        self._route: Any = None

    def run(self) -> NoReturn:
        """Run the pipeline to its end on a second thread; signals stay with this one."""
        import mq_bridge  # noqa: PLC0415 - 100 MB, wanted only once the pipeline has been linted

        logger = logging.getLogger("mq_bridge")
        logger.propagate = False
        logger.addHandler(RouteWatch(self._control, self._tally))
        mq_bridge.init_logging("warn")
        importlib.import_module("mq_bridge_connect").register()
        self._route = mq_bridge.Route.from_config({"p": self._definition()}, "p")
        self._route.with_handler(self._handler(mq_bridge.NonRetryableError))
        signal.signal(signal.SIGTERM, self._on_term)
        threading.Thread(target=self._work, daemon=True).start()
        while True:
            signal.pause()

    def _definition(self) -> dict[str, Any]:
        def end(document: dict[str, Any]) -> dict[str, Any]:
            text, _ = render(document)
            return {"custom": {"name": "connect", "config": {"yaml": text}}}

        return {
            "input": end(self._pipeline.source),
            "output": end(self._pipeline.sink),
            **ROUTE_OPTIONS,
        }

    def _handler(self, dropped: type[Exception]) -> Any:  # noqa: ANN401
        passed, drop = self._tally.passed, self._pipeline.drop_errored

        def handle(message: Any) -> Any:  # noqa: ANN401
            if passed(message.metadata.get("jobsite", "")) and drop:
                raise dropped("rejected: the message has failed")
            return message

        return handle

    def _work(self) -> None:
        try:
            self._route.run()
        except Exception as error:
            text = _reason(str(error))
            bad = not self._tally.messages_out and FATAL.search(text)
            code, name = (BAD_CONFIG, "invalid_config") if bad else (FAILED, "pipeline_failed")
            self._control.finish(code, name, text)
        if self._stopping.is_set():
            self._stopped()
        self._control.finish(COMPLETED)

    def _stopped(self) -> NoReturn:
        written = self._tally.messages_out - self._out_at_signal
        self._control.finish(COMPLETED, written_after_signal=written)

    def _on_term(self, *_: object) -> None:
        if self._stopping.is_set():
            os._exit(STOP_TIMED_OUT)
        self._stopping.set()
        self._out_at_signal = self._tally.messages_out
        threading.Thread(target=self._stop, daemon=True).start()

    def _stop(self) -> None:
        timer = threading.Timer(STOP_LIMIT, self._give_up)
        timer.daemon = True
        timer.start()
        self._route.stop()
        if self._pipeline.closes_empty:
            self._wait_until_written()
            self._stopped()

    def _wait_until_written(self) -> None:
        """Wait until the output has taken all that the route had taken from the input.

        The engine itself stays for about four seconds more if its input holds a message that
        nobody takes any more, as an input that trickles always does.
        """
        taken, since, pause = -1, time.monotonic(), threading.Event()
        while time.monotonic() - since < QUIET:
            pause.wait(LOOK_EVERY)
            numbers = self._tally.numbers()
            if numbers["waiting"] > 0 or numbers["messages_out"] != taken:
                taken, since = numbers["messages_out"], time.monotonic()

    def _give_up(self) -> None:
        self._control.finish(
            STOP_TIMED_OUT, "stop_timed_out", f"not stopped within {STOP_LIMIT:.0f} s"
        )


def main(arguments: list[str]) -> NoReturn:
    """Run the ordered pipeline; never returns."""
    order_fd, control_fd, log_fd, agent_pid = (int(argument) for argument in arguments)
    for descriptor in (order_fd, control_fd, log_fd):
        os.set_inheritable(descriptor, False)
    with os.fdopen(order_fd, "rb") as file:
        order = json.load(file)
    fence(agent_pid, order.get("memory"))
    tally = Tally()
    control = Control(control_fd, tally)
    library, pipeline = prepare(order, log_fd, control)
    tally.watch(library, pipeline)
    threading.Thread(target=control.answer, daemon=True).start()
    control.send(
        "ready", log_level=pipeline.log_level, retried=pipeline.retried, notes=pipeline.notes
    )
    Run(pipeline, tally, control).run()


if __name__ == "__main__":
    main(sys.argv[1:])
