"""Canonical forms of a spec and the two hashes that decide what changed."""

import hashlib
from collections.abc import Callable
from typing import Any

import rfc8785

from jobs.rules import RESERVED_PREFIXES
from jobs.spec import JobSpec

_EXACT_INTEGERS = range(-(2**53) + 1, 2**53)


def canonical_spec(spec: JobSpec, duration: Callable[[int], str] = str) -> dict[str, Any]:
    """Return a spec with every default filled in, without signatures and reserved meta (X24, C10).

    Durations are texts of nanoseconds unless `duration` prints them otherwise. Equal forms mean that nothing would change.
    """
    rollout = None if spec.type == "query" else spec.effective_rollout
    wire = spec.model_copy(update={"rollout": rollout}).to_wire(duration)
    wire.pop("signatures", None)
    meta = {key: value for key, value in spec.meta.items() if not key.startswith(RESERVED_PREFIXES)}
    selector = spec.selector.model_dump(mode="json", exclude_none=True) if spec.selector else {}
    filled = {
        "description": spec.description,
        "labels": dict(spec.labels),
        "meta": meta,
        "selector": {name: value for name, value in selector.items() if value}
        | {"target": str(spec.effective_target)},
        "timeouts": spec.timeouts.model_dump()
        | {"execution_timeout": spec.effective_execution_timeout},
    }
    return wire | filled


def canonical_run(spec: JobSpec) -> dict[str, Any]:
    """Return the part of a spec whose change replaces executions on nodes (X24)."""
    whole = canonical_spec(spec)
    members = ("type", "config", "logger", "metrics", "restart_policy")
    run = {name: whole.get(name) for name in members}
    return run | {"execution_timeout": spec.effective_execution_timeout}


def spec_hash(spec: JobSpec) -> str:
    """Return the hash that decides `no_changes` and versions (X24)."""
    return _digest(canonical_spec(spec))


def run_hash(spec: JobSpec) -> str:
    """Return the hash that decides whether a node runs the right thing already (X24)."""
    return _digest(canonical_run(spec))


def _digest(form: dict[str, Any]) -> str:
    return hashlib.sha256(rfc8785.dumps(_hashable(form))).hexdigest()


def _hashable(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _hashable(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_hashable(child) for child in value]
    if isinstance(value, int) and value not in _EXACT_INTEGERS:
        # RFC 8785 has no such numbers; no text of a spec holds a NUL, so nothing else is equal.
        return f"\0{value}"
    return value
