"""The one running product of a data folder: its lock, and what it published about itself."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

if sys.platform != "win32":
    import fcntl


class EmbeddedError(RuntimeError):
    """The embedded servers cannot run here; the message tells a person what to do."""


class AlreadyRunningError(EmbeddedError):
    """Another process holds the data folder; `info` is what it published about itself."""

    def __init__(self, data: Path, info: Mapping[str, Any]) -> None:
        self.info = dict(info)
        super().__init__(f"already running on {data} (process {info.get('pid', 'unknown')})")


class Instance:
    """The one running product of a data folder: a lock, and a file that says what runs."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._lock: IO[str] | None = None

    def acquire(self) -> None:
        """Take the folder for this process; AlreadyRunningError when another one has it."""
        if self._lock is not None:
            return
        make_data_folder(self.data)
        lock = (self.data / "lock").open("a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise AlreadyRunningError(self.data, read_instance(self.data)) from None
        self._lock = lock

    def publish(self, **info: object) -> None:
        """Tell other commands of this folder what runs (`read_instance` gives it back)."""
        file = _instance_file(self.data)
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps({"pid": os.getpid(), **info}))
        draft.chmod(0o600)
        draft.replace(file)

    def release(self) -> None:
        """Give the folder free; nothing happens when it is not held."""
        if self._lock is None:
            return
        _instance_file(self.data).unlink(missing_ok=True)
        self._lock.close()
        self._lock = None


def _instance_file(data: Path) -> Path:
    return data / "instance.json"


def read_instance(data: Path) -> dict[str, Any]:
    """Read what the product that runs on `data` published last; empty when nothing is known."""
    try:
        info = json.loads(_instance_file(data).read_text())
    except (OSError, ValueError):
        return {}
    return info if isinstance(info, dict) else {}


def make_data_folder(data: Path) -> None:
    """Make it; one made by root stays passable, so that the servers' user reaches its part."""
    if not data.exists():
        data.mkdir(parents=True)
        data.chmod(0o711 if os.geteuid() == 0 else 0o700)
