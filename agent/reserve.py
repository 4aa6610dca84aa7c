"""Room on the disk that is held back, so that a full disk costs no report."""

from __future__ import annotations

import errno
import os
from pathlib import Path

RESERVE_BYTES = 1 << 20
NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class Reserve:
    """A file that is there only for the room it takes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self) -> bool:
        """Hold the room back (again); False if there is none."""
        if self._path.exists() and self._path.stat().st_size >= RESERVE_BYTES:
            return True
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, RESERVE_BYTES)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            self._path.unlink()
            return False
        finally:
            os.close(file)
        return True

    def give(self) -> bool:
        """Give the room up; False if it was given up before."""
        if not self._path.exists():
            return False
        self._path.unlink()
        return True
