"""Jobs, versions and events as REST gives them: the seed documents' members."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from jobs.models import Event, Job, JobVersion
from jobs.planning import LeftOut, NodeName, SpecPlan, rollout_states
from jobs.problems import Problem


def iso(at: datetime | None) -> str | None:
    """Return a time as RFC 3339 in UTC, or None."""
    if at is None:
        return None
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def job_records(jobs: Iterable[Job]) -> list[dict[str, Any]]:
    """Return jobs with spec and status; two queries for all of them."""
    jobs = list(jobs)
    specs = _newest_specs(jobs)
    states = rollout_states([job.pk for job in jobs])
    return [job_record(job, specs.get(job.pk, {}), states.get(job.pk, {})) for job in jobs]


def _newest_specs(jobs: list[Job]) -> dict[UUID, dict[str, Any]]:
    versions = JobVersion.objects.filter(job__in=jobs).values_list("job_id", "number", "spec")
    wanted = {(job.pk, job.version) for job in jobs}
    newest = versions.filter(number__in={job.version for job in jobs})
    return {job_id: spec for job_id, number, spec in newest if (job_id, number) in wanted}


def job_record(job: Job, spec: Mapping[str, Any], rollout: Mapping[str, Any]) -> dict[str, Any]:
    """Return one job with the seed's members."""
    return {
        "id": str(job.pk),
        "spec": dict(spec),
        "status": {
            "created_at": iso(job.created_at),
            "updated_at": iso(job.updated_at),
            "version": job.version,
            "revision": job.revision,
            "state": {
                "state_type": job.state,
                "message": job.state_message,
                "details": job.state_details,
            },
            "rollout": dict(rollout),
        },
    }


def version_record(version: JobVersion) -> dict[str, Any]:
    """Return one version of a job."""
    return {
        "version": version.number,
        "spec": version.spec,
        "cause": version.cause,
        "rolled_back_from": version.rolled_back_from,
        "reason": version.reason,
        "created_by": version.created_by,
        "created_at": iso(version.created_at),
        "spec_hash": version.spec_hash,
        "run_hash": version.run_hash,
    }


def event_record(event: Event) -> dict[str, Any]:
    """Return one event (docs/semantics.md 1.12, 4.13)."""
    return {
        "seq_num": event.pk,
        "job_seq_num": event.job_seq,
        "timestamp": iso(event.at),
        "namespace": event.namespace,
        "job_id": str(event.job_id),
        "job_version": event.job_version,
        "rollout_id": str(event.rollout_id) if event.rollout_id else "",
        "execution_id": str(event.execution_id) if event.execution_id else "",
        "node_id": str(event.node_id) if event.node_id else "",
        "kind": event.kind,
        "message": event.message,
        "details": event.details,
    }


def problem_record(problem: Problem) -> dict[str, Any]:
    """Return a problem or a warning without its empty members."""
    members = {
        "path": problem.path,
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint or None,
        "line": problem.line,
        "column": problem.column,
    }
    return {name: value for name, value in members.items() if value is not None}


def plan_record(plan: SpecPlan) -> dict[str, Any]:
    """Return the plan of a dry run: who, in which waves, and who is left out (docs/semantics.md 4.9)."""
    return {
        "evaluation": {
            "matched": plan.matched,
            "eligible": plan.eligible,
            "ineligible": [_left_out(group) for group in plan.left_out],
            "unchanged": _names(plan.unchanged),
            "deferred": _names(plan.deferred),
            "added": _names(plan.added),
            "removed": _names(plan.removed),
        },
        "rollout": {
            "strategy": plan.strategy,
            "total_nodes": plan.facts.get("total_nodes", plan.total),
            "total_waves": len(plan.waves),
            "waves": [[node.id for node in wave] for wave in plan.waves],
            "wave_names": [[node.name for node in wave] for wave in plan.waves],
            **dict(plan.facts),
        },
    }


def _names(nodes: Iterable[NodeName]) -> list[dict[str, str]]:
    return [{"id": node.id, "name": node.name} for node in nodes]


def _left_out(group: LeftOut) -> dict[str, Any]:
    return {"reason": group.reason, "nodes": _names(group.nodes)}
