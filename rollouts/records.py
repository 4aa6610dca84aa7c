"""Rollouts and executions as REST gives them: the seed documents' members, read in sets."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from jobs.records import iso
from rollouts.models import Evaluation, Execution, LogChunk, Result, Rollout, RolloutTarget
from rollouts.states import Strategy

CANARIES_SHOWN = 1000


def rollout_states(job_ids: Iterable[UUID]) -> Mapping[UUID, Mapping[str, object]]:
    """Return the state of the newest rollout of each job, ended or not; query jobs show none."""
    newest = (
        Rollout.objects.select_related("version")
        .filter(job_id__in=list(job_ids))
        .exclude(job__job_type="query")
        .order_by("job_id", "-started_at")
        .distinct("job_id")
    )
    rollouts = list(newest)
    canaries = _canaries([rollout for rollout in rollouts if rollout.strategy == Strategy.CANARY])
    return {r.job_id: rollout_record(r, canaries.get(r.pk, [])) for r in rollouts}


def rollout_record(rollout: Rollout, canary_nodes: list[str] | None = None) -> dict[str, Any]:
    """Return one rollout's state (docs/semantics.md 1.7, X44; `status`, `id` and `waiting_on` are ours)."""
    if canary_nodes is None:
        canary_nodes = _canaries([rollout]).get(rollout.pk, [])
    return {
        "id": str(rollout.pk),
        "status": rollout.state,
        "type": rollout.rollout_type,
        "strategy": rollout.strategy,
        "version": rollout.version.number,
        "pause_reason": rollout.pause_reason,
        "canary_nodes": canary_nodes,
        "canary_promoted": rollout.canary_promoted,
        "current_wave": rollout.current_wave,
        "total_waves": rollout.total_waves,
        "total_nodes": rollout.total_nodes,
        "failed_nodes": rollout.failed_nodes,
        "updated_nodes": rollout.updated_nodes,
        "rollback_to_version": rollout.rollback_to_version,
        "started_at": iso(rollout.started_at),
        "completed_at": iso(rollout.completed_at),
        "waiting_on": rollout.waiting_on,
    }


def _canaries(rollouts: list[Rollout]) -> dict[UUID, list[str]]:
    """Return the ids of the canary nodes of some rollouts, in one query."""
    found: dict[UUID, list[str]] = {}
    targets = RolloutTarget.objects.filter(
        rollout__in=[r for r in rollouts if r.canary_size], wave=1
    ).order_by("position")
    for rollout_id, node_id in targets.values_list("rollout_id", "node_id")[:CANARIES_SHOWN]:
        found.setdefault(rollout_id, []).append(str(node_id))
    return found


def execution_record(execution: Execution) -> dict[str, Any]:
    """Return one execution with the seed's members; `version` and `node` must be loaded."""
    return {
        "id": str(execution.pk),
        "eval_id": str(execution.evaluation_id) if execution.evaluation_id else "",
        "job_id": str(execution.job_id),
        "job_spec": execution.version.spec,
        "job_type": execution.version.spec.get("type", ""),
        "job_version": execution.job_version,
        "namespace": execution.namespace,
        "node_id": str(execution.node_id),
        "node_name": execution.node.name,
        "rollout_id": str(execution.rollout_id) if execution.rollout_id else "",
        "rollout_wave": execution.rollout_wave,
        "status": {
            "created_at": iso(execution.created_at),
            "desired_state": {
                "state_type": execution.desired_state,
                "message": execution.desired_message,
                "details": {},
            },
            "observed_state": {
                "state_type": execution.observed_state,
                "message": execution.observed_message,
                "details": {"error_code": execution.error_code} if execution.error_code else {},
            },
            "details": {
                **execution.details,
                "restarts": execution.restarts,
                "attempt": execution.attempt,
                "healthy_streak": execution.healthy_streak,
                "unhealthy_streak": execution.unhealthy_streak,
            },
            "previous_execution_id": _id(execution.previous_id),
            "next_execution_id": _id(execution.next_id),
            "revision": execution.revision,
            "stable_at": iso(execution.stable_at),
            "updated_at": iso(execution.updated_at),
        },
    }


def _id(value: UUID | None) -> str:
    return str(value) if value else ""


def result_record(execution: Execution, result: Result, hostname: str) -> dict[str, Any]:
    """Return an execution's result (docs/semantics.md 4.7)."""
    return {
        "execution_id": str(execution.pk),
        "job_id": str(execution.job_id),
        "job_version": execution.job_version,
        "node_id": str(execution.node_id),
        "hostname": hostname,
        "status": result.status,
        "output": result.output,
        "error": result.error,
        "exit_code": result.exit_code,
        "changed": result.changed,
        "data": result.data,
        "started_at": iso(result.started_at),
        "completed_at": iso(result.completed_at),
        "duration_ms": result.duration_ms,
        "truncated": result.truncated,
        "attempt": result.attempt,
    }


def evaluation_record(evaluation: Evaluation) -> dict[str, Any]:
    """Return one evaluation (docs/semantics.md 1.11; rule, facts and wave are ours)."""
    return {
        "id": str(evaluation.pk),
        "job_id": str(evaluation.job_id),
        "rollout_id": _id(evaluation.rollout_id),
        "namespace": evaluation.namespace,
        "priority": evaluation.priority,
        "type": evaluation.job_type,
        "triggered_by": evaluation.triggered_by,
        "rule": evaluation.rule,
        "facts": evaluation.facts,
        "wave": evaluation.wave,
        "status": {
            "state": evaluation.state,
            "message": evaluation.message,
            "revision": evaluation.revision,
            "created_at": iso(evaluation.created_at),
            "updated_at": iso(evaluation.updated_at),
            "wait_until": iso(evaluation.wait_until),
        },
    }


def log_record(chunk: LogChunk) -> dict[str, Any]:
    """Return some lines of an execution's log."""
    return {
        "seq": chunk.seq,
        "stream": chunk.stream,
        "at": iso(chunk.at),
        "lines": chunk.lines.split("\n"),
    }
