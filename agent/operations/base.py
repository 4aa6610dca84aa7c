"""What every operation answers, and the few things that all of them do with a machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Status = Literal["completed", "failed", "skipped"]
Params = Mapping[str, Any]
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What a job's programs are told of it; nothing else of the agent's environment gets in.
_MARKS = ("JOBSITE_NODE", "JOBSITE_WORKDIR", "JOBSITE_EXECUTION")
# Where the machine's files begin.
ROOT = Path("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of an operation (docs/semantics.md 4.7).

    `changed` is None for a query; `data` is plain JSON. An `exit_code` is there only when the
    operation was to run a command for somebody.
    """

    data: Any = None
    changed: bool | None = None
    status: Status = "completed"
    error: str = ""
    error_code: str = ""
    exit_code: int | None = None


Handler = Callable[[Params], Answer]


class OperationError(Exception):
    """The operation could not be done; the text says what was wrong and how to mend it."""

    def __init__(self, message: str, code: str = "operation_failed") -> None:
        super().__init__(message)
        self.code = code


def program(name: str) -> str | None:
    """Return the path of a program of this machine, None if it has none of that name."""
    return shutil.which(name, path=PATH)


def has_systemd() -> bool:
    """Say whether systemd runs this machine; its programs may be there where it does not."""
    return at("/run/systemd/system").is_dir()


def offered(handlers: Mapping[str, Handler], *needs: str) -> Collection[str]:
    """Return all operations of a domain if every program that they need is here, else none."""
    return list(handlers) if all(map(program, needs)) else []


def environment() -> dict[str, str]:
    """Return what a program gets: by its execution's mark it is found and ended with it."""
    ours = {name: os.environ[name] for name in _MARKS if name in os.environ}
    return {**ours, "PATH": PATH, "HOME": os.environ.get("HOME", "/"), "LANG": "C.UTF-8"}


def run(
    argv: Sequence[str],
    *,
    text: str | None = None,
    check: bool = True,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program of this machine, with `text` on its standard input, and return what it said.

    Never a shell, always in the C locale. The limit of time is the operation's own.
    Raises OperationError with the program's words when `check` and it ends with another code than 0.
    """
    try:
        done = subprocess.run(  # noqa: PLW1510 - looked at below
            list(argv),
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env={**environment(), "LC_ALL": "C.UTF-8", **(env or {})},
        )
    except OSError as error:
        raise OperationError(f"{argv[0]} cannot be run: {error}") from error
    if check and done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise OperationError(f"{Path(argv[0]).name} ended with {done.returncode}: {said}")
    return done


def at(path: str) -> Path:
    """Return where a file of the machine is, given its absolute path."""
    return ROOT / path.lstrip("/")


def read(path: str, default: str | None = None) -> str:
    """Return the text of a file, or `default` where there is none and one is given.

    Raises OperationError.
    """
    try:
        return at(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as error:
        if default is not None:
            return default
        raise OperationError(f"there is no file {path}", "not_found") from error
    except OSError as error:
        raise OperationError(f"{path} cannot be read: {error.strerror}") from error


def write(path: str, content: str | bytes, mode: int | None = None) -> bool:
    """Make a file hold this, whole or not at all; say whether anything was changed.

    `mode` is set where given; a new file without one gets 0644. Owner and mode of a file that is
    replaced stay. Raises OperationError.
    """
    target = at(path)
    data = content.encode() if isinstance(content, str) else content
    try:
        before = target.stat() if target.exists() else None
        wanted = mode if mode is not None else (before.st_mode & 0o7777 if before else 0o644)
        if before is not None and target.read_bytes() == data:
            is_changed = before.st_mode & 0o7777 != wanted
            if is_changed:
                target.chmod(wanted)
            return is_changed
        _replace(target, data, wanted, before)
    except OSError as error:
        raise OperationError(f"{path} cannot be written: {error.strerror}") from error
    return True


def _replace(target: Path, data: bytes, mode: int, before: os.stat_result | None) -> None:
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
            if before is not None:
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def remove(path: str) -> bool:
    """Remove a file; say whether it was there. Raises OperationError."""
    try:
        at(path).unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise OperationError(f"{path} cannot be removed: {error.strerror}") from error
    return True
