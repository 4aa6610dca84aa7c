"""The lint helper's process: one JSON request a line on stdin, one JSON answer a line back."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from agent.engine.capabilities import probe
from agent.engine.checks import problems
from agent.engine.library import EngineMissingError, Library, build_versions
from agent.engine.rules import EngineProblem, section_of
from agent.engine.variables import MissingVariablesError, substitute


def lint(library: Library, request: dict[str, Any]) -> list[EngineProblem]:
    """Return the problems of a pipeline; without its variables it is not linted further."""
    try:
        config = substitute(request["config"], request["env"])
    except MissingVariablesError as error:
        return [
            EngineProblem(path, f"the variable {name} has no value", section_of(path))
            for name, path in sorted(error.names.items())
        ]
    return problems(config, library.refusal)


def answer(library: Library, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one request."""
    if request["op"] == "lint":
        found = lint(library, request)
        return {"problems": [[p.path, p.message, p.section, p.line] for p in found]}
    engine, connect = build_versions(library.path)
    return {"components": probe(library.refusal), "engine": engine, "connect": connect}


def main() -> None:
    """Serve until stdin ends."""
    # What the engine prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        library = Library()
    except EngineMissingError as error:
        print(json.dumps({"missing": str(error)}), file=answers, flush=True)
        return
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(library, json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
