"""Translates the `deployment` block of the older schema into a `rollout` block."""

from collections.abc import Mapping

from jobs.durations import DurationError, parse_duration
from jobs.problems import Problem

LEGACY_HINT = (
    "rename deployment to rollout; max_parallel is a percentage there; write no_auto_rollback: true "
    "for auto_rollback: false; or send the request with ?compat=1"
)
_DEFAULT_INTERVAL = 10_000_000_000


def translate_deployment(
    deployment: Mapping[str, object], fleet_size: int | None
) -> tuple[dict[str, object], tuple[Problem, ...]]:
    """Return the rollout block that means the same, and one warning for each translation.

    `fleet_size` is the number of matching nodes, needed to turn a count of nodes into a percentage
    (docs/semantics.md 1.1). Members that need no translation are handed on as they are.
    """
    rollout = dict(deployment)
    notes = [_note("", "deployment was read as rollout")]
    notes += _translate_max_parallel(rollout, fleet_size)
    notes += _translate_auto_rollback(rollout)
    health_check = rollout.get("health_check")
    if isinstance(health_check, Mapping):
        notes += _translate_health_check(rollout, health_check)
    return rollout, tuple(notes)


def _note(path: str, message: str) -> Problem:
    return Problem(path=f"/deployment{path}", code="legacy_translated", message=message)


def _translate_max_parallel(rollout: dict[str, object], fleet_size: int | None) -> list[Problem]:
    count = rollout.get("max_parallel")
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        return []
    if count == 0:
        percent = 100
        message = "max_parallel 0 meant all nodes at once: 100 percent"
    elif fleet_size:
        percent = min(100, -(-100 * count // fleet_size))
        message = f"{count} of {fleet_size} nodes in parallel: {percent} percent"
    else:
        del rollout["max_parallel"]
        message = "a count of no nodes is no percentage; the default of 10 percent holds"
        return [_note("/max_parallel", message)]
    rollout["max_parallel"] = percent
    return [_note("/max_parallel", message)]


def _translate_auto_rollback(rollout: dict[str, object]) -> list[Problem]:
    if not isinstance(rollout.get("auto_rollback"), bool):
        return []
    no_auto_rollback = not rollout.pop("auto_rollback")
    rollout["no_auto_rollback"] = no_auto_rollback
    words = str(no_auto_rollback).lower()
    return [_note("/auto_rollback", f"it was read as no_auto_rollback: {words}")]


def _translate_health_check(
    rollout: dict[str, object], health_check: Mapping[str, object]
) -> list[Problem]:
    if "type" in health_check or "endpoint" in health_check:
        del rollout["health_check"]
        message = "a health check with a type or an endpoint has no counterpart and was dropped"
        return [_note("/health_check", message)]
    if "min_healthy_time" not in health_check:
        return []
    translated = dict(health_check)
    try:
        healthy = parse_duration(translated.pop("min_healthy_time"))
        interval = parse_duration(translated.get("interval", _DEFAULT_INTERVAL))
    except DurationError:
        return []
    windows = max(1, -(-healthy // max(1, interval)))
    translated["success_threshold"] = windows
    rollout["health_check"] = translated
    message = f"it was read as success_threshold: {windows} healthy windows in a row"
    return [_note("/health_check/min_healthy_time", message)]
