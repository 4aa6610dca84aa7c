"""The agent's side of the lint helper: started when first asked, limited, restarted on a crash."""

from __future__ import annotations

import json
import selectors
import subprocess
import threading
import time
from typing import Any

from agent.engine.library import EngineMissingError
from agent.engine.process import command, environment

START_LIMIT = 20.0


class HelperFailedError(RuntimeError):
    """The helper did not answer in time or died; the next request gets a new one."""


class Helper:
    """One long-lived helper process; calls block, and come one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process that runs now, if any."""
        return self._process.pid if self._process else None

    def ask(self, request: dict[str, Any], limit: float) -> dict[str, Any]:
        """Return the answer within `limit` seconds, not counting the helper's own start.

        Raises HelperFailedError, or EngineMissingError when there is no engine to ask.
        """
        with self._lock:
            process = self._process or self._start()
            assert process.stdin is not None
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
                return self._answer(process, limit)
            except OSError as error:
                self._end()
                raise HelperFailedError(f"the lint helper ended: {error}") from error

    def close(self) -> None:
        """End the helper."""
        with self._lock:
            self._end()

    def _start(self) -> subprocess.Popen[bytes]:
        # It ends by itself when the agent's end of its stdin closes.
        self._process = subprocess.Popen(
            command("agent.engine.helper"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env=environment("/", {}),
            cwd="/",
            bufsize=0,
        )
        first = self._answer(self._process, START_LIMIT)
        if "missing" in first:
            self._end()
            raise EngineMissingError(first["missing"])
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], limit: float) -> dict[str, Any]:
        assert process.stdout is not None
        deadline, data = time.monotonic() + limit, b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while not data.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self._end()
                    raise HelperFailedError(f"no answer within {limit:g} s")
                piece = process.stdout.read(1 << 16)
                if not piece:
                    self._end()
                    raise HelperFailedError("the lint helper ended without an answer")
                data += piece
        answer: dict[str, Any] = json.loads(data)
        return answer

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
