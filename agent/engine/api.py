"""The one interface to the pipeline engine: what it can do, and what is wrong with a pipeline.

Running one is `agent.runners.pipeline.PipelineRunner`. Both functions block (call them from a
thread) and share one helper process, so that the engine is never loaded into the agent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agent.engine.capabilities import Capabilities
from agent.engine.client import Helper, HelperFailedError
from agent.engine.document import config_of
from agent.engine.library import EngineMissingError
from agent.engine.rules import EngineProblem

LINT_LIMIT = 2.0
PROBE_LIMIT = 20.0

__all__ = ["Capabilities", "EngineProblem", "capabilities", "close", "lint"]

_helper = Helper()


def capabilities() -> Capabilities:
    """Return what pipelines on this node may use, or why there can be none."""
    try:
        answer = _helper.ask({"op": "probe"}, PROBE_LIMIT)
    except (EngineMissingError, HelperFailedError, OSError) as error:
        return Capabilities(available=False, reason=str(error))
    names = {kind: tuple(known) for kind, known in answer["components"].items()}
    return Capabilities(
        available=True,
        engine_version=answer["engine"],
        connect_version=answer["connect"],
        inputs=names["input"],
        processors=names["processor"],
        outputs=names["output"],
        caches=names["cache"],
        rate_limits=names["rate_limit"],
        scanners=names["scanner"],
    )


def lint(config: Mapping[str, Any], env: Mapping[str, str]) -> list[EngineProblem]:
    """Return every problem of a pipeline, with the variables of the job put in.

    `config` is the bare pipeline or a whole job document. An engine that is missing or does not
    answer is a problem too, with an empty path.
    """
    request = {"op": "lint", "config": config_of(config), "env": dict(env)}
    try:
        answer = _helper.ask(request, LINT_LIMIT)
    except (EngineMissingError, HelperFailedError, OSError) as error:
        return [EngineProblem("", str(error), "")]
    return [EngineProblem(*fields) for fields in answer["problems"]]


def close() -> None:
    """End the helper process."""
    _helper.close()
