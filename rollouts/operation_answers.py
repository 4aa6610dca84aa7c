"""The page of a call: what was asked, and one card for each node with what it answered."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import Case, CharField, Count, IntegerField, Value, When

from access.problems import Refused
from jobs.models import Job, JobVersion
from jobs.spec import JobSpec
from jobs.states import JobState
from nodes.operations import OPERATIONS, Kind
from rollouts.log_lines import LINE_MAX, plain_lines
from rollouts.models import Execution, Result
from rollouts.operation_data import Block, Room, blocks_of, raw_of
from rollouts.operation_texts import Wish, again_query, command_of, shown_params
from rollouts.states import LIVE, ObservedState

CARDS_SHOWN = 200
LINES_SHOWN = 500
# What readers look for first; each is a row of live.tones under "answer".
KINDS = ("failed", "waiting", "running", "skipped", "ok")
_OPEN = ("waiting", "running")
_ENDED = (JobState.COMPLETED, JobState.FAILED, JobState.STOPPED, JobState.DELETED)
# It agrees with rollouts.operate: what has completed has a result, which may come a moment later.
_KIND = Case(
    When(observed_state=ObservedState.PENDING, then=Value("waiting")),
    When(observed_state__in=sorted(LIVE), then=Value("running")),
    When(observed_state=ObservedState.COMPLETED, result__isnull=True, then=Value("running")),
    When(result__status="completed", then=Value("ok")),
    When(result__status="skipped", then=Value("skipped")),
    default=Value("failed"),
    output_field=CharField(),
)
_RANK = Case(
    *(When(kind=kind, then=Value(rank)) for rank, kind in enumerate(KINDS)),
    output_field=IntegerField(),
)
# The time that it took is told beside the node's name.
_TOLD_ELSEWHERE = frozenset({"duration_ms"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CallView:
    """What was asked: operation, target, parameters without secrets; and how to ask it again."""

    pk: UUID
    job_name: str
    operation: str
    kind: str
    namespace: str
    target: str
    params: tuple[tuple[str, str], ...]
    created_by: str
    created_at: datetime
    reason: str
    again: str
    command: str


def call_view(job: Job, here: str) -> CallView:
    """Return what a call asked for: one query. `here` is the address of this server.

    Raises Refused `not_found` for a job that is no call of an operation.
    """
    version = JobVersion.objects.get(job=job, number=job.version)
    config = version.spec.get("config", {})
    operation = OPERATIONS.get(str(config.get("operation", "")))
    if operation is None or job.job_type not in set(Kind):
        raise Refused("not_found", "There is no such call, or you may not see it.")
    params = config.get("params") or {}
    selector = version.spec.get("selector") or {}
    # One with a selector of its own is no call that the form or an address could make again.
    is_call = not selector.keys() - {"target"}
    spec = JobSpec.model_validate(version.spec)
    target = str(spec.effective_target) if is_call else spec.node_selector.describe()
    wish = Wish(operation=operation, target=target, namespace=job.namespace_id, params=params)
    return CallView(
        pk=job.pk,
        job_name=job.name,
        operation=operation.name,
        kind=operation.kind,
        namespace=job.namespace_id,
        target=target,
        params=shown_params(operation, params),
        created_by=version.created_by,
        created_at=version.created_at,
        reason=version.reason,
        again=again_query(wish) if is_call else "",
        command=command_of(here, wish) if is_call else "",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One node: how it stands, and what it answered."""

    execution_pk: UUID
    node_pk: UUID
    node_name: str
    kind: str
    # "changed", "unchanged" or "": a query changes nothing.
    change: str
    ran: timedelta | None
    # Why it failed, or what it waits for.
    message: str
    error_code: str
    exit_code: int | None
    stdout: tuple[str, ...]
    stderr: tuple[str, ...]
    is_output_cut: bool
    blocks: tuple[Block, ...]
    has_data: bool
    raw: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswersView:
    """All cards, what failed first, and how many nodes stand where."""

    pk: UUID
    job_name: str
    cards: tuple[Card, ...]
    counts: tuple[tuple[str, int], ...]
    total: int
    answered: int
    is_all_in: bool
    # Why there is nothing to show.
    message: str

    @property
    def more(self) -> int:
        """How many nodes have no card here."""
        return self.total - len(self.cards)


def answers_view(job: Job) -> AnswersView:
    """Return what the nodes of a call have answered so far: three queries."""
    asked = Execution.objects.filter(job=job).order_by().annotate(kind=_KIND)
    counted = dict(asked.values_list("kind").annotate(n=Count("pk")))
    waiting = sum(counted.get(kind, 0) for kind in _OPEN)
    total = sum(counted.values())
    return AnswersView(
        pk=job.pk,
        job_name=job.name,
        cards=_cards(job),
        counts=tuple((kind, counted[kind]) for kind in KINDS if kind in counted),
        total=total,
        answered=total - waiting,
        is_all_in=not waiting and (total > 0 or job.state in _ENDED),
        message=job.state_message,
    )


def _cards(job: Job) -> tuple[Card, ...]:
    executions = Execution.objects.filter(job=job).annotate(kind=_KIND).annotate(rank=_RANK)
    rows = list(
        executions.select_related("node")
        .only("observed_state", "observed_message", "error_code", "node__name")
        .order_by("rank", "node__name", "pk")[:CARDS_SHOWN]
    )
    found = Result.objects.in_bulk([row.pk for row in rows if row.kind not in _OPEN])
    room = Room()
    return tuple(_card(row, row.kind, found.get(row.pk), room) for row in rows)


def _card(row: Execution, kind: str, result: Result | None, room: Room) -> Card:
    data = _data_of(result)
    length = result.duration_ms if result else None
    is_command = result is not None and result.exit_code is not None
    error = result.error if result else ""
    return Card(
        execution_pk=row.pk,
        node_pk=row.node_id,
        node_name=row.node.name,
        kind=kind,
        change=_change_of(result),
        ran=timedelta(milliseconds=length) if length is not None else None,
        # How a command ended, its exit code and what it wrote say.
        message="" if is_command else _message(row, kind, error),
        error_code=row.error_code if kind == "failed" and not is_command else "",
        exit_code=result.exit_code if result else None,
        stdout=_lines(result.output) if result else (),
        stderr=_lines(error) if is_command or kind == "ok" else (),
        is_output_cut=bool(result and result.truncated),
        blocks=blocks_of(data, room),
        has_data=data not in (None, {}, []),
        raw=raw_of(data, room),
    )


def _data_of(result: Result | None) -> object:
    data = result.data if result else None
    if isinstance(data, dict):
        return {name: value for name, value in data.items() if name not in _TOLD_ELSEWHERE}
    return data


def _change_of(result: Result | None) -> str:
    if result is None or result.changed is None:
        return ""
    return "changed" if result.changed else "unchanged"


def _message(row: Execution, kind: str, error: str) -> str:
    if kind == "ok":
        return ""
    if kind in _OPEN:
        return row.observed_message
    text = "\n".join(plain_lines(error[:LINE_MAX])).strip() or row.observed_message
    return text or ("The node did not answer." if kind == "failed" else "")


def _lines(text: str) -> tuple[str, ...]:
    """Return the end of what a command wrote, without control sequences."""
    lines = plain_lines(text[-64 * LINE_MAX :].rstrip("\n"))
    return tuple(line[:LINE_MAX] for line in lines[-LINES_SHOWN:]) if text.strip() else ()
