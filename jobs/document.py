"""Reads a text of JSON or YAML into plain values, with the line and column of each path.

JSON numbers with a fraction become floats. The shortest decimal text of such a float is the text as
written, up to 15 significant digits, so `Fraction(repr(value))` is exact for limits (X09).
"""

import bisect
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import yaml

from jobs.problems import Problem, SpecRefused, pointer

Position: TypeAlias = tuple[int, int]

MAX_BYTES = 2 * 1024 * 1024
MAX_DEPTH = 32
MAX_ALIASES = 100
MAX_VALUES = 100_000
_INT64 = range(-(2**63), 2**63)
_INT_DIGITS = 20
_TOO_DEEP = f"the document is nested more than {MAX_DEPTH} levels deep"

_JSON_STRING = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?'
_JSON_DEPTH_RE = re.compile(rf"{_JSON_STRING}|[\[\]{{}}]", re.DOTALL)
_JSON_TOKEN_RE = re.compile(rf"{_JSON_STRING}|[\[\]{{}},:]|[^\s\[\]{{}},:\"]+", re.DOTALL)

# YAML 1.2 core schema; a number with a leading zero stays text, as 0755 is no decimal number.
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
_INT_RE = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_BASED_RE = re.compile(r"0o([0-7]+)|0x([0-9a-fA-F]+)")
_FLOAT_RE = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE_RE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")


@dataclass(frozen=True, slots=True)
class Document:
    """A document that was read: its value, its text, and where each path begins.

    `lines` maps JSON pointers to (line, column), counted from 1; a member begins at its key.
    """

    value: dict[str, object]
    lines: Mapping[str, Position]
    text: str

    def position(self, path: str) -> Position | None:
        """Return where a path, or the nearest one around it, begins."""
        return _nearest(self.lines, path)


@dataclass(frozen=True, slots=True)
class _Bad:
    """Stands in a tree for a value that is refused, until its position is known."""

    reason: str


def parse_document(
    data: bytes | str, *, kind: Literal["json", "yaml"] | None = None, max_bytes: int = MAX_BYTES
) -> Document:
    """Read one JSON or YAML 1.2 core document whose top is a mapping (docs/semantics.md 4.8 stage 1).

    Without `kind`, a text that begins with { or [ is JSON. Raises SpecRefused of the stage "parse":
    malformed_body with line and column, or body_too_large.
    """
    text = _decode(data, max_bytes)
    if kind is None:
        kind = "json" if text.lstrip()[:1] in ("{", "[") else "yaml"
    value, lines = _read_json(text) if kind == "json" else _read_yaml(text)
    _check_tree(value, lines, max_bytes)
    if not isinstance(value, dict):
        raise _refused("the document is not a mapping of fields", (1, 1))
    return Document(value=value, lines=lines, text=text)


def _refused(message: str, position: Position, path: str = "") -> SpecRefused:
    line, column = position
    problem = Problem(path=path, code="malformed_body", message=message, line=line, column=column)
    return SpecRefused("parse", [problem])


def _decode(data: bytes | str, max_bytes: int) -> str:
    try:
        raw = data if isinstance(data, bytes) else data.encode()
    except UnicodeEncodeError as error:
        position = _position_of(error.object, error.start)
        raise _refused("the text holds half of a character (lone surrogate)", position) from None
    if len(raw) > max_bytes:
        message = f"the body has {len(raw)} bytes; at most {max_bytes} are read"
        problem = Problem(path="", code="body_too_large", message=message)
        raise SpecRefused("parse", [problem])
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode()
        raise _refused("the text is not UTF-8", _position_of(before, len(before))) from None
    if "\0" in text:
        raise _refused("the text holds a NUL character", _position_of(text, text.index("\0")))
    return text.removeprefix("\ufeff")


def _position_of(text: str, offset: int) -> Position:
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def _check_tree(root: object, lines: Mapping[str, Position], max_bytes: int) -> None:
    """Refuse marked values, characters that cannot be stored, and trees that aliases blow up."""
    stack: list[tuple[str, object, int]] = [("", root, 0)]
    values = characters = 0
    while stack:
        path, value, depth = stack.pop()
        values += 1
        problem = ""
        children: Iterator[tuple[str | int, object]] = iter(())
        match value:
            case _Bad():
                problem = value.reason
            case str():
                characters += len(value)
                problem = _text_problem(value)
            case dict():
                characters += sum(map(len, value))
                problem = next(filter(None, map(_text_problem, value)), "")
                children = iter(value.items())
            case list():
                children = iter(enumerate(value))
        if values > MAX_VALUES or characters > max_bytes:
            problem = "the document is too large once its aliases are written out"
        elif depth > MAX_DEPTH:
            problem = _TOO_DEEP
        if problem:
            raise _refused(problem, _nearest(lines, path) or (1, 1), path)
        stack += [(path + pointer(key), child, depth + 1) for key, child in children]


def _nearest(lines: Mapping[str, Position], path: str) -> Position | None:
    while path not in lines and path:
        path = path.rpartition("/")[0]
    return lines.get(path)


def _text_problem(text: str) -> str:
    if "\0" in text:
        return "a text holds a NUL character"
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        return "a text holds half of a character (lone surrogate)"
    return ""


def _to_int(text: str) -> int | _Bad:
    # Python refuses to read thousands of digits, and takes long over hundreds.
    if len(text.lstrip("+-")) > _INT_DIGITS or (number := int(text)) not in _INT64:
        return _Bad("a whole number does not fit into 64 bits")
    return number


def _to_float(text: str) -> float | _Bad:
    number = float(text)
    return number if number - number == 0 else _Bad(f"{text[:40]} is not a finite number")


# JSON: the standard decoder reads the values, a scan of the (then valid) text finds the positions.


def _read_json(text: str) -> tuple[object, Mapping[str, Position]]:
    depth = 0
    for token in _JSON_DEPTH_RE.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise _refused(_TOO_DEEP, _position_of(text, token.start()))
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique_members,
            parse_int=_to_int,
            parse_float=_to_float,
            parse_constant=lambda name: _Bad(f"{name} is not a JSON number"),
        )
    except json.JSONDecodeError as error:
        raise _refused(f"not JSON: {error.msg}", (error.lineno, error.colno)) from None
    return value, dict(_json_positions(text))


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members: dict[str, object] = {}
    for key, value in pairs:
        members[key] = _Bad(f"the key {key[:80]!r} is given twice") if key in members else value
    return members


@dataclass(slots=True)
class _JsonPlace:
    """An open container: a list has an index, a mapping the path of its present member."""

    path: str
    index: int | None = None
    member: str | None = None

    def here(self) -> str:
        return f"{self.path}/{self.index}" if self.member is None else self.member


def _json_positions(text: str) -> Iterator[tuple[str, Position]]:
    """Yield each path of a valid JSON text with its position; of equal keys the last one counts."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    places: list[_JsonPlace] = []
    for token in _JSON_TOKEN_RE.finditer(text):
        mark = token[0]
        place = places[-1] if places else None
        if mark in ("]", "}"):
            places.pop()
        elif mark == "," and place is not None:
            place.member = None
            place.index = None if place.index is None else place.index + 1
        elif mark != ":":
            line = bisect.bisect_right(starts, token.start())
            is_key = place is not None and place.index is None and place.member is None
            if place is not None and is_key:
                place.member = place.path + pointer(json.loads(mark))
            path = "" if place is None else place.here()
            if place is None or place.index is not None or is_key:
                yield path, (line, token.start() - starts[line - 1] + 1)
            if mark in ("[", "{") and not is_key:
                places.append(_JsonPlace(path, index=0 if mark == "[" else None))


# YAML: the tree is built from parser events, so no nesting of the input can recurse.


def _read_yaml(text: str) -> tuple[object, Mapping[str, Position]]:
    builder = _YamlBuilder()
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        position = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise _refused(f"not YAML: {error.problem or error.context}", position) from None
    except yaml.reader.ReaderError as error:
        message = f"not YAML: {error.reason}"
        raise _refused(message, _position_of(text, error.position)) from None
    return builder.root, builder.lines


@dataclass(slots=True)
class _YamlPlace:
    """An open container, and in a mapping the key whose value comes next."""

    value: dict[str, object] | list[object]
    path: str
    anchor: str | None
    key: str | None = None


_OPEN = _Bad("an alias stands inside what it names")


@dataclass(slots=True)
class _YamlBuilder:
    """Turns parser events into plain values of the core schema."""

    root: object = None
    lines: dict[str, Position] = field(default_factory=dict)
    places: list[_YamlPlace] = field(default_factory=list)
    anchors: dict[str, object] = field(default_factory=dict)
    documents: int = 0
    aliases: int = 0

    def take(self, event: yaml.Event) -> None:
        """Take the next event; raises SpecRefused for what the subset does not have."""
        mark = event.start_mark
        position = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    raise _refused("one document is read, a second one begins", position)
            case yaml.AliasEvent():
                self._add(self._resolve(event.anchor, position), position)
            case yaml.ScalarEvent():
                self._check_tag(event.tag, position)
                value = _core_value(event.value) if event.implicit[0] else event.value
                self._add(value, position)
                self._name(event.anchor, value)
            case yaml.SequenceStartEvent():
                self._check_tag(event.tag, position)
                self._open([], event.anchor, position)
            case yaml.MappingStartEvent():
                self._check_tag(event.tag, position)
                self._open({}, event.anchor, position)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                place = self.places.pop()
                self._name(place.anchor, place.value)

    def _check_tag(self, tag: str | None, position: Position) -> None:
        if tag is not None:
            raise _refused(f"tags such as {tag[:80]} are not read", position)

    def _name(self, anchor: str | None, value: object) -> None:
        if anchor is not None:
            self.anchors[anchor] = value

    def _resolve(self, anchor: str | None, position: Position) -> object:
        self.aliases += 1
        if self.aliases > MAX_ALIASES:
            raise _refused(f"more than {MAX_ALIASES} aliases", position)
        if anchor is None or anchor not in self.anchors:
            raise _refused(f"the alias *{anchor} names nothing above it", position)
        return self.anchors[anchor]

    def _open(
        self, value: dict[str, object] | list[object], anchor: str | None, position: Position
    ) -> None:
        if len(self.places) >= MAX_DEPTH:
            raise _refused(_TOO_DEEP, position)
        path = self._add(value, position)
        self._name(anchor, _OPEN)
        self.places.append(_YamlPlace(value, path, anchor))

    def _add(self, value: object, position: Position) -> str:
        """Put a value where the open container expects it and return its path."""
        if not self.places:
            self.root = value
            self.lines[""] = position
            return ""
        place = self.places[-1]
        if isinstance(place.value, list):
            path = f"{place.path}/{len(place.value)}"
            self.lines[path] = position
            place.value.append(value)
            return path
        if place.key is None:
            return self._add_key(place, place.value, value, position)
        path = place.path + pointer(place.key)
        place.value[place.key] = value
        place.key = None
        return path

    def _add_key(
        self, place: _YamlPlace, members: dict[str, object], key: object, position: Position
    ) -> str:
        if not isinstance(key, str):
            raise _refused("a key is not a text; put it into quotes", position, place.path)
        path = place.path + pointer(key)
        if key in members:
            raise _refused(f"the key {key[:80]!r} is given twice", position, path)
        self.lines[path] = position
        place.key = key
        return path


def _core_value(text: str) -> object:
    """Resolve a plain scalar by the core schema of YAML 1.2."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT_RE.fullmatch(text):
        return _to_int(text)
    if based := _BASED_RE.fullmatch(text):
        number = int(based[1], 8) if based[1] else int(based[2], 16)
        return number if number in _INT64 else _to_int("9" * _INT_DIGITS)
    if _NOT_FINITE_RE.fullmatch(text):
        return _Bad(f"{text} is not a finite number")
    return _to_float(text) if _FLOAT_RE.fullmatch(text) else text
