"""Commands for somebody, with and without a shell (docs/semantics.md 2.7, domain command).

What a command writes goes to the operation's own stdout and stderr, so it is seen while it runs.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from agent.operations.base import Answer, Handler, OperationError, Params, environment, program

TIMEOUT = 30
SHELL = "/bin/sh"


def _exec(params: Params) -> Answer:
    command = str(params["command"])
    found = command if "/" in command else program(command)
    if found is None:
        raise OperationError(f"there is no program {command!r}", "not_found")
    return _run([found, *map(str, params.get("args") or ())], params)


def _shell(params: Params) -> Answer:
    return _run([SHELL, "-c", str(params["command"])], params)


def _run(argv: Sequence[str], params: Params) -> Answer:
    limit = int(params.get("timeout", TIMEOUT))
    began = time.monotonic()
    try:
        process = subprocess.Popen(
            argv,
            cwd=params.get("cwd") or "/",
            env=environment(),
            stdin=subprocess.DEVNULL,
            process_group=0,
        )
    except OSError as error:
        raise OperationError(f"{argv[0]} cannot be run: {error}") from error
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        text = f"the command ran longer than its limit of {limit} s"
        return Answer(
            status="failed",
            changed=True,
            error=text,
            error_code="execution_timeout",
            data=_took(began),
        )
    code = code if code >= 0 else 128 - code
    return Answer(
        status="completed" if code == 0 else "failed",
        changed=True,
        exit_code=code,
        error_code="" if code == 0 else "exit_code",
        data=_took(began),
    )


def _took(began: float) -> dict[str, int]:
    return {"duration_ms": round(1000 * (time.monotonic() - began))}


HANDLERS: dict[str, Handler] = {"command.exec.execute": _exec, "command.shell.execute": _shell}


def available() -> Collection[str]:
    """Return what this machine can do: a shell is not everywhere."""
    return [name for name in HANDLERS if name == "command.exec.execute" or Path(SHELL).exists()]
