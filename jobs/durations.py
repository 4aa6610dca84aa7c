"""Durations of a job spec: Go-like text or integer nanoseconds in, integer nanoseconds inside."""

import re
from fractions import Fraction

_UNITS = {"h": 3_600_000_000_000, "m": 60_000_000_000, "s": 1_000_000_000, "ms": 1_000_000}
_PART_RE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_TEXT_RE = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+")
_SMALLEST_BARE = 1_000_000
_INT64_MAX = 2**63 - 1
_TEXT_MAX = 64


class DurationError(ValueError):
    """A duration that cannot be read; `code` is suspicious_duration or invalid_duration."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def parse_duration(value: object) -> int:
    """Read a duration as nanoseconds (docs/semantics.md 1.6, X42); raises DurationError."""
    if isinstance(value, str):
        nanoseconds = _parse_text(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        nanoseconds = _check_bare(value)
    else:
        raise DurationError(
            "invalid_duration", f"{value!r} is neither a text such as 30s nor whole nanoseconds"
        )
    if nanoseconds > _INT64_MAX:
        raise DurationError("invalid_duration", "the duration is longer than 292 years")
    return nanoseconds


def _check_bare(value: int) -> int:
    if value < 0:
        raise DurationError("invalid_duration", "a duration cannot be negative")
    if value < _SMALLEST_BARE:
        raise DurationError(
            "suspicious_duration",
            f"{value} means {value} nanoseconds; write {value}s if seconds are meant",
        )
    return value


def _parse_text(text: str) -> int:
    if len(text) > _TEXT_MAX or not _TEXT_RE.fullmatch(text):
        raise DurationError(
            "invalid_duration",
            f"{text[:_TEXT_MAX]!r} is not a duration such as 500ms, 30s or 1h30m",
        )
    total = sum(
        (Fraction(number) * _UNITS[unit] for number, unit in _PART_RE.findall(text)), Fraction()
    )
    if total.denominator != 1:
        raise DurationError("invalid_duration", f"{text!r} is not a whole number of nanoseconds")
    return total.numerator


def format_duration(nanoseconds: int) -> str:
    """Print nanoseconds with the largest units and no zero parts: 90 s is 1m30s (X42)."""
    parts = []
    rest = nanoseconds
    for unit in ("h", "m", "s"):
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    if rest:
        whole, fraction = divmod(rest, _UNITS["ms"])
        decimals = f".{fraction:06d}".rstrip("0") if fraction else ""
        parts.append(f"{whole}{decimals}ms")
    return "".join(parts) or "0s"
