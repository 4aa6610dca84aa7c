"""Finds rollouts, executions and evaluations for REST, scoped to what the person may see."""

from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

from django.db.models import Prefetch, QuerySet

from access.problems import Refused
from access.queries import Person, namespaces_for, require
from jobs.models import Job, JobVersion
from jobs.planning import Outcome
from jobs.queries import as_uuid
from nodes.models import Node
from rollouts.models import Evaluation, Execution, LogChunk, Result, Rollout
from rollouts.states import PauseReason, RolloutState

# Of the rows beside an execution only what its record names: a node's facts are long. A list reads
# each of them once: joined, the spec of a version would be parsed again for every execution.
_BESIDE = (
    Prefetch("version", JobVersion.objects.only("spec")),
    Prefetch("node", Node.objects.only("name", "hostname")),
)


def executions_for(
    user: Person,
    *,
    job: Job | None = None,
    states: Collection[str] = (),
    nodes: Collection[str] = (),
    versions: Collection[str] = (),
) -> QuerySet[Execution]:
    """Return executions a person may see, with version and node loaded, filtered."""
    executions = Execution.objects.prefetch_related(*_BESIDE).filter(
        namespace__in=namespaces_for(user, "job:read")
    )
    if job is not None:
        executions = executions.filter(job=job)
    if states:
        executions = executions.filter(observed_state__in=states)
    if nodes:
        ids = [found for text in nodes if (found := as_uuid(text))]
        named = executions.filter(node__name__in=nodes)
        executions = executions.filter(node_id__in=ids) if ids else named
    if versions:
        executions = executions.filter(job_version__in=[v for v in versions if v.isdecimal()])
    return executions


def find_execution(user: Person, key: str, permission: str = "job:read") -> Execution:
    """Return one execution. Raises Refused `not_found`, `forbidden`."""
    execution_id = as_uuid(key)
    # One row is joined: there is nothing to read twice.
    joined = executions_for(user).prefetch_related(None).select_related("version", "node")
    slim = joined.defer("version__source_text", "node__facts", "node__capabilities")
    found = slim.filter(pk=execution_id).first() if execution_id else None
    if found is None:
        raise Refused("not_found", "There is no such execution, or you may not see it.")
    require(user, permission, found.namespace)
    return found


def result_of(execution: Execution) -> Result:
    """Return how an execution ended. Raises Refused `not_found` while it has not."""
    result = Result.objects.filter(pk=execution.pk).first()
    if result is None:
        raise Refused("not_found", "The execution has no result yet.")
    return result


def results_of(job: Job) -> QuerySet[Result]:
    """Return the results of a job's executions."""
    return Result.objects.filter(execution__job=job).select_related("execution__node", "execution")


def log_of(execution: Execution, *, after: int, limit: int) -> list[LogChunk]:
    """Return chunks of an execution's log behind the chunk numbered `after`."""
    chunks = LogChunk.objects.filter(execution=execution, seq__gt=after)
    return list(chunks.order_by("seq")[:limit])


def rollout_of(job: Job) -> Rollout:
    """Return a job's newest rollout. Raises Refused `not_found` when it never had one."""
    newest = Rollout.objects.filter(job=job).select_related("version").order_by("-started_at")
    found = newest.first()
    if found is None:
        raise Refused("not_found", f"{job.name} has had no rollout yet.")
    return found


def rollouts_of(job: Job) -> QuerySet[Rollout]:
    """Return every rollout of a job."""
    return Rollout.objects.filter(job=job).select_related("version")


def version_outcomes(job_id: UUID, numbers: Iterable[int]) -> Mapping[int, Outcome]:
    """Return what became of each of these versions of a job that had a rollout; one query."""
    rollouts = Rollout.objects.select_related("version").filter(
        job=job_id, version__number__in=list(numbers)
    )
    return {
        rollout.version.number: _outcome(rollout) for rollout in rollouts.order_by("started_at")
    }


def _outcome(rollout: Rollout) -> Outcome:
    is_at_gate = rollout.pause_reason == PauseReason.AWAITING_PROMOTION
    return Outcome(
        rollout_pk=rollout.pk,
        kind=PauseReason.AWAITING_PROMOTION if is_at_gate else rollout.state,
        word="Was stable" if rollout.state == RolloutState.COMPLETED else "",
        is_completed=rollout.state == RolloutState.COMPLETED,
    )


def evaluations_of(job: Job) -> QuerySet[Evaluation]:
    """Return every evaluation of a job."""
    return Evaluation.objects.filter(job=job)


def find_evaluation(user: Person, key: str) -> Evaluation:
    """Return one evaluation. Raises Refused `not_found`."""
    evaluation_id = as_uuid(key)
    seen = Evaluation.objects.filter(namespace__in=namespaces_for(user, "job:read"))
    found = seen.filter(pk=evaluation_id).first() if evaluation_id else None
    if found is None:
        raise Refused("not_found", "There is no such evaluation, or you may not see it.")
    return found
