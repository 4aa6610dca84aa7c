"""Pure. A document as block-style YAML, one key a line, remembering where each line came from."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.engine.variables import Json, pointer

BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


@dataclass(frozen=True, slots=True)
class Line:
    """Where a rendered line came from.

    A JSON pointer, the line inside a text (0 = its key), and whether the value is a scalar.
    """

    path: str
    inner: int = 0
    leaf: bool = True


def render(node: Json, path: str = "") -> tuple[str, list[Line]]:
    """Return YAML text and, for each of its lines, the origin under `path`."""
    out: list[tuple[str, Line]] = []
    _emit(node, path, "", "", out)
    return "".join(text + "\n" for text, _ in out), [line for _, line in out]


def _emit(node: Json, path: str, indent: str, lead: str, out: list[tuple[str, Line]]) -> None:
    """Append `node`; `lead` is what already stands on its first line ("key: " or "- ")."""
    if isinstance(node, Mapping) and node:
        _emit_mapping(node, path, indent, lead, out)
    elif isinstance(node, list) and node:
        _emit_list(node, path, indent, lead, out)
    elif isinstance(node, str) and _is_block(node):
        keep = "" if node.endswith("\n") else "-"
        out.append((f"{indent}{lead}|{keep}", Line(path)))
        for number, text in enumerate(node.rstrip("\n").split("\n"), 1):
            stripped = text.rstrip()
            out.append((f"{indent}  {stripped}" if stripped else "", Line(path, number)))
    else:
        out.append((f"{indent}{lead}{_flow(node)}", Line(path, leaf=not isinstance(node, Mapping))))


def _emit_mapping(
    node: Mapping[str, Json], path: str, indent: str, lead: str, out: list[tuple[str, Line]]
) -> None:
    inner = indent
    if lead.endswith(": "):
        out.append((indent + lead.rstrip(), Line(path, leaf=False)))
        inner, lead = indent + "  ", ""
    elif lead:
        inner = indent + "  "
    for key, value in node.items():
        start = len(out)
        _emit(value, pointer(path, key), inner, f"{_key(key)}: ", out)
        if lead:
            text, line = out[start]
            out[start] = (indent + lead + text[len(inner) :], line)
            lead = ""


def _emit_list(
    node: list[Json], path: str, indent: str, lead: str, out: list[tuple[str, Line]]
) -> None:
    inner = indent
    if lead.endswith(": "):
        out.append((indent + lead.rstrip(), Line(path, leaf=False)))
        inner, lead = indent + "  ", ""
    elif lead:
        inner = indent + "  "
    for index, value in enumerate(node):
        start = len(out)
        _emit(value, pointer(path, index), inner, "- ", out)
        if lead:
            text, line = out[start]
            out[start] = (indent + lead + text[len(inner) :], line)
            lead = ""


def _is_block(text: str) -> bool:
    body = text.rstrip("\n")
    return (
        "\n" in text
        and len(text) - len(body) <= 1
        and bool(body)
        and not body[0].isspace()
        # A last line of blanks would be empty, and what ends in empty lines reads back without them.
        and not body.rpartition("\n")[2].isspace()
        and all(char.isprintable() or char in "\n\t" for char in body)
    )


def _key(key: object) -> str:
    text = str(key)
    return text if BARE.fullmatch(text) and text.lower() not in WORDS else json.dumps(text)


def _flow(node: Json) -> str:
    return json.dumps(node, ensure_ascii=False, default=str)
