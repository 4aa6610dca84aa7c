"""The label selector grammar: parse, print, match, and the same selector as one SQL condition."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"
_DNS_LABEL = r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?"
_NAME_RE = re.compile(_NAME)
_PREFIX_RE = re.compile(rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*")
_TARGET_KEY_RE = re.compile(r"[A-Za-z0-9_-]+")
_TARGET_VALUE_RE = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
_TOKEN_RE = re.compile(r"[ \t\r\n]*(==|!=|[=!(),]|[^ \t\r\n=!(),]+)")
_MARKS = frozenset({"=", "==", "!=", "!", "(", ")", ","})
_PREFIX_MAX = 253
_CONTROL_END = 32


class SelectorError(ValueError):
    """A selector text that cannot be read; `column` counts characters from 1."""

    def __init__(self, message: str, column: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.column = column


class Operator(StrEnum):
    """The six forms of one requirement (docs/semantics.md 1.4)."""

    EQUALS = "="
    NOT_EQUALS = "!="
    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    NOT_EXISTS = "!"


_NEGATIVE = frozenset({Operator.NOT_EQUALS, Operator.NOT_IN, Operator.NOT_EXISTS})
_PRESENCE = frozenset({Operator.EXISTS, Operator.NOT_EXISTS})


def check_label_key(key: str) -> str:
    """Say what is wrong with a label key, or return "" (docs/semantics.md 1.4, X28, X87)."""
    prefix, slash, name = key.rpartition("/")
    if slash and not (len(prefix) <= _PREFIX_MAX and _PREFIX_RE.fullmatch(prefix)):
        return f"{prefix!r} is not a DNS prefix of at most {_PREFIX_MAX} characters"
    if not _NAME_RE.fullmatch(name):
        return (
            f"{name!r} is not a label name: 1 to 63 letters, digits, '-', '_' or '.', "
            "with a letter or digit at both ends"
        )
    return ""


def check_label_value(value: str) -> str:
    """Say what is wrong with a label value, or return "" (docs/semantics.md 1.4, X28)."""
    if value and not _NAME_RE.fullmatch(value):
        return (
            f"{value!r} is not a label value: at most 63 letters, digits, '-', '_' or '.', "
            "with a letter or digit at both ends"
        )
    return ""


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label key; `values` is sorted and without repeats."""

    key: str
    op: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Tell whether labels meet it; an absent key meets `!=` and `notin` (docs/semantics.md 1.4)."""
        if self.op in _PRESENCE:
            held = self.key in labels
        else:
            held = self.key in labels and labels[self.key] in self.values
        return held != (self.op in _NEGATIVE)

    def __str__(self) -> str:
        """Print the form that `parse_requirement` reads back as this requirement."""
        if self.op is Operator.EXISTS:
            return self.key
        if self.op is Operator.NOT_EXISTS:
            return f"!{self.key}"
        if self.op in (Operator.EQUALS, Operator.NOT_EQUALS):
            return f"{self.key}{self.op}{self.values[0]}"
        # `in ()` is an error, so the set of the empty value alone needs its comma.
        inside = "," if self.values == ("",) else ",".join(self.values)
        return f"{self.key} {self.op} ({inside})"


class _Reader:
    """Reads requirements from left to right; holds the position and nothing else."""

    def __init__(self, text: str) -> None:
        self._tokens = [(m[1], m.start(1) + 1) for m in _TOKEN_RE.finditer(text)]
        self._end = ("", len(text) + 1)
        self._at = 0

    def peek(self) -> tuple[str, int]:
        return self._tokens[self._at] if self._at < len(self._tokens) else self._end

    def take(self) -> tuple[str, int]:
        token = self.peek()
        self._at += 1
        return token

    def requirement(self) -> Requirement:
        negated = self.peek()[0] == "!"
        if negated:
            self.take()
        key = self._key()
        if negated:
            return Requirement(key, Operator.NOT_EXISTS)
        mark, column = self.peek()
        if mark in ("", ","):
            return Requirement(key, Operator.EXISTS)
        self.take()
        match mark:
            case "=" | "==":
                return Requirement(key, Operator.EQUALS, (self._value(),))
            case "!=":
                return Requirement(key, Operator.NOT_EQUALS, (self._value(),))
            case "in" | "notin":
                return Requirement(key, Operator(mark), self._set())
        raise SelectorError(f"expected =, ==, !=, in or notin, found {mark!r}", column)

    def _key(self) -> str:
        key, column = self.take()
        if not key or key in _MARKS:
            raise SelectorError("expected a label key", column)
        if "<" in key or ">" in key:
            raise SelectorError("the operators < and > are not part of the grammar", column)
        if wrong := check_label_key(key):
            raise SelectorError(wrong, column)
        return key

    def _value(self) -> str:
        value, column = self.peek()
        if not value or value in _MARKS:
            return ""
        if wrong := check_label_value(value):
            raise SelectorError(wrong, column)
        return self.take()[0]

    def _set(self) -> tuple[str, ...]:
        mark, column = self.take()
        if mark != "(":
            raise SelectorError("expected ( and a list of values", column)
        if self.peek()[0] == ")":
            raise SelectorError("the set of values is empty", self.peek()[1])
        values = {self._value()}
        while (token := self.take())[0] == ",":
            values.add(self._value())
        if token[0] != ")":
            raise SelectorError("expected , or ) in the list of values", token[1])
        return tuple(sorted(values))


def parse_requirement(text: str) -> Requirement:
    """Read exactly one requirement (docs/semantics.md 1.4); raises SelectorError with the column."""
    reader = _Reader(text)
    requirement = reader.requirement()
    rest, column = reader.peek()
    if rest == ",":
        raise SelectorError("one text holds one requirement; write the next as its own", column)
    if rest:
        raise SelectorError(f"unexpected {rest!r} after the requirement", column)
    return requirement


def parse_requirements(texts: Iterable[str]) -> tuple[Requirement, ...]:
    """Read a list of requirements, all of which must hold; raises SelectorError."""
    return tuple(parse_requirement(text) for text in texts)


def parse_label_filter(text: str) -> tuple[Requirement, ...]:
    """Read the comma list of filters, `a=b,!c,tier in (x,y)`; blank text asks for nothing."""
    reader = _Reader(text)
    if not reader.peek()[0]:
        return ()
    found = [reader.requirement()]
    while (token := reader.take())[0] == ",":
        found.append(reader.requirement())
    if token[0]:
        raise SelectorError(f"unexpected {token[0]!r} after a requirement", token[1])
    return tuple(found)


def print_label_filter(requirements: Iterable[Requirement]) -> str:
    """Print requirements as the comma list that `parse_label_filter` reads back."""
    return ",".join(str(requirement) for requirement in requirements)


class TargetKind(StrEnum):
    """The four ways to route a job (docs/semantics.md 4.3)."""

    ANY = "_any"
    ALL = "_all"
    LABEL = "label"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a job goes: one node, all, the nodes of a label's branch, or one named node.

    `key` is set for LABEL alone; `value` is the label's value or the node's id, name or hostname.
    """

    kind: TargetKind
    key: str = ""
    value: str = ""

    def matches(self, node_id: str, name: str, hostname: str, labels: Mapping[str, str]) -> bool:
        """Tell whether a node may be meant; `_any` may mean each node (docs/semantics.md 2.2, 4.3)."""
        match self.kind:
            case TargetKind.LABEL:
                value = labels.get(self.key)
                return value is not None and f"{value}.".startswith(f"{self.value}.")
            case TargetKind.NAME:
                return self.value in (node_id, name, hostname)
        return True

    def narrow(self, node_ids: Sequence[str]) -> tuple[str, ...]:
        """Keep, of the ids of all nodes that match, the one whose id was named (X27).

        More than one id left for a named target means that the name is ambiguous.
        """
        if self.kind is TargetKind.NAME and self.value in node_ids:
            return (self.value,)
        return tuple(node_ids)

    def __str__(self) -> str:
        """Print the text that `parse_target` reads back as this target."""
        match self.kind:
            case TargetKind.LABEL:
                return f"{self.key}:{self.value}"
            case TargetKind.NAME:
                return self.value
        return str(self.kind)


ANY = Target(TargetKind.ANY)
ALL = Target(TargetKind.ALL)


def parse_target(text: str) -> Target:
    """Read a target (docs/semantics.md 2.2, 4.3, X27, X28, X31); raises SelectorError."""
    if not text:
        raise SelectorError("the target is empty")
    for column, character in enumerate(text, start=1):
        if ord(character) < _CONTROL_END:
            raise SelectorError("the target has a control character", column)
    if text in (TargetKind.ANY, TargetKind.ALL):
        return Target(TargetKind(text))
    key, _, value = text.partition(":")
    if not value or not _TARGET_KEY_RE.fullmatch(key):
        return Target(TargetKind.NAME, value=text)
    if not _TARGET_VALUE_RE.fullmatch(value):
        raise SelectorError(
            f"{value!r} is not a label value: segments of letters, digits, '-' or '_' with dots "
            "between them",
            len(key) + 2,
        )
    return Target(TargetKind.LABEL, key, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which nodes are meant: every member must hold; an absent member holds (docs/semantics.md 1.4).

    `match_ids` None is absent, an empty tuple matches nobody.
    """

    match_ids: tuple[str, ...] | None = None
    match_labels: Mapping[str, str] = field(default_factory=dict)
    requirements: tuple[Requirement, ...] = ()
    target: Target | None = None

    def matches(self, node_id: str, name: str, hostname: str, labels: Mapping[str, str]) -> bool:
        """Tell whether a node with these effective labels is meant."""
        return (
            (self.match_ids is None or node_id in self.match_ids)
            and all(labels.get(key) == value for key, value in self.match_labels.items())
            and all(requirement.matches(labels) for requirement in self.requirements)
            and (self.target is None or self.target.matches(node_id, name, hostname, labels))
        )

    def describe(self) -> str:
        """Say in one line which nodes are meant."""
        parts = [] if self.match_ids is None else [f"id in ({','.join(sorted(self.match_ids))})"]
        parts += [f"{key}={value}" for key, value in sorted(self.match_labels.items())]
        parts += [str(requirement) for requirement in self.requirements]
        if self.target is not None and self.target.kind not in (TargetKind.ANY, TargetKind.ALL):
            parts.append(f"target {self.target}")
        text = " and ".join(parts) or "every node"
        return f"any one of: {text}" if self.target == ANY else text


EVERYTHING = Selector()
NOTHING = Selector(match_ids=())


def to_sql(selector: Selector, table_alias: str) -> tuple[str, list[object]]:
    """Write the selector as one SQL condition with %s parameters, never null.

    The table needs the columns id, name, hostname and labels (jsonb, effective labels). The
    condition agrees with `Selector.matches` for every node.
    """
    parts: list[tuple[str, list[object]]] = []
    labels = f"{table_alias}.labels"
    if selector.match_ids is not None:
        parts.append((f"{table_alias}.id::text = ANY(%s::text[])", [list(selector.match_ids)]))
    if selector.match_labels:
        parts.append((f"{labels} @> %s::jsonb", [json.dumps(dict(selector.match_labels))]))
    parts += [_requirement_sql(requirement, labels) for requirement in selector.requirements]
    if selector.target is not None and (part := _target_sql(selector.target, table_alias)):
        parts.append(part)
    fragment = " AND ".join(text for text, _ in parts)
    return f"({fragment or 'TRUE'})", [param for _, params in parts for param in params]


def _requirement_sql(requirement: Requirement, labels: str) -> tuple[str, list[object]]:
    negation = "NOT " if requirement.op in _NEGATIVE else ""
    if requirement.op in _PRESENCE:
        return f"{negation}jsonb_exists({labels}, %s::text)", [requirement.key]
    if len(requirement.values) == 1:
        pair = json.dumps({requirement.key: requirement.values[0]})
        return f"{negation}({labels} @> %s::jsonb)", [pair]
    # An absent key makes the comparison null: false before the negation, as in `matches`.
    held = f"COALESCE({labels} ->> %s::text = ANY(%s::text[]), FALSE)"
    return f"{negation}{held}", [requirement.key, list(requirement.values)]


def _target_sql(target: Target, table_alias: str) -> tuple[str, list[object]] | None:
    match target.kind:
        case TargetKind.LABEL:
            branch = f"COALESCE(starts_with(({table_alias}.labels ->> %s::text) || '.', %s), FALSE)"
            return branch, [target.key, f"{target.value}."]
        case TargetKind.NAME:
            names = f"{table_alias}.id::text, {table_alias}.name, {table_alias}.hostname"
            return f"%s::text IN ({names})", [target.value]
    return None
