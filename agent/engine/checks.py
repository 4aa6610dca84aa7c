"""Pure. Every problem of a pipeline, in the engine's own words, without running any of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from agent.engine import rules
from agent.engine.document import INLINED, RESOURCES
from agent.engine.rendering import Line, render
from agent.engine.rules import EngineProblem, section_of
from agent.engine.variables import Json, pointer

SOURCE, SINK = 0, 1
SENTINEL: dict[str, Json] = {"__sentinel__": {}}
SENTINEL_NAME = "__sentinel__"
FINDING = re.compile(r"\((\d+),(\d+)\) ")
UNKNOWN = re.compile(r"unable to infer component type: \[?([^\]]+)")
REQUIRED = re.compile(r"field \S+ is required")
BESIDE_COMPONENT = frozenset({"label", "processors", "plugin"})
IDLE_INPUT = {"generate": {"mapping": "root = {}", "count": 1, "interval": ""}}
KINDS = {
    "processors": "processor",
    "try": "processor",
    "catch": "processor",
    "for_each": "processor",
    "processor_resources": "processor",
    "inputs": "input",
    "input": "input",
    "input_resources": "input",
    "outputs": "output",
    "output": "output",
    "fallback": "output",
    "output_resources": "output",
    "cache_resources": "cache",
    "rate_limit_resources": "rate limit",
    "scanner": "scanner",
}

Refusal = Callable[[int, str], str]


@dataclass(frozen=True, slots=True)
class Subject:
    """A part of the config, wrapped so that the engine lints it whole and can start nothing.

    `part` is what the engine re-renders and counts lines in; pointers under `wrapped` in it are
    pointers under `path` in the config.
    """

    kind: int
    document: dict[str, Json]
    part: Json
    wrapped: str
    path: str


def problems(config: Mapping[str, Json], refusal: Refusal) -> list[EngineProblem]:
    """Return all problems of a substituted pipeline: ours, then those of the engine's linter.

    `refusal(kind, document)` asks the engine why it refuses a document (docs/semantics.md 5).
    """
    own = rules.problems(config)
    taken = {problem.path for problem in own}
    theirs = (problem for subject in subjects(config) for problem in findings(subject, refusal))
    return own + [problem for problem in theirs if problem.path not in taken]


def subjects(config: Mapping[str, Json]) -> Iterator[Subject]:
    """Cut a config into the parts that are linted one by one."""
    if config.get("input"):
        part: Json = {"broker": {"inputs": [config["input"], SENTINEL]}}
        yield Subject(SOURCE, {"input": part}, part, "/broker/inputs/0", "/input")
    pipeline = config.get("pipeline")
    steps = pipeline.get("processors") if isinstance(pipeline, Mapping) else None
    if steps and isinstance(steps, list):
        part = {"try": [*steps, SENTINEL]}
        document = {"input": IDLE_INPUT, "pipeline": {"processors": [part]}}
        yield Subject(SOURCE, document, part, "/try", "/pipeline/processors")
    if config.get("output"):
        part = {"broker": {"outputs": [config["output"], SENTINEL]}}
        yield Subject(SINK, {"output": part}, part, "/broker/outputs/0", "/output")
    yield from _resources(config)


def _resources(config: Mapping[str, Json]) -> Iterator[Subject]:
    ends = {
        "input_resources": ("inputs", SOURCE, "input"),
        "output_resources": ("outputs", SINK, "output"),
    }
    part: Json
    for key in INLINED:
        if isinstance(config.get(key), list) and config[key]:
            plural, kind, end = ends[key]
            part = {"broker": {plural: [*config[key], SENTINEL]}}
            yield Subject(kind, {end: part}, part, f"/broker/{plural}", f"/{key}")
    for key in RESOURCES:
        if isinstance(config.get(key), list) and config[key]:
            part = {key: config[key]}
            stop = {"input": IDLE_INPUT, "pipeline": {"processors": [SENTINEL]}}
            yield Subject(SOURCE, {**part, **stop}, part, f"/{key}", f"/{key}")


def findings(subject: Subject, refusal: Refusal) -> Iterator[EngineProblem]:
    """Yield the engine's findings on one subject, led back to pointers into the config."""
    document, _ = render(subject.document)
    answer = refusal(subject.kind, document)
    pieces = FINDING.split(answer)
    if len(pieces) == 1 and answer and SENTINEL_NAME not in answer:
        yield EngineProblem(subject.path, answer.strip(), section_of(subject.path))
    _, lines = render(subject.part)
    seen = set()
    for row, text in zip(pieces[1::3], pieces[3::3], strict=True):
        if SENTINEL_NAME in text:
            continue
        problem = _located(lines, int(row), text.strip(), subject)
        if problem not in seen:
            seen.add(problem)
            yield problem


def _located(lines: list[Line], row: int, text: str, subject: Subject) -> EngineProblem:
    line = lines[min(max(row, 1), len(lines)) - 1]
    path = subject.path
    if line.path.startswith(subject.wrapped):
        path += line.path[len(subject.wrapped) :]
    unknown = UNKNOWN.search(text)
    if unknown:
        names = [name for name in unknown.group(1).split() if name not in BESIDE_COMPONENT]
        path = pointer(path.rpartition("/")[0], names[0]) if len(names) == 1 else path
        text = f"node lacks {_kind_at(path)} {' or '.join(names)}" if names else text
    elif REQUIRED.search(text) and not text.endswith(f"{path.rpartition('/')[2]} is required"):
        # The engine names the first member of the object that lacks the field.
        path = path.rpartition("/")[0] if line.leaf else path
    return EngineProblem(path, text, section_of(path), line.inner)


def _kind_at(path: str) -> str:
    for segment in reversed(path.split("/")):
        if segment in KINDS:
            return KINDS[segment]
    return "component"
