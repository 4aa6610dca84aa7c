"""The page of one job: its live boxes, its buttons, and what its tabs show."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from django.db.models import QuerySet
from django.http import QueryDict

from access.queries import Person, may
from access.rest import paginate, read_page
from jobs.changes import Difference, difference, spec_of
from jobs.durations import format_duration
from jobs.models import Event, Job
from jobs.queries import events_of, versions_of
from jobs.spec import JobSpec
from jobs.states import MEANINGS, JobState
from live.tones import tone_of
from nodes.models import Node

READ = "job:read"
WRITE = "job:write"
# A row that views hand on without looking into the database themselves.
AnyJob: TypeAlias = Job
_ENDED = (JobState.COMPLETED, JobState.FAILED)
_ONE_SHOT = ("query", "update", "script")


# --- Live boxes ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadView:
    """What the job is and how it stands."""

    pk: UUID
    revision: int
    namespace: str
    name: str
    job_type: str
    description: str
    state: str
    message: str
    meaning: str
    version: int
    stable_version: int | None
    updated_at: datetime


def head_view(pk: str | UUID) -> HeadView:
    """Return the head of a job's page. Its revision grows with each event and each change."""
    job = Job.objects.get(pk=pk)
    return HeadView(
        pk=job.pk,
        revision=job.revision + job.event_seq,
        namespace=job.namespace_id,
        name=job.name,
        job_type=job.job_type,
        description=job.description,
        state=job.state,
        message=job.state_message,
        meaning=MEANINGS[JobState(job.state)],
        version=job.version,
        stable_version=job.stable_version,
        updated_at=job.updated_at,
    )


def may_read_job(user: Person, pk: str) -> bool:
    """Say whether a person may look at a job."""
    namespace = Job.objects.filter(pk=pk).values_list("namespace_id", flat=True).first()
    return namespace is not None and may(user, READ, namespace)


# --- Buttons -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Controls:
    """The buttons of a job; a text in `no_…` says why one may not be pressed now."""

    pk: UUID
    namespace: str
    name: str
    no_edit: str
    no_rerun: str
    no_stop: str
    no_delete: str
    no_rollback: str
    # The destructive one that is being asked about: "stop", "delete" or "".
    asked: str = ""
    consequence: str = ""


def controls_of(user: Person, job: Job, asked: str = "") -> Controls:
    """Return the buttons of a job for a person."""
    barred = ""
    if job.state == JobState.DELETED:
        barred = "The job was deleted; only its history can be read."
    elif not may(user, WRITE, job.namespace_id):
        barred = f"Needs the permission {WRITE} in namespace {job.namespace_id}."
    no_stop = barred
    if not no_stop and job.state == JobState.STOPPED:
        no_stop = "It is stopped."
    elif not no_stop and job.job_type in _ONE_SHOT and job.state in _ENDED:
        no_stop = "It has ended by itself."
    no_rerun = barred
    if not no_rerun and job.state == JobState.STOPPED:
        no_rerun = "A stopped job is started by submitting its spec again: use Edit."
    no_rollback = barred
    if not no_rollback and job.stable_version is None:
        no_rollback = "There is no earlier version whose rollout completed."
    is_asked = (asked == "stop" and not no_stop) or (asked == "delete" and not barred)
    return Controls(
        pk=job.pk,
        namespace=job.namespace_id,
        name=job.name,
        no_edit=barred,
        no_rerun=no_rerun,
        no_stop=no_stop,
        no_delete=barred,
        no_rollback=no_rollback,
        asked=asked if is_asked else "",
        consequence=f"Version {job.version} ends on every node. {job.state_message}.".replace(
            "..", "."
        ),
    )


# --- Overview ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The spec in words."""

    selector: str
    labels: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str], ...]
    created_by: str
    created_at: datetime
    cause: str
    reason: str
    change: Difference | None


def overview_of(job: Job) -> Overview:
    """Return what the newest version of a job says, in words."""
    pair = list(versions_of(job).filter(number__gte=job.version - 1).order_by("-number"))
    spec = spec_of(pair[0])
    return Overview(
        selector=spec.node_selector.describe(),
        labels=tuple(sorted(spec.labels.items())),
        facts=tuple(_facts(spec)),
        created_by=pair[0].created_by,
        created_at=pair[0].created_at,
        cause=pair[0].cause,
        reason=pair[0].reason,
        change=difference(spec_of(pair[1]), spec) if len(pair) > 1 else None,
    )


def _facts(spec: JobSpec) -> Iterator[tuple[str, str]]:
    rollout = spec.effective_rollout
    pace = f"{rollout.max_parallel}% a wave"
    canary = f"{rollout.canary_percent}%" if rollout.canary_percent else rollout.canary_count or 1
    yield (
        "Strategy",
        {"immediate": "all nodes at once", "rolling": f"rolling, {pace}"}.get(
            rollout.strategy, f"canary {canary}, then {pace}"
        ),
    )
    if check := rollout.health_check:
        windows = f"{format_duration(check.interval)} windows, {check.success_threshold} good or "
        limit = f"{check.failure_threshold} bad, errors up to {check.max_error_rate:.1%}"
        yield "Health", windows + limit
        yield "Deadline", format_duration(check.deadline)
    if not spec.is_one_shot:
        yield (
            "Failures",
            f"{rollout.max_failed_nodes} nodes or {rollout.max_failed_nodes_percent:g}%",
        )
        yield "Rollback", "by hand only" if rollout.no_auto_rollback else "automatic"
    yield "Restart", spec.effective_restart_policy.replace("-", " ")
    yield "Priority", str(spec.priority)
    if spec.effective_execution_timeout:
        yield "Time limit", f"{spec.effective_execution_timeout} s"


# --- History -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One thing that happened to a job."""

    seq: int
    at: datetime
    kind: str
    message: str
    version: int
    rollout_pk: UUID | None
    execution_pk: UUID | None
    node_pk: UUID | None
    node: str
    tone: str
    glyph: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryView:
    """One page of events, newest first."""

    rows: tuple[EventRow, ...]
    next_token: str


def history_view(job: Job, params: QueryDict) -> HistoryView:
    """Return a page of what happened to a job: two queries."""
    page = read_page(params, filters=("tab", "confirm"), orders=("id",))
    events: QuerySet[Event] = events_of(job)
    found, token = paginate(events, page)
    node_ids = {event.node_id for event in found if event.node_id}
    names = dict(Node.objects.filter(pk__in=node_ids).values_list("pk", "name"))
    rows = tuple(_event_row(event, names) for event in found)
    return HistoryView(rows=rows, next_token=token)


def _event_row(event: Event, names: Mapping[UUID, str]) -> EventRow:
    state = event.details.get("new_state")
    look: Any = tone_of(str(state), event.kind.partition(".")[0]) if state else None
    return EventRow(
        seq=event.job_seq,
        at=event.at,
        kind=event.kind,
        message=event.message or event.kind,
        version=event.job_version,
        rollout_pk=event.rollout_id,
        execution_pk=event.execution_id,
        node_pk=event.node_id,
        node=names.get(event.node_id, "") if event.node_id else "",
        tone=look.tone if look else "off",
        glyph=look.glyph if look else "g-dot",
    )
