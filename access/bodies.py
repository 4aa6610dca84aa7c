"""Members of small REST bodies, each read as the type it must have or refused with its path."""

import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from rest_framework.request import Request

from access.problems import Refused

_TTL_RE = re.compile(r"([0-9]{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
TEXT_MAX = 4096


def read_members(request: Request, known: Collection[str]) -> Mapping[str, Any]:
    """Return a body's members; no body is an empty one. Raises Refused `unknown_field`."""
    body = request.data
    assert isinstance(body, Mapping), "the parsers take nothing else"
    for name in body:
        if name not in known:
            raise refused("unknown_field", name, "is not known")
    return body


def text_of(body: Mapping[str, Any], name: str, default: str = "", most: int = TEXT_MAX) -> str:
    """Return a text member. Raises Refused: invalid_type, invalid_value."""
    value = body.get(name, default)
    if not isinstance(value, str):
        raise refused("invalid_type", name, "must be a text")
    if len(value) > most or "\x00" in value:
        raise refused("invalid_value", name, f"must have at most {most} characters")
    return value


def flag_of(body: Mapping[str, Any], name: str) -> bool:
    """Return a yes-or-no member, no if it is missing. Raises Refused `invalid_type`."""
    value = body.get(name, False)
    if not isinstance(value, bool):
        raise refused("invalid_type", name, "must be true or false")
    return value


def number_of(body: Mapping[str, Any], name: str, default: int, most: int) -> int:
    """Return a whole number from 1 to `most`. Raises Refused: invalid_type, invalid_value."""
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise refused("invalid_type", name, "must be a whole number")
    if not 1 <= value <= most:
        raise refused("invalid_value", name, f"must be from 1 to {most}")
    return value


def ttl_of(body: Mapping[str, Any], name: str, default: timedelta, most: timedelta) -> timedelta:
    """Return how long something lives: seconds, or a text such as `90m`, `12h`, `30d`.

    Raises Refused: invalid_type, invalid_value.
    """
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise refused("invalid_type", name, "must be seconds or a text such as 12h")
    found = _TTL_RE.fullmatch(f"{value}s" if isinstance(value, int) else value)
    ttl = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta(0)
    if not timedelta(0) < ttl <= most:
        raise refused("invalid_value", name, f"must be from 1s to {most.days}d")
    return ttl


def texts_of(body: Mapping[str, Any], name: str) -> list[str]:
    """Return a list of texts, empty if it is missing. Raises Refused `invalid_type`."""
    value = body.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise refused("invalid_type", name, "must be a list of texts")
    return value


def labels_of(body: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return a mapping of texts, empty if it is missing. Raises Refused `invalid_type`."""
    labels: dict[str, str] = {}
    for key, value in changes_of(body, name).items():
        if value is None:
            raise refused("invalid_type", name, f"must have a text under {key}")
        labels[key] = value
    return labels


def changes_of(body: Mapping[str, Any], name: str) -> dict[str, str | None]:
    """Return a mapping of texts or nulls, where null takes a key away. As `labels_of`."""
    value = body.get(name, {})
    if not isinstance(value, dict):
        raise refused("invalid_type", name, "must be an object of texts")
    for key, inner in value.items():
        if inner is not None and not isinstance(inner, str):
            raise refused("invalid_type", name, f"must have a text under {key}")
    return dict(value)


def refused(code: str, name: str, words: str) -> Refused:
    """Return the refusal of one member, with its JSON pointer."""
    message = f"{name} {words}."
    path = "/" + name.replace("~", "~0").replace("/", "~1")
    return Refused(code, message, errors=[{"path": path, "code": code, "message": message}])
