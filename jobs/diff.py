"""What a new spec changes: each difference with its effect, and the text diff of the YAML."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from enum import StrEnum
from itertools import zip_longest
from typing import Any

from jobs.canonical import canonical_spec
from jobs.durations import format_duration
from jobs.printing import print_yaml
from jobs.problems import pointer
from jobs.spec import JobSpec


class Effect(StrEnum):
    """What a change does to the fleet, the strongest first (docs/semantics.md X24)."""

    RESTARTS = "restarts"
    RETARGETS = "retargets"
    PACE = "pace"
    METADATA = "metadata"


_EFFECTS = {
    "type": Effect.RESTARTS,
    "config": Effect.RESTARTS,
    "logger": Effect.RESTARTS,
    "metrics": Effect.RESTARTS,
    "restart_policy": Effect.RESTARTS,
    "namespace": Effect.RETARGETS,
    "selector": Effect.RETARGETS,
    "rollout": Effect.PACE,
    "timeouts": Effect.PACE,
    "priority": Effect.PACE,
}
_WORDS = {
    Effect.RESTARTS: "replaces executions",
    Effect.RETARGETS: "adds or removes nodes",
    Effect.PACE: "changes the pace",
    Effect.METADATA: "metadata only",
}
_ABSENT = object()
_NOTHING = (None, _ABSENT)
_TEXT_MAX = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One member that differs; `old` or `new` is None where it is absent."""

    path: str
    old: object
    new: object
    effect: Effect
    summary: str


def semantic_diff(old: JobSpec, new: JobSpec) -> tuple[Change, ...]:
    """Return the changes between two specs after defaults, the strongest effect first.

    Signatures and reserved meta are no part of it (X24). No change means equal spec hashes.
    """
    before, after = (canonical_spec(spec, format_duration) for spec in (old, new))
    changes = [_change(path, *pair) for path, pair in _differences(before, after)]
    ranks = list(Effect)
    return tuple(sorted(changes, key=lambda change: (ranks.index(change.effect), change.path)))


def text_diff(old: JobSpec | None, new: JobSpec, names: tuple[str, str] = ("old", "new")) -> str:
    """Return the unified diff of the YAML of two specs, signatures and reserved meta left out.

    The order of keys means nothing and is not kept by the database, so the old text takes the new
    one's: equal specs have no difference.
    """
    after = _comparable(new)
    before = [] if old is None else _lines(_in_order_of(after, _comparable(old)))
    return "".join(unified_diff(before, _lines(after), names[0], names[1]))


def _comparable(spec: JobSpec) -> dict[str, Any]:
    meta = canonical_spec(spec)["meta"]
    return spec.model_copy(update={"signatures": (), "meta": meta}).to_wire(format_duration)


def _lines(wire: object) -> list[str]:
    return print_yaml(wire).splitlines(keepends=True)


def _in_order_of(new: object, old: object) -> object:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = [*(key for key in new if key in old), *(key for key in old if key not in new)]
        return {key: _in_order_of(new.get(key), old[key]) for key in keys}
    if isinstance(old, list) and isinstance(new, list):
        return [_in_order_of(*pair) for pair in zip_longest(new[: len(old)], old)]
    return old


def _differences(
    old: object, new: object, keys: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], tuple[object, object]]]:
    """Yield the leaves that differ: of a block that came or went, each of its members."""
    if old in _NOTHING and _has_members(new):
        old = {}
    elif new in _NOTHING and _has_members(old):
        new = {}
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key, _ABSENT), new.get(key, _ABSENT), (*keys, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _differences(left, right, (*keys, str(index)))
    elif old != new or isinstance(old, bool) is not isinstance(new, bool):
        yield keys, (old, new)


def _has_members(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _change(keys: tuple[str, ...], old: object, new: object) -> Change:
    effect = _EFFECTS.get(keys[0], Effect.METADATA)
    if keys == ("timeouts", "execution_timeout"):
        effect = Effect.RESTARTS
    name = ".".join(keys)
    if old is _ABSENT:
        what = f"{name} added: {_shown(new)}"
    elif new is _ABSENT:
        what = f"{name} removed"
    else:
        what = f"{name}: {_shown(old)} → {_shown(new)}"
    return Change(
        path=pointer(*keys),
        old=None if old is _ABSENT else old,
        new=None if new is _ABSENT else new,
        effect=effect,
        summary=f"{what} ({_WORDS[effect]})",
    )


def _shown(value: object) -> str:
    text = str(value).replace("\n", "⏎")
    return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 1]}…"
