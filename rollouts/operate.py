"""Typed operations: each call is a one-shot job of one operation, and its answers are the results.

REST's endpoints below /nodes/{target} and the page that runs an operation come through here.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db.models import BooleanField, ExpressionWrapper, Q

from access.queries import Person
from access.services import Actor
from jobs.document import Document
from jobs.intake import read_spec
from jobs.models import Job
from jobs.problems import Problem, SpecRefused
from jobs.services import Submission, submit_job
from nodes.operations import Operation
from rollouts.models import Execution, Result
from rollouts.states import LIVE, ObservedState

# Nodes whose answers one response holds; /jobs/{id}/results pages through all of them.
MOST_ANSWERS = 1000
# A command's own limit ends it first, so that what it wrote until then is told.
MARGIN_SECONDS = 10
WORDS = {"completed": "ok", "skipped": "skipped"}
_PARAMS_PATH = "/config/params"
# What completed has a result, which may come in a batch of its own.
_OPEN = Q(observed_state__in=sorted(LIVE)) | Q(
    observed_state=ObservedState.COMPLETED, result__isnull=True
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One operation that somebody wants done on a target (docs/semantics.md 4.10)."""

    operation: Operation
    target: str
    namespace: str
    params: Mapping[str, Any]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What nodes have answered so far, and who has not yet; both sorted by the node's name."""

    job_id: UUID
    results: Sequence[Mapping[str, Any]]
    missing: Sequence[Mapping[str, str]]
    is_all_in: bool
    is_cut: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """What a response waits for before it is made anew: the answers to one job, so many seconds."""

    job_id: UUID
    seconds: float

    @property
    def key(self) -> str:
        """What the second making is told."""
        return str(self.job_id)

    def is_over(self) -> bool:
        """Say whether every node has answered; one cheap question."""
        return is_answered(self.job_id)


def call(user: Person, actor: Actor, wish: Call) -> Job:
    """Submit the job of a call. Raises Refused and SpecRefused, whose paths are those of the params."""
    spec = spec_of(wish)
    document = Document(value=spec, lines={}, text=json.dumps(spec))
    try:
        intake = read_spec(user, document)
    except SpecRefused as refusal:
        raise SpecRefused(refusal.stage, map(_at_params, refusal.problems)) from refusal
    submission = Submission(spec=intake.spec, reason=wish.reason, signatures=intake.signatures)
    return submit_job(actor, submission).job


def spec_of(wish: Call) -> dict[str, Any]:
    """Return the spec that a call is submitted as: what a person could submit himself."""
    operation = wish.operation
    seconds = operation.seconds
    if isinstance(limit := wish.params.get("timeout"), int) and not isinstance(limit, bool):
        seconds = max(seconds, limit + MARGIN_SECONDS)
    return {
        "name": f"{operation.name}-{secrets.token_hex(4)}",
        "namespace": wish.namespace,
        "type": str(operation.kind),
        "selector": {"target": wish.target},
        "timeouts": {"execution_timeout": seconds},
        "config": {"operation": operation.name, "params": dict(wish.params)},
    }


def _at_params(problem: Problem) -> Problem:
    path = problem.path.removeprefix(_PARAMS_PATH)
    return replace(problem, path="/target" if path == "/selector/target" else path)


def is_answered(job_id: UUID) -> bool:
    """Say whether a call's executions are there and have all ended."""
    executions = Execution.objects.filter(job=job_id)
    return executions.exists() and not executions.filter(_OPEN).exists()


def answers_of(job_id: UUID) -> Answers:
    """Return what nodes have answered to a call; the job's reader has been checked."""
    executions = (
        Execution.objects.filter(job=job_id)
        .annotate(is_open=ExpressionWrapper(_OPEN, BooleanField()))
        .select_related("node")
        .only("observed_state", "observed_message", "error_code", "node__name", "node__hostname")
        .order_by("node__name", "pk")
    )
    rows = list(executions[: MOST_ANSWERS + 1])
    is_cut = len(rows) > MOST_ANSWERS
    rows = rows[:MOST_ANSWERS]
    ended = [row for row in rows if not row.is_open]
    open_ones = [row for row in rows if row.is_open]
    found = Result.objects.in_bulk([row.pk for row in ended])
    return Answers(
        job_id=job_id,
        results=[_answer(row, found.get(row.pk)) for row in ended],
        missing=[_node_of(row) for row in open_ones],
        is_all_in=bool(rows) and not open_ones and (not is_cut or is_answered(job_id)),
        is_cut=is_cut,
    )


def _node_of(execution: Execution) -> dict[str, str]:
    node = execution.node
    return {"node_id": str(node.pk), "node_name": node.name, "hostname": node.hostname}


def _answer(execution: Execution, result: Result | None) -> dict[str, Any]:
    """Return one node's answer: the operation's own members beside ours (docs/semantics.md 2.3)."""
    own = {"execution_id": str(execution.pk), **_node_of(execution)}
    if result is None:  # it was given up, or stopped before it began
        error = execution.observed_message or "the node did not answer"
        return {**own, "status": "failed", "error": error, "error_code": execution.error_code}
    data = result.data if isinstance(result.data, dict) else {}
    answer = {**data, **own, "status": WORDS.get(result.status, "failed")}
    if result.changed is not None:
        answer["changed"] = result.changed
    if answer["status"] == "failed":
        answer |= {"error": result.error, "error_code": execution.error_code}
    if result.exit_code is not None or result.output:
        answer |= {"stdout": result.output, "stderr": result.error, "exit_code": result.exit_code}
    return answer
