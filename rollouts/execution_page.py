"""The boxes of an execution's page: head, windows, log, result, and its life."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import BigIntegerField, Max, OuterRef, Subquery, Sum, Value
from django.db.models.functions import Coalesce

from jobs.models import Event
from rollouts.board_tabs import EventRow, event_row
from rollouts.log_lines import LINE_MAX, LogLine, level_css, plain_lines
from rollouts.models import Execution, HealthWindow, LogChunk, Result
from rollouts.queries import error_percent, padded
from rollouts.sets import fetch
from rollouts.states import TERMINAL, ObservedState
from rollouts.terms import terms_of

NEWEST_EVENTS = 50
CHART_WINDOWS = 60
CHART_LEAST = 20
TABLE_WINDOWS = 12
LOG_LINES = 500


# An execution with all that its boxes name, and a revision that grows with all that they show.
Loaded = tuple[Execution, int]


def load_execution(row: Loaded | str | UUID) -> Loaded:
    """Return what the boxes are drawn from: as it was loaded, or by its id in one query."""
    if isinstance(row, tuple):
        return row
    newest = (
        LogChunk.objects.filter(execution=OuterRef("pk"))
        .order_by()
        .values("execution")
        .annotate(newest=Max("seq"))
        .values("newest")
    )
    execution = (
        Execution.objects.select_related("job", "version", "node", "rollout", "previous", "next")
        .annotate(
            written=Coalesce(
                Subquery(newest, output_field=BigIntegerField()),
                Value(0),
                output_field=BigIntegerField(),
            )
        )
        .get(pk=row)
    )
    return execution, execution.revision + execution.written


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionHead:
    """What it is, where it stands, what was before it and comes after it."""

    pk: UUID
    revision: int
    execution: Execution
    ran: timedelta | None
    tone: str
    glyph: str
    strong: str
    text: str


def head_view(row: Loaded | str | UUID) -> ExecutionHead:
    """Return the head of an execution's page."""
    execution, revision = load_execution(row)
    ended = execution.finished_at
    tone, glyph, strong, text = _alert(execution)
    return ExecutionHead(
        pk=execution.pk,
        revision=revision,
        execution=execution,
        ran=ended - execution.created_at if ended else None,
        tone=tone,
        glyph=glyph,
        strong=strong,
        text=text,
    )


def _alert(execution: Execution) -> tuple[str, str, str, str]:
    """Return tone, glyph, headline and text of what is wrong; empty when nothing is."""
    state, message = execution.observed_state, execution.observed_message
    if state not in (ObservedState.FAILED, ObservedState.LOST, ObservedState.DEGRADED):
        return "", "", "", ""
    last = (
        execution.windows.exclude(last_error="")
        .order_by("-number")
        .values_list("last_error", flat=True)
        .first()
    )
    text = f"Last error: {last}" if last else ""
    if state == ObservedState.DEGRADED:
        return "warn", "g-warn", f"Degraded: {message or 'its health windows are bad'}.", text
    if state == ObservedState.LOST:
        strong = f"Lost: {message or 'its node has been silent for too long'}."
        return "bad", "g-lost", strong, text
    return "bad", "g-bad", f"Failed: {message or execution.error_code}.", text


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowRow:
    """One health window."""

    window: HealthWindow
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowsView:
    """The last health windows, the oldest first, with the limits they are judged by."""

    pk: UUID
    revision: int
    rows: tuple[WindowRow, ...]
    rates: tuple[float | None, ...]
    charted: int
    count: int
    limit: float
    interval: float
    success_threshold: int
    failure_threshold: int
    is_watched: bool
    cpu: float | None
    rss: int | None


def windows_view(row: Loaded | str | UUID) -> WindowsView:
    """Return the health windows of an execution."""
    execution, revision = load_execution(row)
    terms = terms_of(execution.version)
    policy = terms.health
    found = list(execution.windows.order_by("-number")[:CHART_WINDOWS])[::-1]
    rows = [WindowRow(window=window, rate=error_percent(window)) for window in found]
    cpu = [w.cpu_percent for w in found if w.cpu_percent is not None]
    rss = [w.rss_bytes for w in found if w.rss_bytes is not None]
    return WindowsView(
        pk=execution.pk,
        revision=revision,
        rows=tuple(rows[-TABLE_WINDOWS:]),
        rates=padded([row.rate for row in rows], CHART_LEAST),
        charted=len(rows),
        count=execution.window_count,
        limit=float(policy.max_error_rate) * 100,
        interval=policy.interval.total_seconds(),
        success_threshold=policy.success_threshold,
        failure_threshold=policy.failure_threshold,
        is_watched=execution.job.job_type == "pipeline",
        cpu=max(cpu, default=None),
        rss=max(rss, default=None),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogView:
    """The end of a log."""

    pk: UUID
    revision: int
    lines: tuple[LogLine, ...]
    total: int
    is_over: bool
    short: str


def log_view(row: Loaded | str | UUID) -> LogView:
    """Return the last lines of an execution's log, however long it is; three queries."""
    execution, revision = load_execution(row)
    chunks = fetch(
        """
        SELECT stream, lines, at FROM (
            SELECT newest.*, sum(line_count) OVER (ORDER BY seq DESC) - line_count AS behind FROM (
                SELECT seq, stream, lines, line_count, at FROM rollouts_logchunk
                WHERE execution_id = %s ORDER BY seq DESC LIMIT %s
            ) newest
        ) counted WHERE behind < %s ORDER BY seq
        """,
        [execution.pk, LOG_LINES, LOG_LINES],
    )
    texts = [(stream, at, line) for stream, text, at in chunks for line in plain_lines(text)]
    total = execution.log_chunks.aggregate(total=Sum("line_count"))["total"] or 0
    shown = texts[-LOG_LINES:]
    first = max(total, len(shown)) - len(shown) + 1
    return LogView(
        pk=execution.pk,
        revision=revision,
        lines=tuple(
            LogLine(number=number, at=at, stream=stream, text=line[:LINE_MAX], css=level_css(line))
            for number, (stream, at, line) in enumerate(shown, start=first)
        ),
        total=max(total, len(shown)),
        is_over=execution.observed_state in TERMINAL,
        short=str(execution.pk)[-8:],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultView:
    """How it ended, or where it stands until then."""

    pk: UUID
    revision: int
    execution: Execution
    result: Result | None
    output: str
    error: str
    ran: timedelta | None
    # Then no result will come any more.
    has_ended: bool


def result_view(row: Loaded | str | UUID) -> ResultView:
    """Return the result of an execution."""
    execution, revision = load_execution(row)
    result = Result.objects.filter(execution=execution.pk).first()
    length = result.duration_ms if result else None
    return ResultView(
        pk=execution.pk,
        revision=revision,
        execution=execution,
        result=result,
        output=_tail(result.output) if result else "",
        error=_tail(result.error) if result else "",
        ran=timedelta(milliseconds=length) if length is not None else None,
        has_ended=execution.observed_state in TERMINAL,
    )


def _tail(text: str) -> str:
    """Return the end of an output without control sequences: it may be a megabyte long."""
    return "\n".join(plain_lines(text[-64 * LINE_MAX :])[-LOG_LINES:])


@dataclass(frozen=True, slots=True, kw_only=True)
class LifeView:
    """The events of an execution, the newest first."""

    pk: UUID
    revision: int
    rows: tuple[EventRow, ...]


def life_view(row: Loaded | str | UUID) -> LifeView:
    """Return the newest events of an execution."""
    execution, revision = load_execution(row)
    found: Any = Event.objects.select_related("job").filter(execution_id=execution.pk)
    rows = tuple(event_row(event) for event in found.order_by("-id")[:NEWEST_EVENTS])
    return LifeView(pk=execution.pk, revision=revision, rows=rows)
