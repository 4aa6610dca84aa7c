"""Which components this node's engine has: every known name is asked for, none is started."""

from __future__ import annotations

from dataclasses import dataclass

from agent.engine.checks import IDLE_INPUT, SENTINEL, SINK, SOURCE, Refusal
from agent.engine.names import KNOWN
from agent.engine.rendering import render
from agent.engine.variables import Json

MISSING = "unable to infer component type"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What pipelines on this node may use; when not `available`, `reason` says why."""

    available: bool
    reason: str = ""
    engine_version: str = ""
    connect_version: str = ""
    inputs: tuple[str, ...] = ()
    processors: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    rate_limits: tuple[str, ...] = ()
    scanners: tuple[str, ...] = ()


def probe(refusal: Refusal) -> dict[str, tuple[str, ...]]:
    """Return the names that the engine knows, by kind (docs/semantics.md 5)."""
    return {
        kind: tuple(name for name in names.split() if _has(kind, name, refusal))
        for kind, names in KNOWN.items()
    }


def _has(kind: str, name: str, refusal: Refusal) -> bool:
    asked = {name: {"__x__": 1}}
    document, _ = render(_document(kind, asked))
    answer = refusal(SINK if kind == "output" else SOURCE, document)
    return f"{MISSING}: {name}\n" not in f"{answer}\n"


def _document(kind: str, asked: Json) -> Json:
    stop: Json = {"input": IDLE_INPUT, "pipeline": {"processors": [SENTINEL]}}
    if kind in {"input", "output"}:
        return {kind: {"broker": {f"{kind}s": [asked, SENTINEL]}}}
    if kind == "processor":
        return {"input": IDLE_INPUT, "pipeline": {"processors": [{"try": [asked, SENTINEL]}]}}
    if kind == "scanner":
        reader = {"file": {"paths": ["/dev/null"], "scanner": asked}}
        return {"input": {"broker": {"inputs": [reader, SENTINEL]}}}
    return {f"{kind}_resources": [asked], **stop}
