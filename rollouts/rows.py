"""The rows of the lists of rollouts and executions, with what a page shows of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Case, Q, QuerySet, When
from django.http import QueryDict

from access.problems import Refused
from access.queries import Person, namespaces_for, require
from access.rest import paginate, read_page
from jobs.models import Job
from nodes.models import Node
from rollouts.board import badge_of
from rollouts.marks import Wave, waves_of
from rollouts.models import Execution, Rollout
from rollouts.queries import READ
from rollouts.states import DesiredState, ObservedState, PauseReason, RolloutState
from rollouts.tally import count_marks_of
from rollouts.terms import terms_of

# A bar of waves with more parts than this would be dust: it is drawn as one.
_MOST_PARTS = 30
_GAP = 0.7
_FILLS = {
    "stable": "ok",
    "restored": "ok",
    "degraded": "warn",
    "validating": "active",
    "starting": "active",
    "old": "off",
    "deferred": "off",
    "lost": "bad",
    "failed": "bad",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rect:
    """One rectangle of a small bar; x and width in percent."""

    fill: str
    x: str
    width: str
    y: int
    height: int


def wave_bar(waves: Sequence[Wave]) -> tuple[Rect, ...]:
    """Return the rectangles of a small bar: a line for each wave and what is done above it.

    A rollout without waves, since all of its nodes were as they should be, shows those.
    """
    sized = [wave for wave in waves if wave.size]
    shown = [wave for wave in sized if wave.is_wave] or sized
    if len(shown) > _MOST_PARTS:
        shown = [Wave.together(shown)]
    total = sum(wave.size for wave in shown)
    if not total:
        return ()
    scale = (100 - _GAP * (len(shown) - 1)) / total
    rects, at = [], 0.0
    for wave in shown:
        rects.append(_rect("track", at, wave.size * scale, y=8, height=2))
        x = at
        for kind, count in wave.segments:
            if kind in _FILLS:
                rects.append(_rect(_FILLS[kind], x, count * scale, y=0, height=7))
                x += count * scale
        at += wave.size * scale + _GAP
    return tuple(rects)


def _rect(fill: str, x: float, width: float, *, y: int, height: int) -> Rect:
    return Rect(fill=fill, x=f"{x:.2f}", width=f"{width:.2f}", y=y, height=height)


def example_bar() -> tuple[Rect, ...]:
    """Return the bar of a rollout that nobody ran: what newcomers are shown."""
    waves = (
        {"stable": 3},
        {"stable": 9, "validating": 4, "waiting": 2},
        {"waiting": 15},
        {"waiting": 12},
    )
    return wave_bar([Wave(title="", label="", counts=counts) for counts in waves])


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRow:
    """One rollout of a list."""

    pk: UUID
    job_pk: UUID
    job_name: str
    namespace: str
    from_version: int
    to_version: int
    kind: str
    word: str
    bar: tuple[Rect, ...]
    updated: int
    failed: int
    total: int
    waiting: str
    started_by: str
    started_at: datetime
    completed_at: datetime | None


def rollout_rows(rollouts: Sequence[Rollout]) -> tuple[RolloutRow, ...]:
    """Return the rows of rollouts (job and version loaded); one query for all their waves."""
    counts = count_marks_of(rollouts)
    return tuple(_rollout_row(rollout, counts.get(rollout.pk, ())) for rollout in rollouts)


def _rollout_row(rollout: Rollout, counts: Any) -> RolloutRow:  # noqa: ANN401 - of count_marks_of
    kind, word = badge_of(rollout)
    terms = terms_of(rollout.version, rollout.strategy)
    return RolloutRow(
        pk=rollout.pk,
        job_pk=rollout.job_id,
        job_name=rollout.job.name,
        namespace=rollout.namespace,
        from_version=rollout.rollback_to_version,
        to_version=rollout.version.number,
        kind=kind,
        word=word,
        bar=wave_bar(waves_of(rollout, terms, counts)),
        updated=rollout.updated_nodes,
        failed=rollout.failed_nodes,
        total=rollout.total_nodes,
        waiting=str(rollout.waiting_on.get("reason", "")),
        started_by=rollout.started_by,
        started_at=rollout.started_at,
        completed_at=rollout.completed_at,
    )


# --- Lists ---------------------------------------------------------------------------------------

ROLLOUT_FILTERS = ("namespace", "state", "job")
EXECUTION_FILTERS = ("namespace", "job", "node", "state", "version", "rollout")
# What the list of rollouts can be narrowed to, beside all: the states, and one reason to wait.
ROLLOUT_STATES = (
    RolloutState.ACTIVE,
    PauseReason.AWAITING_PROMOTION,
    RolloutState.PAUSED,
    RolloutState.COMPLETED,
    RolloutState.HALTED,
    RolloutState.CANCELLED,
    RolloutState.SUPERSEDED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutList:
    """One page of rollouts, and the token of the next."""

    rows: tuple[RolloutRow, ...]
    next_token: str


def list_rollouts(user: Person, namespaces: Sequence[str], params: QueryDict) -> RolloutList:
    """Return a page of the rollouts of some namespaces that the user may read, newest first.

    Raises Refused as access.rest.read_page does.
    """
    page = read_page(params, filters=ROLLOUT_FILTERS, orders=("started_at",))
    rows = Rollout.objects.select_related("job", "version").filter(
        namespace__in=set(namespaces) & set(namespaces_for(user, READ))
    )
    state, job = params.get("state", ""), params.get("job", "").strip()
    if state == PauseReason.AWAITING_PROMOTION:
        rows = rows.filter(state=RolloutState.PAUSED, pause_reason=state)
    elif state:
        rows = rows.filter(state=state)
    if job:
        rows = rows.filter(job__name__icontains=job)
    found, token = paginate(rows, page)
    return RolloutList(rows=rollout_rows(found), next_token=token)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionList:
    """One page of executions, and the token of the next."""

    rows: tuple[Execution, ...]
    next_token: str


def list_executions(user: Person, namespaces: Sequence[str], params: QueryDict) -> ExecutionList:
    """Return a page of the executions of some namespaces that the user may read, newest first.

    Raises Refused as access.rest.read_page does.
    """
    page = read_page(params, filters=EXECUTION_FILTERS, orders=("created_at",))
    rows = executions_of(set(namespaces) & set(namespaces_for(user, READ)))
    found, token = paginate(_narrowed(rows, params), page)
    return ExecutionList(rows=tuple(found), next_token=token)


def executions_of(namespaces: set[str]) -> QuerySet[Execution]:
    """Return the executions of some namespaces with what a row names."""
    rows = Execution.objects.select_related("job", "node").filter(namespace__in=namespaces)
    return rows.only(
        *("namespace", "job_version", "observed_state", "observed_message", "error_code"),
        *("desired_state", "rollout_wave", "rollout_id", "restarts", "created_at", "finished_at"),
        *("stable_at", "job__name", "node__name"),
    )


def _narrowed(rows: QuerySet[Execution], params: QueryDict) -> QuerySet[Execution]:
    job, node = params.get("job", "").strip(), params.get("node", "").strip()
    if job:
        rows = rows.filter(job__name__icontains=job)
    if node:
        node_id = _uuid(node)
        rows = rows.filter(node=node_id) if node_id else rows.filter(node__name__icontains=node)
    if params.get("state"):
        rows = rows.filter(observed_state=params["state"])
    version = params.get("version", "").strip().removeprefix("v")
    if version:
        is_number = version.isascii() and version.isdigit() and len(version) < 10
        rows = rows.filter(job_version=int(version)) if is_number else rows.none()
    if params.get("rollout"):
        rows = rows.filter(rollout=_uuid(str(params["rollout"])), rollout__isnull=False)
    return rows


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


EXECUTION_STATES = tuple(ObservedState)


# --- What pages of jobs and nodes load ------------------------------------------------------------

PANEL_ROLLOUTS = 5
PANEL_EXECUTIONS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPanel:
    """What a job's page shows of rollouts and executions."""

    job_pk: UUID
    job_name: str
    rollouts: tuple[RolloutRow, ...]
    executions: tuple[Execution, ...]
    is_moving: bool
    is_cut: bool


def panel_of(user: Person, job_pk: UUID) -> JobPanel:
    """Return the panel of a job: newest rollouts, and executions that fail or should run.

    Raises Refused `not_found`, `forbidden`.
    """
    job = _job_for(user, job_pk)
    rollouts = list(
        Rollout.objects.select_related("job", "version")
        .filter(job=job)
        .order_by("-started_at", "-id")[:PANEL_ROLLOUTS]
    )
    newest = rollouts[0].pk if rollouts else None
    current = Q(desired_state=DesiredState.RUNNING) | Q(rollout=newest, rollout__isnull=False)
    found = list(
        executions_of({job.namespace_id})
        .filter(current, job=job)
        .order_by("-created_at", "-id")[: PANEL_EXECUTIONS + 1]
    )
    return JobPanel(
        job_pk=job.pk,
        job_name=job.name,
        rollouts=rollout_rows(rollouts),
        executions=tuple(found[:PANEL_EXECUTIONS]),
        is_moving=any(row.completed_at is None for row in rollouts),
        is_cut=len(found) > PANEL_EXECUTIONS,
    )


def _job_for(user: Person, job_pk: UUID) -> Job:
    job = Job.objects.filter(pk=job_pk).first()
    if job is None:
        raise Refused("not_found", "There is no such job, or you may not see it.")
    require(user, READ, job.namespace_id)
    return job


def newest_rollout_of(user: Person, job_pk: UUID) -> UUID:
    """Return the newest rollout of a job. Raises Refused `not_found`, `forbidden`."""
    job = _job_for(user, job_pk)
    newest = Rollout.objects.filter(job=job).order_by("-started_at", "-id")
    found = newest.values_list("pk", flat=True).first()
    if found is None:
        raise Refused("not_found", "This job has no rollout yet.")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePanel:
    """What a node's page shows of executions."""

    node_pk: UUID
    executions: tuple[Execution, ...]


def node_panel_of(user: Person, node_pk: UUID) -> NodePanel:
    """Return the newest executions of a node, those that should run first.

    Raises Refused `not_found`, `forbidden`.
    """
    node = Node.objects.filter(pk=node_pk).first()
    if node is None:
        raise Refused("not_found", "There is no such node, or you may not see it.")
    require(user, READ, node.namespace_id)
    wanted = Case(When(desired_state=DesiredState.RUNNING, then=0), default=1)
    found = executions_of({node.namespace_id}).filter(node=node)
    rows = found.order_by(wanted, "-created_at", "-id")[:PANEL_EXECUTIONS]
    return NodePanel(node_pk=node.pk, executions=tuple(rows))
