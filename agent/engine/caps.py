"""Pure. How much of a pipeline's log is let through, and its lines cut to size."""

from __future__ import annotations

LINES_PER_SECOND = 200
BYTES_PER_HOUR = 10_000_000
LINE_LIMIT = 4096


class Lines:
    """Cuts a byte stream into text lines of at most 4 KB; what is longer is cut and marked."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that `data` completes."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines = []
        for line in whole:
            if self._skipping:
                self._skipping = False
            else:
                lines.append(_cut(line))
        if len(self._rest) > LINE_LIMIT:
            if not self._skipping:
                lines.append(_cut(self._rest))
            self._skipping, self._rest = True, b""
        return lines

    def end(self) -> list[bytes]:
        """Return the last line when the stream ended without a line feed."""
        rest, self._rest = self._rest, b""
        return [_cut(rest)] if rest and not self._skipping else []


def _cut(line: bytes) -> bytes:
    return line if len(line) <= LINE_LIMIT else line[:LINE_LIMIT] + b" (cut)"


class Allowance:
    """200 lines a second and 10 MB an hour; what is over is counted, not kept."""

    def __init__(self) -> None:
        self._second = self._hour = -1
        self._lines = self._bytes = 0
        self._dropped = 0

    def admit(self, size: int, now: float) -> bool:
        """Tell whether a line of `size` bytes may pass at `now` (seconds, any steady clock)."""
        if int(now) != self._second:
            self._second, self._lines = int(now), 0
        if int(now // 3600) != self._hour:
            self._hour, self._bytes = int(now // 3600), 0
        if self._lines >= LINES_PER_SECOND or self._bytes + size > BYTES_PER_HOUR:
            self._dropped += 1
            return False
        self._lines += 1
        self._bytes += size
        return True

    def take_dropped(self) -> int:
        """Return how many lines were dropped since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped


class Tail:
    """The last `limit` bytes of a stream."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = bytearray()
        self.truncated = False

    def add(self, data: bytes) -> None:
        """Append, forgetting the oldest."""
        self._data += data
        if len(self._data) > 2 * self._limit:
            self._shorten()

    def text(self) -> str:
        """Return what is kept."""
        if len(self._data) > self._limit:
            self._shorten()
        return self._data.decode(errors="replace")

    def _shorten(self) -> None:
        del self._data[: -self._limit]
        self.truncated = True
