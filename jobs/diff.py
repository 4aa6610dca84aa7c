"""What a new spec changes: each difference with its effect, and the text diff of the YAML."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import unified_diff
from enum import StrEnum

from jobs.canonical import canonical_spec
from jobs.durations import format_duration
from jobs.problems import pointer
from jobs.spec import JobSpec


class Effect(StrEnum):
    """What a change does to the fleet, the strongest first (domain.md X24)."""

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
    """Return the unified diff of the YAML of two specs, signatures and reserved meta left out."""
    before = [] if old is None else _comparable(old)
    return "".join(unified_diff(before, _comparable(new), names[0], names[1]))


def _comparable(spec: JobSpec) -> list[str]:
    meta = canonical_spec(spec)["meta"]
    text = spec.model_copy(update={"signatures": (), "meta": meta}).to_yaml()
    return text.splitlines(keepends=True)


def _differences(
    old: object, new: object, keys: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], tuple[object, object]]]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(key, _ABSENT), new.get(key, _ABSENT), (*keys, key))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from _differences(left, right, (*keys, str(index)))
    elif old != new or isinstance(old, bool) is not isinstance(new, bool):
        yield keys, (old, new)


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
