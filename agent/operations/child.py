"""The process of one piece of operations' work: reads its request, does it, writes its answer.

A process of its own can be limited, ended and outlived, and what it loads leaves with it.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from agent.operations.base import Answer, OperationError
from agent.operations.table import available, handler_of
from agent.operations.tokens import facts_of_node, fill_in, has_tokens

# What a step that was done is called in the log, by whether it changed anything.
_WORDS = {True: "changed", False: "as wished already", None: "done"}


def do(operation: str, params: Mapping[str, Any]) -> Answer:
    """Do one operation; whatever goes wrong is in the answer, and a defect also on stderr."""
    try:
        handler = handler_of(operation)
        # A file object's content is nobody's parameter: it stays as it was uploaded.
        said = {name: value for name, value in params.items() if name != "content"}
        if has_tokens(said):
            params = {**params, **fill_in(said, facts_of_node())}
        return handler(params)
    except OperationError as error:
        return Answer(status="failed", error=str(error), error_code=error.code)
    except Exception as error:
        traceback.print_exc()
        text = f"{operation} broke: {error!r}"
        return Answer(status="failed", error=text, error_code="operation_failed")


def apply(steps: Sequence[Mapping[str, Any]]) -> Answer:
    """Do operations in their order until one fails; `data` says what came of each.

    Each is also said in a line, which goes to the log.
    """
    told: list[dict[str, Any]] = []
    for number, step in enumerate(steps, start=1):
        name = str(step["operation"])
        answer = do(name, step.get("params") or {})
        word = answer.status if answer.status != "completed" else _WORDS[answer.changed]
        print(
            f"{number} {name}: {word}" + (f": {answer.error}" if answer.error else ""), flush=True
        )
        told.append({"operation": name, "status": answer.status, "changed": answer.changed})
        if answer.status == "failed":
            error = f"step {number}, {name}: {answer.error or f'exit code {answer.exit_code}'}"
            return Answer(
                status="failed",
                changed=any(step["changed"] for step in told),
                error=error,
                error_code=answer.error_code or "operation_failed",
                data={"steps": told},
            )
    return Answer(changed=any(step["changed"] for step in told), data={"steps": told})


def _asked(request: Mapping[str, Any], folder: Path) -> Answer:
    if "operations" not in request:
        return do(request["operation"], request.get("params") or {})
    # An earlier application may outlive its agent: two at once would undo one another.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return apply(request["operations"])


def _told(answer: Answer) -> str:
    try:
        return json.dumps(asdict(answer))
    except (TypeError, ValueError) as error:
        broken = replace(
            answer, data=None, status="failed", error=f"the answer cannot be told: {error}"
        )
        return json.dumps(asdict(broken))


def main() -> None:
    """Do what the file named first asks for, and write the answer to the second.

    Without them it says on stdout what this machine can do. The first argument is the agent's place.
    """
    files = [Path(argument) for argument in sys.argv[2:]]
    if not files:
        print(json.dumps(available()))
        return
    os.umask(0o022)
    asked, told = files
    answer = _asked(json.loads(asked.read_text()), told.parent)
    # Whole or not at all: without an answer the operation has failed.
    temporary = told.with_suffix(".new")
    temporary.write_text(_told(answer))
    temporary.replace(told)
