"""Takes in what agents reported: any number of frames, one transaction, a fixed set of queries."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.utils import timezone

from agent.protocol import Frame
from rollouts.events import EventDraft
from rollouts.models import LogChunk, Result
from rollouts.observation import (
    Change,
    apply_ack,
    apply_result,
    apply_state,
    apply_window,
    is_late,
    judge_window,
)
from rollouts.reports import (
    AckSeen,
    BadReport,
    LogSeen,
    Report,
    ResultSeen,
    StateSeen,
    WindowSeen,
    read_report,
)
from rollouts.sets import as_array, fetch
from rollouts.subjects import Row, Subject, draft_event, load_subjects, store_subjects

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One frame and the node whose session it came through."""

    node_id: UUID
    frame: Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of a batch: what may be acknowledged, and what was dropped and why."""

    up_to: dict[UUID, int]
    dropped: Counter[str] = field(default_factory=Counter)


class Sender(NamedTuple):
    """What a node had told before this batch, and since when it is connected."""

    last_seq: int
    connected_since: datetime | None


@dataclass(slots=True)
class Harvest:
    """Everything that a batch leaves behind beside changed executions."""

    events: list[EventDraft] = field(default_factory=list)
    windows: list[tuple[object, ...]] = field(default_factory=list)
    logs: list[LogChunk] = field(default_factory=list)
    results: dict[UUID, Result] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)


def ingest(batch: Sequence[Incoming], now: datetime | None = None) -> Taken:
    """Apply frames in their order and commit; only then may they be acknowledged.

    Frames seen before, malformed, or about another node's execution are counted and dropped, and
    acknowledged all the same, so that nothing blocks.
    """
    now = now or timezone.now()
    reports, bad = _read(batch)
    with transaction.atomic():
        subjects = load_subjects({report.execution_id for _, _, report in reports})
        highest = _highest(batch)
        senders = _count_up(highest)
        harvest = Harvest(dropped=bad)
        for node_id, seq, report in reports:
            sender = senders.get(node_id)
            subject = subjects.get(report.execution_id)
            if sender is None or (seq and seq <= sender.last_seq):
                harvest.dropped["seen"] += 1
            elif subject is None or subject.row.node_id != node_id:
                harvest.dropped["foreign"] += 1
            else:
                _fold(subject, report, sender, harvest, now)
        store_subjects(subjects.values(), harvest.events, now)
        _store_harvest(harvest)
    if harvest.dropped:
        logger.info("dropped reports: %s", dict(harvest.dropped))
    up_to = highest | {
        node_id: sender.last_seq
        for node_id, sender in senders.items()
        if sender.last_seq > highest[node_id]
    }
    return Taken(up_to=up_to, dropped=harvest.dropped)


def _read(batch: Sequence[Incoming]) -> tuple[list[tuple[UUID, int, Report]], Counter[str]]:
    reports: list[tuple[UUID, int, Report]] = []
    bad: Counter[str] = Counter()
    for item in batch:
        try:
            reports.append((item.node_id, item.frame.seq, read_report(item.frame)))
        except BadReport as error:
            bad["malformed"] += 1
            logger.warning("node %s sent a bad %s: %s", item.node_id, item.frame.kind, error)
    return reports, bad


# --- Folding -------------------------------------------------------------------------------------


def _fold(
    subject: Subject, report: Report, sender: Sender, harvest: Harvest, now: datetime
) -> None:
    old, rules = subject.facts, subject.rules
    moved: Change | None = None
    match report:
        case AckSeen():
            known = apply_ack(subject.facts, report.desired_seq)
            moved = subject.take(known)
        case StateSeen():
            moved = subject.take(apply_state(old, rules, report, now))
        case WindowSeen():
            late = is_late(report, sender.connected_since, now)
            told = apply_window(old, rules, report, now, late=late)
            if told is not None:
                healthy, reason = judge_window(rules, report)
                harvest.windows.append(_window_row(subject.row, report, healthy, late, reason))
            moved = subject.take(told)
        case LogSeen():
            subject.has_more = True
            harvest.logs.append(_log_row(subject.row, report, now))
        case ResultSeen():
            subject.has_more = True
            harvest.results.setdefault(subject.row.pk, _result_row(subject.row, report))
            moved = subject.take(apply_result(old, rules, report, now))
    if moved is not None:
        harvest.events.append(draft_event(subject, old, now))


def _window_row(
    row: Row, seen: WindowSeen, healthy: bool, late: bool, reason: str
) -> tuple[object, ...]:
    # Times as texts, which the driver writes faster.
    return (
        *(row.pk, seen.number, str(seen.started_at), str(seen.ended_at), seen.messages_in),
        *(seen.messages_ok, seen.errors, seen.processor_errors, seen.output_errors),
        *(seen.process_alive, seen.restarts, seen.cpu_percent, seen.rss_bytes, seen.last_error),
        *(healthy, late, reason[:256]),
    )


def _log_row(row: Row, seen: LogSeen, now: datetime) -> LogChunk:
    return LogChunk(
        execution_id=row.pk,
        seq=seen.number,
        stream=seen.stream,
        lines=seen.text,
        line_count=seen.line_count,
        at=seen.at or now,
    )


def _result_row(row: Row, seen: ResultSeen) -> Result:
    return Result(
        execution_id=row.pk,
        status=seen.status,
        output=seen.output,
        error=seen.error,
        exit_code=seen.exit_code,
        changed=seen.changed,
        data=seen.data,
        truncated=seen.truncated,
        attempt=seen.attempt,
        started_at=seen.started_at,
        completed_at=seen.completed_at,
        duration_ms=seen.duration_ms,
    )


_COPY_WINDOWS = """
    COPY rollouts_healthwindow (execution_id, number, started_at, ended_at, messages_in,
        messages_ok, errors, processor_errors, output_errors, process_alive, restarts,
        cpu_percent, rss_bytes, last_error, is_healthy, is_late, reason) FROM STDIN
"""


def _store_harvest(harvest: Harvest) -> None:
    """Store what is only ever added; what is there already stays (first result, S17).

    A window is added only with the number that its execution's row had not reached yet.
    """
    if harvest.windows:
        # Django makes its own errors of the driver's in everything but COPY.
        with (
            connection.cursor() as cursor,
            connection.wrap_database_errors,
            cursor.copy(_COPY_WINDOWS) as copy,
        ):
            for window in harvest.windows:
                copy.write_row(window)
    LogChunk.objects.bulk_create(harvest.logs, ignore_conflicts=True)
    Result.objects.bulk_create(harvest.results.values(), ignore_conflicts=True)


# --- Nodes ---------------------------------------------------------------------------------------


def _highest(batch: Sequence[Incoming]) -> dict[UUID, int]:
    highest: dict[UUID, int] = {}
    for item in batch:
        seq = item.frame.seq
        if seq > highest.get(item.node_id, -1):
            highest[item.node_id] = seq
    return highest


def _count_up(highest: Mapping[UUID, int]) -> dict[UUID, Sender]:
    """Raise each node's number to what this batch brings and return what it was before.

    That also holds the rows, so that no frame of a node is taken in twice at once.
    """
    told = sorted(highest.items(), key=lambda pair: pair[0].int)
    rows = fetch(
        "UPDATE nodes_node n SET last_edge_seq_num = greatest(n.last_edge_seq_num, u.seq) "
        "FROM unnest(%s::uuid[], %s::bigint[]) AS u(id, seq) WHERE n.id = u.id "
        "RETURNING n.id, old.last_edge_seq_num, n.connected_since",
        [as_array(node_id.hex for node_id, _ in told), as_array(seq for _, seq in told)],
    )
    return {node_id: Sender(last_seq, since) for node_id, last_seq, since in rows}
