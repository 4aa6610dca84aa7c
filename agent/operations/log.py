"""What the node's system logged (docs/semantics.md 2.7, domain log).

Entries are told oldest first; of too many, the newest stay.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from agent.operations.base import Answer, Handler, OperationError, Params, at, program, run

JOURNALS = ("/run/log/journal", "/var/log/journal")
FILES = ("/var/log/syslog", "/var/log/messages")
LINES = 100
# Bytes: how much an answer may hold, which must fit into a message to the control plane.
ANSWER_MAX = 2 << 20
# Bytes: what is read of a file at once, and at most, from its end.
BLOCK = 256 << 10
TAIL_MAX = 8 << 20
LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_LEVEL = rf"({'|'.join(LEVELS)}|[0-7])"
_PRIORITY_RE = re.compile(rf"{_LEVEL}(\.\.{_LEVEL})?")
_UNIT_RE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@\\-]{0,254}")
# A span before now, as `2h`, `-30min` or `3 days ago`.
_SPAN_RE = re.compile(r"-?(\d{1,9}) ?([a-z]+)( ago)?")
_SECONDS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86_400),
}
_FIELDS = ("MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "_SYSTEMD_UNIT", "_PID")


def _journalctl() -> str | None:
    """Return the program that reads the journal, None where there is nothing for it to read."""
    tool = program("journalctl")
    is_there = any(True for folder in JOURNALS for _ in at(folder).glob("*/*.journal"))
    return tool if is_there else None


def _journal() -> str:
    tool = _journalctl()
    if tool is None:
        text = "this node keeps no journal; its log can be read by log.journal.get alone"
        raise OperationError(text, "not_found")
    return tool


def _since(text: str) -> str:
    """Return a moment in journalctl's words, as seconds since 1970. Raises OperationError."""
    span = _SPAN_RE.fullmatch(text)
    if span and span[2] in _SECONDS:
        return f"@{max(0, int(time.time()) - int(span[1]) * _SECONDS[span[2]])}"
    try:
        moment = datetime.fromisoformat(text)
        # Nodes stand in many zones; without one, all of them take it alike.
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return f"@{max(0, int(moment.timestamp()))}"
    except (ValueError, OverflowError) as error:
        text = f"{text!r} is neither a time in RFC 3339 nor a span such as 2h or 3 days"
        raise OperationError(text, "invalid_value") from error


def _limits(params: Params) -> list[str]:
    """Return what journalctl is to leave out. Raises OperationError."""
    chosen = []
    if since := str(params.get("since") or ""):
        chosen.append(f"--since={_since(since)}")
    if priority := str(params.get("priority") or ""):
        if not _PRIORITY_RE.fullmatch(priority):
            text = f"{priority!r} is no priority; it is one of {', '.join(LEVELS)}, or 0 to 7"
            raise OperationError(text, "invalid_value")
        chosen.append(f"--priority={priority}")
    return chosen


def _lines(params: Params) -> int:
    lines = int(params.get("lines") or LINES)
    if lines < 1:
        raise OperationError("lines must be at least 1", "invalid_value")
    return lines


def _plain(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """Return a field as a text: the journal tells bytes as numbers, and a double field as a list."""
    if isinstance(value, list):
        if all(isinstance(item, int) and 0 <= item < 256 for item in value):
            return bytes(value).decode(errors="replace")
        return "\n".join(map(_plain, value))
    return "" if value is None else str(value)


def _number(value: Any) -> int | None:  # noqa: ANN401 - any JSON value
    text = _plain(value)
    return int(text) if text.isdecimal() and text.isascii() else None


def _entry(row: dict[str, Any]) -> dict[str, Any]:
    moment, level = _number(row.get("__REALTIME_TIMESTAMP")), _number(row.get("PRIORITY"))
    return {
        "timestamp": None if moment is None else _time(moment),
        "priority": LEVELS[level] if level is not None and level < len(LEVELS) else None,
        "unit": _plain(row.get("_SYSTEMD_UNIT")) or None,
        "identifier": _plain(row.get("SYSLOG_IDENTIFIER")) or None,
        "pid": _number(row.get("_PID")),
        "message": _plain(row.get("MESSAGE")),
    }


def _time(microseconds: int) -> str:
    moment = datetime.fromtimestamp(microseconds // 1_000_000, UTC)
    moment = moment.replace(microsecond=microseconds % 1_000_000)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _rows(said: str) -> Iterable[dict[str, Any]]:
    for line in said.split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield row


def _answer(source: str, entries: Sequence[dict[str, Any]]) -> Answer:
    """Return the newest entries, as many as an answer may hold."""
    left, first = ANSWER_MAX, len(entries)
    for entry in reversed(entries):
        left -= len(json.dumps(entry))
        if left < 0:
            break
        first -= 1
    data = {"source": source, "entries": list(entries[first:]), "truncated": first > 0}
    return Answer(data=data)


def _read(tool: str, params: Params, *more: str) -> Answer:
    done = run(
        [
            tool,
            "--no-pager",
            "--quiet",
            "--output=json",
            f"--output-fields={','.join(_FIELDS)}",
            f"--lines={_lines(params)}",
            *_limits(params),
            *more,
        ]
    )
    return _answer("journal", [_entry(row) for row in _rows(done.stdout)])


def _get(params: Params) -> Answer:
    tool = _journalctl()
    return _read(tool, params) if tool else _from_file(params)


def _get_unit(params: Params) -> Answer:
    name = str(params["name"])
    if not _UNIT_RE.fullmatch(name) or ".." in name:
        raise OperationError(f"{name!r} is no name of a unit", "invalid_value")
    return _read(_journal(), params, f"--unit={name}")


def _sources(_: Params) -> Answer:
    done = run([_journal(), "--no-pager", "--quiet", "--field=SYSLOG_IDENTIFIER"])
    names = {line.strip() for line in done.stdout.split("\n")} - {""}
    return Answer(data={"sources": sorted(names)})


def _file() -> str | None:
    return next((path for path in FILES if at(path).is_file()), None)


def _from_file(params: Params) -> Answer:
    """Read the log where there is no journal: lines as they are, of which nothing more is known."""
    path = _file()
    if path is None:
        text = f"this node keeps no journal, and has none of {', '.join(FILES)}"
        raise OperationError(text, "not_found")
    if _limits(params):
        text = f"this node keeps no journal; leave out since and priority to read {path}"
        raise OperationError(text, "invalid_value")
    try:
        found = _tail(path, _lines(params))
    except OSError as error:
        raise OperationError(f"{path} cannot be read: {error.strerror}") from error
    return _answer(path, [_entry({"MESSAGE": line}) for line in found])


def _tail(path: str, lines: int) -> list[str]:
    """Return the last lines of a file, reading it in blocks from its end."""
    held = b""
    with at(path).open("rb") as file:
        position = file.seek(0, os.SEEK_END)
        while position > 0 and held.count(b"\n") <= lines and len(held) < TAIL_MAX:
            size = min(BLOCK, position)
            position -= size
            file.seek(position)
            held = file.read(size) + held
    found = held.removesuffix(b"\n").split(b"\n") if held else []
    # The first may be the end of a longer line.
    found = found[1:] if position > 0 else found
    return [line.decode(errors="replace") for line in found[-lines:]]


HANDLERS: dict[str, Handler] = {
    "log.journal.get": _get,
    "log.unit.get": _get_unit,
    "log.source.list": _sources,
}


def available() -> Collection[str]:
    """Return what this machine can do: without a journal, the end of a file is all there is."""
    if _journalctl():
        return list(HANDLERS)
    return ["log.journal.get"] if _file() else []
