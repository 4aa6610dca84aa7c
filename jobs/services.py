"""Submits, stops and deletes jobs, and records the state that the scheduler derived."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Coalesce, Least
from django.utils import timezone

from access.models import Namespace, UsedNonce
from access.problems import Refused
from access.services import Actor, record_audit
from jobs.canonical import run_hash, spec_hash
from jobs.drafts import discard_draft
from jobs.events import EventDraft, write_events
from jobs.models import Job, JobVersion
from jobs.planning import SpecPlan, plan_spec
from jobs.signatures import VerifiedSignature
from jobs.spec import JobSpec
from jobs.states import JobState, may_move
from live.push import announce, ring
from nodes.selector import TargetKind

RECONCILE = "rollouts.reconcile_job"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A spec on its way in: parsed, with the text it came from and how it was asked for."""

    spec: JobSpec
    source_text: str = ""
    force: bool = False
    # The ETag the writer saw, "<job id>.<version>"; None when he does not care (C10).
    expected: str | None = None
    reason: str = ""
    # Signatures that held; their nonces are burnt when the job is stored (docs/semantics.md X36).
    signatures: tuple[VerifiedSignature, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    """What became of a submission."""

    job: Job
    version: JobVersion
    created: bool


def etag_of(job: Job) -> str:
    """Return what a writer names to say which version he saw (docs/semantics.md C10)."""
    return f"{job.pk}.{job.version}"


def current_job(namespace: str, name: str) -> Job | None:
    """Return the job that holds a name now, deleted ones aside."""
    return (
        Job.objects.filter(namespace_id=namespace, name=name)
        .exclude(state=JobState.DELETED)
        .first()
    )


def check_changes(job: Job, submission: Submission) -> str:
    """Return the cause of the new version: update or restart (docs/semantics.md 4.8 stage 11, X23).

    Raises Refused `no_changes`, `stale_revision`.
    """
    if submission.expected is not None and submission.expected != etag_of(job):
        raise Refused(
            "stale_revision",
            f"The job is at version {job.version} now.",
            hint="Read it again, carry your change over, and submit with the new ETag.",
        )
    newest = JobVersion.objects.get(job=job, number=job.version)
    if newest.spec_hash != spec_hash(submission.spec):
        return "update"
    if submission.force or job.state == JobState.STOPPED:
        return "restart"
    raise Refused(
        "no_changes",
        f"The spec equals version {job.version}.",
        hint="Change the spec, or submit with force to restart it as it is.",
    )


def check_nodes(spec: JobSpec, plan: SpecPlan) -> None:
    """Refuse one-shot work that nothing could run (docs/semantics.md 4.3, stage 8b).

    Raises Refused `ambiguous_target`, `no_matching_node`, `nodes_pending_enrolment`,
    `runner_unavailable`.
    """
    _check_one_named(spec, plan)
    if plan.eligible or not spec.is_one_shot or spec.timeouts.queue_timeout:
        return
    if plan.matched and plan.pending_enrolment == plan.matched:
        raise Refused(
            "nodes_pending_enrolment",
            f"All {plan.matched} matching nodes still await enrolment.",
            hint="Accept them under Nodes, then submit again.",
        )
    lacking = [left for left in plan.left_out if left.reason.startswith("lacks")]
    if lacking and sum(len(left.nodes) for left in lacking) == plan.matched:
        raise Refused("runner_unavailable", f"Every matching node {lacking[0].reason}.")
    raise Refused(
        "no_matching_node",
        "No node that can take work now matches the selector.",
        hint="Check the selector against the node list, or set timeouts.queue_timeout to wait.",
    )


def _check_one_named(spec: JobSpec, plan: SpecPlan) -> None:
    """Refuse a target by name that several nodes answer to (docs/semantics.md 4.3, X27)."""
    target = spec.effective_target
    named = [*plan.nodes, *(node for group in plan.left_out for node in group.nodes)]
    ids = target.narrow([node.id for node in named])
    if target.kind is TargetKind.NAME and len(ids) > 1:
        raise Refused(
            "ambiguous_target",
            f"{len(ids)} nodes are called {target.value}.",
            hint="Name one of them by its id.",
            details={"node_ids": sorted(ids)},
        )


def submit_job(actor: Actor, submission: Submission) -> Submitted:
    """Store a spec as a new job, or as the next version of the job of that name (docs/semantics.md 1.2).

    Permissions and the namespace have been checked. The rollout is started by the scheduler,
    which is rung on commit and finds the job due even when the ring is lost.
    Raises Refused.
    """
    spec, now = submission.spec, timezone.now()
    try:
        with transaction.atomic():
            job = _lock_by_name(spec.namespace, spec.name)
            cause = check_changes(job, submission) if job else "create"
            if job is None and submission.expected is not None:
                raise Refused("stale_revision", "The job does not exist any more.")
            check_nodes(spec, plan_spec(spec, job, run_hash=run_hash(spec)))
            created = job is None
            if job is None:
                job = _create_job(spec, actor, now)
            version = add_version(
                job,
                spec,
                cause=cause,
                source_text=submission.source_text,
                reason=submission.reason,
                created_by=actor.name,
                now=now,
            )
            if job.state == JobState.STOPPED:
                record_state(job, JobState.PENDING, "Submitted again", now=now)
            _burn_nonces(submission)
            _make_due(job, now)
            record_audit(
                actor,
                "job.submit",
                "job",
                str(job.pk),
                job.namespace_id,
                reason=submission.reason,
                details={"name": job.name, "version": version.number, "cause": cause},
            )
            if actor.user_id is not None:
                discard_draft(actor.user_id, job.pk)
    except IntegrityError as error:
        if "job_name_once_per_namespace" in str(error):
            raise Refused(
                "conflict",
                f"Another request has just created {spec.name}.",
                hint="Submit again to update it.",
            ) from error
        if "nonce_used_once" in str(error):
            raise Refused("signature_replayed", "Another request used this signature.") from error
        raise
    return Submitted(job=job, version=version, created=created)


def _burn_nonces(submission: Submission) -> None:
    """Use up the nonces; a constraint refuses the second of two requests at once."""
    UsedNonce.objects.bulk_create(
        UsedNonce(public_key=base64.b64encode(s.public_key).decode(), nonce=s.nonce)
        for s in submission.signatures
    )


def _lock_by_name(namespace: str, name: str) -> Job | None:
    if not Namespace.objects.filter(name=namespace).exists():
        raise Refused("unknown_namespace", f"There is no namespace {namespace}.")
    return (
        Job.objects.select_for_update(no_key=True)
        .filter(namespace_id=namespace, name=name)
        .exclude(state=JobState.DELETED)
        .first()
    )


def lock_job(job_id: UUID | str) -> Job:
    """Take the row lock under which everything about a job happens. Raises Job.DoesNotExist."""
    return Job.objects.select_for_update(no_key=True).get(pk=job_id)


def _create_job(spec: JobSpec, actor: Actor, now: datetime) -> Job:
    return Job.objects.create(
        namespace_id=spec.namespace,
        name=spec.name,
        job_type=spec.type,
        description=spec.description,
        labels=dict(spec.labels),
        priority=spec.priority,
        version=1,
        revision=1,
        state=JobState.PENDING,
        state_message="Accepted",
        pending_since=now,
        created_by=actor.name,
        updated_at=now,
    )


def add_version(
    job: Job,
    spec: JobSpec,
    *,
    cause: str,
    created_by: str,
    now: datetime,
    source_text: str = "",
    reason: str = "",
    rolled_back_from: int | None = None,
) -> JobVersion:
    """Make the next version of a locked job; version and revision rise by one together."""
    if cause != "create":
        job.version += 1
        job.revision += 1
    job.job_type = spec.type
    job.description = spec.description
    job.labels = dict(spec.labels)
    job.priority = spec.priority
    job.pending_since = now
    job.updated_at = now
    job.save(
        update_fields=[
            "version",
            "revision",
            "job_type",
            "description",
            "labels",
            "priority",
            "pending_since",
            "updated_at",
        ]
    )
    version = JobVersion.objects.create(
        job=job,
        number=job.version,
        spec=spec.to_json(),
        source_text=source_text,
        spec_hash=spec_hash(spec),
        run_hash=run_hash(spec),
        cause=cause,
        rolled_back_from=rolled_back_from,
        reason=reason[:1024],
        created_by=created_by,
        created_at=now,
    )
    write_events(
        [
            EventDraft(
                job_id=job.pk,
                namespace=job.namespace_id,
                job_version=job.version,
                kind="job.submitted",
                message=f"version {job.version} ({cause}) by {created_by}",
                details={"cause": cause, "reason": reason},
                at=now,
            )
        ]
    )
    announce("job", job.pk, job.revision)
    return version


def _make_due(job: Job, now: datetime) -> None:
    # What waits keeps its place.
    due_at = Least(Coalesce("reconcile_due_at", now), now)
    Job.objects.filter(pk=job.pk).update(reconcile_due_at=due_at)
    ring(RECONCILE, str(job.pk))


def record_state(
    job: Job,
    state: JobState,
    message: str,
    *,
    now: datetime,
    details: Mapping[str, Any] | None = None,
) -> bool:
    """Move a locked job to a state by the table of `jobs.states`; say whether anything changed.

    A change of state writes one event and raises the revision; a new message alone raises the
    revision. Raises ValueError for a step that the table does not allow.
    """
    details = dict(details or {})
    same = (job.state, job.state_message, job.state_details) == (state, message, details)
    if same:
        return False
    old = JobState(job.state)
    if not may_move(old, state):
        raise ValueError(f"job {job.pk} may not go from {old} to {state}")
    touched = Job.objects.filter(pk=job.pk, state=old).update(
        state=state,
        state_message=message[:1024],
        state_details=details,
        revision=F("revision") + 1,
        updated_at=now,
        deleted_at=now if state == JobState.DELETED else job.deleted_at,
    )
    if not touched:
        return False
    job.state, job.state_message, job.state_details = state, message[:1024], details
    job.revision += 1
    job.updated_at = now
    if old != state:
        write_events(
            [
                EventDraft(
                    job_id=job.pk,
                    namespace=job.namespace_id,
                    job_version=job.version,
                    kind="job.state",
                    message=message,
                    details={"old_state": old, "new_state": state, **details},
                    at=now,
                )
            ]
        )
    announce("job", job.pk, job.revision)
    return True


def stop_job(actor: Actor, job_id: UUID, reason: str = "") -> tuple[Job, bool]:
    """Want a job stopped everywhere; say whether that changed anything (docs/semantics.md 4.10, X85)."""
    with transaction.atomic():
        job = lock_job(job_id)
        _refuse_deleted(job)
        finished = job.state == JobState.STOPPED or (
            job.job_type in ("query", "update", "script")
            and job.state in (JobState.COMPLETED, JobState.FAILED)
        )
        if finished:
            return job, False
        now = timezone.now()
        record_state(job, JobState.STOPPED, f"Stopped by {actor.name}", now=now)
        _make_due(job, now)
        record_audit(actor, "job.stop", "job", str(job.pk), job.namespace_id, reason=reason)
    return job, True


def delete_job(actor: Actor, job_id: UUID, reason: str = "") -> Job:
    """Delete a job softly: its name is free at once, its history stays (docs/semantics.md 1.3, X56)."""
    with transaction.atomic():
        job = lock_job(job_id)
        _refuse_deleted(job)
        now = timezone.now()
        record_state(job, JobState.DELETED, f"Deleted by {actor.name}", now=now)
        _make_due(job, now)
        record_audit(actor, "job.delete", "job", str(job.pk), job.namespace_id, reason=reason)
    return job


def rerun_job(actor: Actor, job_id: UUID) -> Job:
    """Have the scheduler look at a job again (docs/semantics.md 1.12, X72, X73)."""
    with transaction.atomic():
        job = lock_job(job_id)
        _refuse_deleted(job)
        if job.state == JobState.STOPPED:
            raise Refused("job_stopped", "A stopped job is started by submitting its spec again.")
        now = timezone.now()
        Job.objects.filter(pk=job.pk).update(nodes_changed=True)
        _make_due(job, now)
        record_audit(actor, "job.rerun", "job", str(job.pk), job.namespace_id)
    return job


def _refuse_deleted(job: Job) -> None:
    if job.state == JobState.DELETED:
        raise Refused("job_deleted", f"{job.name} was deleted; only its history can be read.")
