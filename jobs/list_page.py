"""The page of all jobs: filters, one page of rows, and what to say when there are none."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.db.models import Count, QuerySet
from django.http import QueryDict

from access.problems import Refused
from access.queries import Person, may, namespaces_for
from access.rest import list_parameter, paginate, read_page
from jobs.models import Job
from jobs.planning import rollout_states
from jobs.queries import jobs_for
from jobs.spec import JOB_TYPES
from jobs.states import JobState

FILTERS = ("q", "state", "type", "labels", "namespace")
MOST_AT_ONCE = 200
# The states that a reader looks for first, then the calm ones.
STATES = (
    JobState.PENDING,
    JobState.DEPLOYING,
    JobState.ROLLOUT_PAUSED,
    JobState.ROLLOUT_FAILED,
    JobState.DEGRADED,
    JobState.FAILED,
    JobState.QUEUED,
    JobState.RUNNING,
    JobState.COMPLETED,
    JobState.STOPPED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutCell:
    """How far the active rollout of a job is."""

    pk: str
    kind: str
    where: str
    updated: int
    failed: int
    total: int

    @property
    def parts(self) -> tuple[tuple[str, int, str], ...]:
        """What the bar of the row is made of."""
        return ("ok", self.updated, "updated"), ("bad", self.failed, "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """One job in the list."""

    pk: UUID
    namespace: str
    name: str
    job_type: str
    state: str
    message: str
    version: int
    updated_at: datetime
    rollout: RolloutCell | None
    may_write: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChip:
    """One state with how many of the filtered jobs are in it."""

    state: str
    count: int
    is_on: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ListView:
    """The list's page; `empty` says why there are no rows: "none", "unmatched" or "barred"."""

    rows: tuple[JobRow, ...]
    chips: tuple[StateChip, ...]
    total: int
    q: str
    labels: str
    labels_error: str
    job_type: str
    state: str
    order_by: str
    is_descending: bool
    next_query: str
    is_later_page: bool
    empty: str
    may_write: bool
    with_namespace: bool
    types: tuple[str, ...] = JOB_TYPES

    @property
    def is_filtered(self) -> bool:
        """Say whether anything narrows the list."""
        return bool(self.q or self.labels or self.job_type or self.state)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Filter:
    """What the list is narrowed to."""

    q: str
    labels: str
    job_type: str
    states: tuple[str, ...]


def list_view(user: Person, params: QueryDict, namespaces: tuple[str, ...]) -> ListView:
    """Return one page of the jobs in some namespaces: five queries for any number of rows.

    Raises Refused for paging parameters that are wrong; a label filter that cannot be read is
    shown at its field.
    """
    page = read_page(
        params, filters=FILTERS, orders=("name", "updated_at", "created_at"), is_descending=False
    )
    asked = _read_filter(params)
    labels_error = ""
    try:
        every, chosen = (_jobs(user, namespaces, asked, states) for states in ((), asked.states))
    except Refused as refused:
        labels_error = refused.detail
        every = chosen = Job.objects.none()
    counts = dict(every.order_by().values_list("state").annotate(n=Count("pk")))
    found, token = paginate(chosen, page)
    kept = {name: params[name] for name in params if name != "next_token"}
    is_narrowed = bool(asked.q or asked.labels or asked.job_type or asked.states)
    return ListView(
        rows=tuple(_rows(user, found)),
        chips=tuple(_chips(counts, asked.states)),
        total=sum(counts.values()),
        q=asked.q,
        labels=asked.labels,
        labels_error=labels_error,
        job_type=asked.job_type,
        state=",".join(asked.states),
        order_by=page.order_by,
        is_descending=page.is_descending,
        next_query=urlencode(kept | {"next_token": token}) if token else "",
        is_later_page="next_token" in params,
        empty="" if found else _why_empty(user, is_narrowed=is_narrowed),
        may_write=any(may(user, "job:write", name) for name in namespaces),
        with_namespace=len(namespaces) > 1,
    )


def _read_filter(params: QueryDict) -> _Filter:
    q, labels, job_type = (params.get(name, "").strip() for name in ("q", "labels", "type"))
    return _Filter(q=q, labels=labels, job_type=job_type, states=list_parameter(params, "state"))


def _jobs(
    user: Person, namespaces: tuple[str, ...], asked: _Filter, states: tuple[str, ...]
) -> QuerySet[Job]:
    if not namespaces:
        return Job.objects.none()
    return jobs_for(
        user,
        namespaces=namespaces,
        types=(asked.job_type,) if asked.job_type else (),
        states=states,
        labels=asked.labels,
        name=asked.q,
    )


def _why_empty(user: Person, *, is_narrowed: bool) -> str:
    if not namespaces_for(user, "job:read"):
        return "barred"
    return "unmatched" if is_narrowed else "none"


def _chips(counts: Mapping[str, int], asked: tuple[str, ...]) -> Iterator[StateChip]:
    for state in STATES:
        if counts.get(state) or state in asked:
            yield StateChip(state=state, count=counts.get(state, 0), is_on=state in asked)


def _rows(user: Person, jobs: list[Job]) -> Iterator[JobRow]:
    states = rollout_states([job.pk for job in jobs])
    for job in jobs:
        yield JobRow(
            pk=job.pk,
            namespace=job.namespace_id,
            name=job.name,
            job_type=job.job_type,
            state=job.state,
            message=job.state_message,
            version=job.version,
            updated_at=job.updated_at,
            rollout=_cell(states.get(job.pk)),
            may_write=may(user, "job:write", job.namespace_id),
        )


def _cell(state: Mapping[str, Any] | None) -> RolloutCell | None:
    if not state:
        return None
    kind = str(state["status"])
    if kind == "paused" and state["pause_reason"] == "awaiting_promotion":
        kind = "awaiting_promotion"
    wave, waves = state["current_wave"], state["total_waves"]
    is_open = kind in {"active", "paused", "awaiting_promotion"}
    return RolloutCell(
        pk=str(state["id"]),
        kind=kind,
        where=f"wave {wave} of {waves}" if is_open and waves and waves > 1 else "",
        updated=int(state["updated_nodes"]),
        failed=int(state["failed_nodes"]),
        total=int(state["total_nodes"]),
    )


def chosen_jobs(user: Person, ids: Collection[UUID]) -> tuple[Job, ...]:
    """Return those of some jobs that a person may stop, by name; the others are left out."""
    writable = namespaces_for(user, "job:write")
    jobs = Job.objects.filter(pk__in=list(ids)[:MOST_AT_ONCE], namespace_id__in=writable)
    return tuple(jobs.exclude(state=JobState.DELETED).order_by("namespace", "name", "pk"))


def count_jobs(user: Person, namespaces: tuple[str, ...]) -> int:
    """Count for the rail."""
    return jobs_for(user, namespaces=namespaces).count() if namespaces else 0
