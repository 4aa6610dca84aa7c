"""Cron expressions: five fields or one @ word, strict where the cron programs differ."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agent.operations.base import OperationError

WORDS = (
    "@annually",
    "@daily",
    "@hourly",
    "@midnight",
    "@monthly",
    "@reboot",
    "@weekly",
    "@yearly",
)
_PART_RE = re.compile(
    r"(?:\*|(?P<first>[0-9A-Za-z]+)(?:-(?P<last>[0-9A-Za-z]+))?)(?:/(?P<step>[0-9]+))?"
)
_NUMBER_RE = re.compile(r"[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five fields; `words` stand for the numbers from `least` on."""

    name: str
    least: int
    most: int
    words: tuple[str, ...] = ()

    def check(self, text: str) -> None:
        """Raise ValueError with what is wrong with this field."""
        for part in text.split(","):
            match = _PART_RE.fullmatch(part)
            if match is None:
                raise ValueError(f"{part!r} is neither '*' nor a number, a range or a step")
            self._check_part(part, match)

    def _check_part(self, part: str, match: re.Match[str]) -> None:
        first, last, step = match["first"], match["last"], match["step"]
        if first is not None and last is not None and self._number(first) > self._number(last):
            raise ValueError(f"the range {part!r} ends before it begins")
        if first is not None and last is None:
            self._number(first)
            if step is not None:
                raise ValueError(f"{part!r} has a step but no range; write {first}-{self.most}")
        if step is not None and not 1 <= int(step) <= self.most:
            raise ValueError(f"the step of {part!r} must be 1 to {self.most}")

    def _number(self, text: str) -> int:
        if text.lower() in self.words:
            return self.least + self.words.index(text.lower())
        if _NUMBER_RE.fullmatch(text) and self.least <= int(text) <= self.most:
            return int(text)
        names = f" or {self.words[0]} to {self.words[-1]}" if self.words else ""
        raise ValueError(f"{text!r} is not {self.least} to {self.most}{names}")


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    # Sunday is 0 and 7.
    _Field("day of week", 0, 7, _DAYS),
)


def checked_schedule(text: str) -> str:
    """Return a cron expression with single spaces.

    Raises OperationError (`invalid_value`), which says which field is wrong and why.
    """
    parts = text.split()
    if len(parts) == 1 and parts[0].startswith("@"):
        if parts[0] not in WORDS:
            message = f"schedule: {parts[0]!r} is none of {', '.join(WORDS)}"
            raise OperationError(message, "invalid_value")
        return parts[0]
    if len(parts) != len(_FIELDS):
        names = ", ".join(field.name for field in _FIELDS)
        message = f"schedule {text!r} has {len(parts)} fields, not five: {names}"
        raise OperationError(message, "invalid_value")
    for field, part in zip(_FIELDS, parts, strict=True):
        try:
            field.check(part)
        except ValueError as error:
            raise OperationError(f"schedule, {field.name}: {error}", "invalid_value") from error
    return " ".join(parts)
