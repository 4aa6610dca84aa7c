"""What must survive kill -9: assignments, starts, sequence numbers and unacknowledged reports.

One append-only file. A line is a checksum and one or more parts that count together or not at
all: `A` an assignment, `E` what is known of an execution, `U` a frame for the control plane, `C`
how far the control plane has committed, `R` up to where sequence numbers are reserved, `D` frames
given up. A line that was torn by a crash is cut off at the next start.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from agent.protocol import Frame, Log, encode
from agent.records import (
    SEPARATOR,
    Entry,
    Mark,
    Pending,
    entry_part,
    is_whole,
    make_line,
    make_part,
)
from agent.reserve import NO_SPACE, Reserve

log = logging.getLogger("jobsite.agent.journal")

LAZY_LIMIT = 4 << 20
COMPACT_ABOVE = 1 << 20
NUMBERS_AHEAD = 10_000
TOMBSTONES = 2_000


class Journal:
    """The file, and what it says. One process at a time holds it."""

    def __init__(self, folder: Path, boot: str) -> None:
        self.changed = asyncio.Event()
        self.entries: dict[str, Entry] = {}
        self.full = False
        self.last_seq = 0
        self._boot = boot
        self._path = folder / "journal"
        self._reserve = Reserve(folder / "journal.reserve")
        self._pending: dict[int, Pending] = {}
        self._lazy_bytes = 0
        self._reserved = 0
        # Lines that found no room on the disk; they are written as soon as there is some.
        self._unwritten: list[bytes] = []
        self._size = self._floor = 0
        # How many durable appends there were, and how many of them an fsync covers.
        self._durable = self._synced = 0
        self._syncing: asyncio.Task[None] | None = None
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._load()
        self._reserve.take()
        self.compact()

    @property
    def has_no_room(self) -> bool:
        """Say whether something that was recorded lies in memory only: nothing may start then."""
        return bool(self._unwritten)

    # --- Reading ---------------------------------------------------------------------------

    def _load(self) -> None:
        good = 0
        boot = self._boot
        with os.fdopen(os.dup(self._file), "rb") as file:
            file.seek(0)
            for line in file:
                if not is_whole(line):
                    if not line.endswith(b"\n"):
                        break
                    log.error("a damaged line of the journal was left out, at byte %d", good)
                else:
                    boot = self._apply(line, good) or boot
                good += len(line)
        os.ftruncate(self._file, good)
        self._size = good
        if boot != self._boot:
            # After a power cut, numbers may have been used that the file has lost.
            self.last_seq = max(self.last_seq, self._reserved)

    def _apply(self, line: bytes, at: int) -> str:
        """Take one line in; return the boot it names, if it does."""
        boot = ""
        at += 9
        for part in line[9:-1].split(SEPARATOR):
            kind, _, rest = part.partition(b" ")
            if kind == b"U":
                self._apply_frame(rest, at + 2)
            elif kind == b"R":
                self._reserved, boot = json.loads(rest)
            elif kind == b"C":
                self._forget_up_to(int(rest))
                self.last_seq = max(self.last_seq, int(rest))
            elif kind == b"D":
                for number in json.loads(rest):
                    self._forget(number)
            elif kind == b"A":
                execution_id, assignment = json.loads(rest)
                self._entry(execution_id).assignment = assignment
            elif kind == b"E":
                value = json.loads(rest)
                old = self.entries.get(value["execution_id"])
                self.entries[value["execution_id"]] = Entry(
                    **value, assignment=old.assignment if old else None
                )
            at += len(part) + 1
        return boot

    def _apply_frame(self, text: bytes, at: int) -> None:
        frame = json.loads(text)
        number, kind = frame["seq"], frame["type"]
        lazy = kind in {"log", "window"}
        self._note(number, Pending(kind, at, len(text), lazy))
        if lazy and (entry := self.entries.get(frame["execution_id"])):
            if kind == "log":
                entry.logs = max(entry.logs, frame["number"])
            else:
                entry.windows = max(entry.windows, frame["number"])

    def _entry(self, execution_id: str) -> Entry:
        return self.entries.setdefault(execution_id, Entry(execution_id))

    def pending(self, after: int, limit: int = 500) -> list[tuple[int, str]]:
        """Return uncommitted frames with a higher number, oldest first, as they are to be sent."""
        found = []
        for number, item in self._pending.items():
            if number > after:
                if item.offset + item.length > self._size:
                    break
                found.append((number, os.pread(self._file, item.length, item.offset).decode()))
                if len(found) == limit:
                    break
        return found

    # --- Writing ---------------------------------------------------------------------------

    def record(
        self,
        frames: Sequence[Frame] = (),
        *,
        entry: Entry | None = None,
        with_assignment: bool = False,
        lazy: bool = False,
    ) -> None:
        """Write reports and the execution they are about, all or nothing.

        `lazy` reports (logs, windows) need not outlive a power cut, and are the first to go.
        """
        if lazy and (self.full or self._unwritten):
            return
        parts = []
        if self.last_seq + len(frames) > self._reserved:
            self._reserved = self.last_seq + NUMBERS_AHEAD
            parts.append(self._reservation())
        notes = []
        for frame in frames:
            self.last_seq += 1
            text = encode(dataclasses.replace(frame, seq=self.last_seq)).encode()
            offset = self._size + 9 + sum(len(part) + 1 for part in parts) + 2
            notes.append((self.last_seq, Pending(frame.kind, offset, len(text), lazy)))
            parts.append(b"U " + text)
        if entry is not None:
            self.entries[entry.execution_id] = entry
            if with_assignment:
                parts.append(make_part(b"A", [entry.execution_id, entry.assignment]))
            parts.append(entry_part(entry))
        self._append(parts, notes, durable=not lazy or len(parts) > len(frames))
        if frames:
            self._keep_lazy_small()
            self.changed.set()

    def _append(
        self, parts: list[bytes], notes: Iterable[tuple[int, Pending]] = (), *, durable: bool
    ) -> None:
        line = make_line(parts)
        if self._unwritten or not self._write(line):
            # Offsets are of a file that will be written anew once there is room.
            for number, item in notes:
                item.offset += sum(map(len, self._unwritten))
                self._note(number, item)
            self._unwritten.append(line)
            return
        for number, item in notes:
            self._note(number, item)
        self._durable += durable

    def _write(self, line: bytes) -> bool:
        """Append a line; False when even the reserve gave no room for it."""
        while True:
            try:
                written = 0
                while written < len(line):
                    written += os.pwrite(self._file, line[written:], self._size + written)
            except OSError as error:
                if error.errno not in NO_SPACE:
                    raise
                os.ftruncate(self._file, self._size)
                if not self._give_reserve():
                    return False
            else:
                self._size += len(line)
                return True

    def _give_reserve(self) -> bool:
        if not self.full:
            log.error("the disk is full: no new work until there is room")
        self.full = True
        return self._reserve.give()

    def recover_space(self) -> bool:
        """Try to get out of `full`: write what had no room, and take the reserve back."""
        while self._unwritten and self._write(self._unwritten[0]):
            self._unwritten.pop(0)
            self._durable += 1
            self.changed.set()
        if self.full and not self._unwritten and self._reserve.take():
            self.full = False
            log.warning("there is room on the disk again")
        return not self.full

    async def sync(self) -> None:
        """Return once everything durable that was recorded so far is on the disk.

        Callers that wait at the same time share one fsync.
        """
        target = self._durable
        while self._synced < target:
            if self._syncing is None:
                self._syncing = asyncio.create_task(self._sync_now())
            await asyncio.shield(self._syncing)

    async def _sync_now(self) -> None:
        covered = self._durable
        try:
            await asyncio.to_thread(os.fdatasync, self._file)
            self._synced = covered
        finally:
            self._syncing = None

    # --- Forgetting ------------------------------------------------------------------------

    def committed(self, up_to: int) -> None:
        """Forget the frames that the control plane has committed."""
        if self._forget_up_to(up_to) or up_to > self.last_seq:
            self.last_seq = max(self.last_seq, up_to)
            self._append([b"C %d" % up_to], durable=False)
        if self._size > 2 * self._floor + COMPACT_ABOVE:
            self.compact()

    def _forget_up_to(self, up_to: int) -> int:
        done = []
        for number in self._pending:
            if number > up_to:
                break
            done.append(number)
        for number in done:
            self._forget(number)
        return len(done)

    def _note(self, number: int, item: Pending) -> None:
        old = self._pending.get(number)
        self._lazy_bytes += item.lazy * item.length - (old.length if old and old.lazy else 0)
        self._pending[number] = item
        self.last_seq = max(self.last_seq, number)

    def _forget(self, number: int) -> None:
        item = self._pending.pop(number, None)
        if item is not None and item.lazy:
            self._lazy_bytes -= item.length

    def _keep_lazy_small(self) -> None:
        """Give up the oldest log lines, then the oldest windows, above the limit.

        The first frame given up of each execution stays, and says how many lines are missing.
        """
        if self._lazy_bytes <= LAZY_LIMIT:
            return
        gone: list[int] = []
        marks: dict[str, Mark] = {}
        for kind in ("log", "window"):
            for number, item in list(self._pending.items()):
                if self._lazy_bytes <= LAZY_LIMIT * 3 // 4:
                    break
                if item.kind == kind and not self._merged(number, item, marks):
                    gone.append(number)
                    self._forget(number)
        self._append([make_part(b"D", gone)], durable=False)
        for execution_id, mark in marks.items():
            self._write_mark(execution_id, mark)

    def _merged(self, number: int, item: Pending, marks: dict[str, Mark]) -> bool:
        """Count the lines of a frame that goes; True for the first, which becomes the mark."""
        if item.kind != "log":
            return False
        frame = json.loads(os.pread(self._file, item.length, item.offset))
        mark = marks.setdefault(frame["execution_id"], Mark(number, frame["number"]))
        mark.lines += item.dropped or len(frame["lines"])
        if mark.seq != number:
            return False
        self._lazy_bytes -= item.length
        item.length = 0
        return True

    def _write_mark(self, execution_id: str, mark: Mark) -> None:
        line = f"{mark.lines} lines were dropped while the control plane could not be reached"
        frame = Log(
            seq=mark.seq,
            execution_id=execution_id,
            number=mark.number,
            stream="system",
            lines=[line],
        )
        text = encode(frame).encode()
        item = Pending("log", self._size + 11, len(text), lazy=True, dropped=mark.lines)
        self._append([b"U " + text], [(mark.seq, item)], durable=False)

    def compact(self) -> None:
        """Write the file anew with only what still counts; a failure leaves the old one."""
        if self._unwritten or self._syncing is not None:
            return
        self._bury()
        lines: list[bytes] = []
        offset = 0
        moved: dict[int, Pending] = {}
        for part, number in self._live_parts():
            line = make_line([part])
            if number:
                old = self._pending[number]
                moved[number] = dataclasses.replace(old, offset=offset + 11)
            lines.append(line)
            offset += len(line)
        if self._swap(lines):
            self._pending.update(moved)
            self._size = self._floor = offset
            self._synced = self._durable

    def _live_parts(self) -> Iterable[tuple[bytes, int]]:
        yield b"C %d" % (min(self._pending, default=self.last_seq + 1) - 1), 0
        self._reserved = self.last_seq + NUMBERS_AHEAD
        yield self._reservation(), 0
        for entry in self.entries.values():
            if entry.assignment is not None:
                yield make_part(b"A", [entry.execution_id, entry.assignment]), 0
            yield entry_part(entry), 0
        for number, item in self._pending.items():
            yield b"U " + os.pread(self._file, item.length, item.offset), number

    def _bury(self) -> None:
        """Drop what ended executions held (their secrets too), and the oldest of them whole."""
        ended = [entry for entry in self.entries.values() if entry.ended]
        for entry in ended:
            entry.assignment = None
        for entry in ended[: max(0, len(ended) - TOMBSTONES)]:
            del self.entries[entry.execution_id]

    def _swap(self, lines: list[bytes]) -> bool:
        path = self._path.with_name("journal.new")
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            for line in lines:
                written = 0
                while written < len(line):
                    written += os.write(file, line[written:])
            os.fsync(file)
        except OSError as error:
            os.close(file)
            with contextlib.suppress(OSError):
                path.unlink()
            log.warning("the journal could not be compacted: %s", error)
            return False
        path.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(folder)
        os.close(folder)
        os.close(self._file)
        self._file = file
        return True

    def _reservation(self) -> bytes:
        return make_part(b"R", [self._reserved, self._boot])

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            os.fdatasync(self._file)
        os.close(self._file)
