"""The lines of the journal: a checksum and parts that count together or not at all."""

from __future__ import annotations

import dataclasses
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

SEPARATOR = b"\x1e"
_ENDS = frozenset({"completed", "failed", "stopped"})


@dataclass(slots=True)
class Entry:
    """What this node knows of one execution."""

    execution_id: str
    assignment: dict[str, Any] | None = None
    desired_state: str = "running"
    desired_seq: int = 0
    phase: str = "pending"
    attempt: int = 1
    restarts: int = 0
    # It has had a window with a live process; before that it cannot have passed its validation.
    may_be_stable: bool = False
    # The process that runs it: its pid, its start time (ticks), the boot, the runner's folder.
    start: dict[str, Any] | None = None
    windows: int = 0
    logs: int = 0

    @property
    def ended(self) -> bool:
        """Say whether nothing more is to be done for it."""
        return self.phase in _ENDS


@dataclass(slots=True)
class Pending:
    """A frame that is not committed yet: where its text lies in the file."""

    kind: str
    offset: int
    length: int
    lazy: bool
    dropped: int = 0


@dataclass(slots=True)
class Mark:
    """The frame that stands for all the dropped log lines of an execution."""

    seq: int
    number: int
    lines: int = 0


def make_part(kind: bytes, value: object) -> bytes:
    """Return one part: what it is, and its value as JSON."""
    return kind + b" " + json.dumps(value, separators=(",", ":")).encode()


def entry_part(entry: Entry) -> bytes:
    """Return the part of an execution; its assignment is a part of its own."""
    names = (field.name for field in dataclasses.fields(entry) if field.name != "assignment")
    return make_part(b"E", {name: getattr(entry, name) for name in names})


def make_line(parts: Sequence[bytes]) -> bytes:
    """Return the line of parts that count together."""
    body = SEPARATOR.join(parts)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def is_whole(line: bytes) -> bool:
    """Say whether a line is complete and undamaged."""
    return line.endswith(b"\n") and line[:9] == b"%08x " % zlib.crc32(line[9:-1])
