"""Differences between two versions as pages show them: in words first, in lines on demand."""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from jobs.diff import Change, Effect, semantic_diff, text_diff
from jobs.models import JobVersion
from jobs.spec import JobSpec

_HUNK = re.compile(r"@@ -(\d+)(?:,\d+)? \+(\d+)(?:,\d+)? @@")
_WORDS = {
    Effect.RESTARTS: "Restarts",
    Effect.RETARGETS: "Retargets",
    Effect.PACE: "Pace only",
    Effect.METADATA: "Metadata",
}
_LONGEST = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRow:
    """One member that differs; a value that is absent or long is ""."""

    effect: str
    word: str
    name: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffLine:
    """One line of a difference of texts, with its numbers before and after."""

    css: str
    sign: str
    old: int | None
    new: int | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What lies between two specs; `effect` is the strongest one in words, "" for none."""

    rows: tuple[ChangeRow, ...]
    lines: tuple[DiffLine, ...]
    effect: str

    @property
    def line_count(self) -> int:
        """How many lines came or went."""
        return sum(1 for line in self.lines if line.sign)


def spec_of(version: JobVersion) -> JobSpec:
    """Return a stored version's spec."""
    return JobSpec.model_validate(version.spec)


def difference(old: JobSpec, new: JobSpec) -> Difference:
    """Return the difference between two specs."""
    changes = semantic_diff(old, new)
    return Difference(
        rows=tuple(change_rows(changes)),
        lines=tuple(diff_lines(text_diff(old, new))),
        effect=_WORDS[changes[0].effect] if changes else "",
    )


def change_rows(changes: Iterable[Change]) -> Iterator[ChangeRow]:
    """Yield changes in the words of the pages."""
    for change in changes:
        old, new = _differing_lines(change.old, change.new)
        path = change.path.removeprefix("/").replace("/", ".")
        yield ChangeRow(
            effect=str(change.effect),
            word=_WORDS[change.effect],
            name=path.replace("~1", "/").replace("~0", "~"),
            old=_short(old),
            new=_short(new),
        )


def _differing_lines(old: object, new: object) -> tuple[object, object]:
    """Leave out of two longer texts the lines that they begin and end with in common."""
    if not (isinstance(old, str) and isinstance(new, str) and "\n" in old + new):
        return old, new
    before, after = old.strip().split("\n"), new.strip().split("\n")
    while before and after and before[0] == after[0]:
        del before[0], after[0]
    while before and after and before[-1] == after[-1]:
        del before[-1], after[-1]
    return " ⏎ ".join(before), " ⏎ ".join(after)


def _short(value: object) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def diff_lines(text: str) -> Iterator[DiffLine]:
    """Yield the lines of a unified diff; the two that name the files are left out."""
    old = new = 0
    for line in text.removesuffix("\n").split("\n")[2:]:
        if hunk := _HUNK.match(line):
            old, new = int(hunk[1]), int(hunk[2])
            yield DiffLine(css="hunk", sign="", old=None, new=None, text=f"line {new}")
        elif line.startswith("+"):
            yield DiffLine(css="add", sign="+", old=None, new=new, text=line[1:])
            new += 1
        elif line.startswith("-"):
            yield DiffLine(css="del", sign="-", old=old, new=None, text=line[1:])
            old += 1
        else:
            yield DiffLine(css="", sign="", old=old, new=new, text=line[1:])
            old, new = old + 1, new + 1
