"""What an operation answered, as a page shows it: facts, lists of words, and tables."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

TABLE_ROWS = 200
COLUMNS_MOST = 16
WORDS_MOST = 200
TEXT_MAX = 2000
CELL_MAX = 200
RAW_MAX = 20_000
NOTHING = "\u2013"
_SIZES = frozenset({"total", "used", "free", "available", "memory_rss", "size"})
_SIZE_LEAST = 1_000_000
_LENGTH_LEAST = 60
# What a row is called stands before what it holds; the database keeps no order of members.
_FIRST = ("pid", "id", "name", "key", "mount", "iface", "interface")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Names with their values."""

    title: str
    rows: tuple[tuple[str, str], ...]
    kind: str = "facts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A list of plain values."""

    title: str
    words: tuple[str, ...]
    total: int
    kind: str = "words"

    @property
    def more(self) -> int:
        """How many are not shown."""
        return self.total - len(self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A list of objects: a column for each of their members, those of numbers told apart."""

    title: str
    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[tuple[str, bool], ...], ...]
    total: int
    kind: str = "table"

    @property
    def more(self) -> int:
        """How many rows are not shown."""
        return self.total - len(self.rows)


Block: TypeAlias = Facts | Words | Table


@dataclass(slots=True)
class Room:
    """What a page has left for the answers of all its nodes, so that many long ones stay readable."""

    rows: int = 2000
    characters: int = 400_000

    def take_rows(self, wanted: int) -> int:
        """Return how many of these rows there is room for."""
        taken = min(wanted, self.rows)
        self.rows -= taken
        return taken

    def take_text(self, text: str) -> str:
        """Return a text if there is room for it, else ""."""
        if len(text) > min(RAW_MAX, self.characters):
            return ""
        self.characters -= len(text)
        return text


def blocks_of(data: object, room: Room) -> tuple[Block, ...]:
    """Return what was answered in blocks, plain values first."""
    if not isinstance(data, Mapping):
        return _part("", data, room) if data not in (None, "", []) else ()
    plain = tuple(
        (_words(name), said(name, value)) for name, value in data.items() if _is_plain(value)
    )
    nested = [(name, value) for name, value in data.items() if not _is_plain(value)]
    first: tuple[Block, ...] = (Facts(title="", rows=plain),) if plain else ()
    return first + tuple(block for name, value in nested for block in _part(name, value, room))


def _part(name: str, value: object, room: Room) -> tuple[Block, ...]:
    title = _words(name)
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        return (_table(title, value, room),)
    if isinstance(value, list):
        shown = value[: room.take_rows(min(WORDS_MOST, len(value)))]
        words = tuple(said("", item)[:CELL_MAX] for item in shown)
        return (Words(title=title, words=words, total=len(value)),)
    if isinstance(value, Mapping):
        rows = tuple((_words(key), said(str(key), item)) for key, item in value.items())
        return (Facts(title=title, rows=rows[: room.take_rows(len(rows))]),)
    return (Facts(title="", rows=((title or "Answer", said(name, value)),)),)


def _table(title: str, items: Sequence[Mapping[str, Any]], room: Room) -> Table:
    shown = items[: room.take_rows(min(TABLE_ROWS, len(items)))]
    found = dict.fromkeys(name for item in shown for name in item)
    names = list(dict.fromkeys([*(name for name in _FIRST if name in found), *found]))
    names = names[:COLUMNS_MOST]
    numbers = {name: all(_is_number(item.get(name, 0)) for item in shown) for name in names}
    return Table(
        title=title,
        columns=tuple((_words(name), numbers[name]) for name in names),
        rows=tuple(
            tuple((said(name, item.get(name, ""))[:CELL_MAX], numbers[name]) for name in names)
            for item in shown
        ),
        total=len(items),
    )


def said(name: str, value: object) -> str:
    """Return a value as people read it: sizes and lengths with their unit, truth as yes and no.

    >>> said("memory_rss", 61_000_000), said("uptime", 18_536), said("ports", ["80", "443"])
    ('61 MB', '5 h 8 min', '80, 443')
    """
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return _number(name, value)
    if isinstance(value, list) and all(_is_plain(item) for item in value):
        return ", ".join(map(str, value))[:TEXT_MAX] or NOTHING
    if isinstance(value, Mapping) and all(_is_plain(item) for item in value.values()):
        return ", ".join(f"{key} {said(str(key), item)}" for key, item in value.items())[:TEXT_MAX]
    return value[:TEXT_MAX] if isinstance(value, str) else json.dumps(value)[:TEXT_MAX]


def _number(name: str, value: int) -> str:
    if value >= _SIZE_LEAST and (name in _SIZES or name.endswith("_bytes")):
        return _size(value)
    if value >= _LENGTH_LEAST and (name == "uptime" or name.endswith("_seconds")):
        return _length(value)
    return str(value)


def _length(seconds: int) -> str:
    days, hours, minutes = seconds // 86_400, seconds // 3600 % 24, seconds // 60 % 60
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s"


def _size(number: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1000:
            return f"{number:.3g} {unit}"
        number /= 1000
    return f"{number:.3g} TB"


def raw_of(data: object, room: Room) -> str:
    """Return the answer as indented JSON; "" if it is too long to be shown."""
    return room.take_text(json.dumps(data, indent=2, ensure_ascii=False))


def _is_plain(value: object) -> bool:
    return value is None or isinstance(value, str | int | float)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(name: object) -> str:
    return str(name).replace("_", " ").capitalize()
