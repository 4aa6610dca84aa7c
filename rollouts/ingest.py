"""Takes in what agents reported: any number of frames, one transaction, a fixed set of queries."""

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from agent.protocol import Frame
from nodes.models import Node
from rollouts.delivery import rules_of
from rollouts.events import EventDraft
from rollouts.models import Execution, HealthWindow, LogChunk, Result
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
from rollouts.sets import change
from rollouts.subjects import Subject, draft_event, load_subjects, store_subjects

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


@dataclass(slots=True)
class Harvest:
    """Everything that a batch leaves behind beside changed executions."""

    events: list[EventDraft] = field(default_factory=list)
    windows: list[HealthWindow] = field(default_factory=list)
    logs: list[LogChunk] = field(default_factory=list)
    results: dict[UUID, Result] = field(default_factory=dict)
    dropped: Counter[str] = field(default_factory=Counter)


def ingest(batch: Sequence[Incoming], now: datetime | None = None) -> Taken:
    """Apply frames in their order and commit; only then may they be acknowledged.

    Frames seen before, malformed, or about another node's execution are counted and dropped, and
    acknowledged all the same, so that nothing blocks (reliability.md S17, F11, F16).
    """
    now = now or timezone.now()
    reports, bad = _read(batch)
    with transaction.atomic():
        subjects = load_subjects({report.execution_id for _, _, report in reports})
        nodes = _lock_nodes({item.node_id for item in batch})
        harvest = Harvest(dropped=bad)
        for node_id, seq, report in reports:
            node = nodes.get(node_id)
            subject = subjects.get(report.execution_id)
            if node is None or (seq and seq <= node.last_edge_seq_num):
                harvest.dropped["seen"] += 1
            elif subject is None or subject.row.node_id != node_id:
                harvest.dropped["foreign"] += 1
            else:
                _fold(subject, report, node, harvest, now)
        store_subjects(subjects.values(), harvest.events, now)
        _store_harvest(harvest)
        up_to = _store_sequences(batch, nodes)
    if harvest.dropped:
        logger.info("dropped reports: %s", dict(harvest.dropped))
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


def _fold(subject: Subject, report: Report, node: Node, harvest: Harvest, now: datetime) -> None:
    old, rules = subject.facts, rules_of(subject.row)
    moved: Change | None = None
    match report:
        case AckSeen():
            known = apply_ack(subject.facts, report.desired_seq)
            moved = subject.take(known)
        case StateSeen():
            moved = subject.take(apply_state(old, rules, report, now))
        case WindowSeen():
            late = is_late(report, node.connected_since, now)
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
    row: Execution,
    seen: WindowSeen,
    healthy: bool,
    late: bool,
    reason: str,
) -> HealthWindow:
    return HealthWindow(
        execution_id=row.pk,
        number=seen.number,
        started_at=seen.started_at,
        ended_at=seen.ended_at,
        messages_in=seen.messages_in,
        messages_ok=seen.messages_ok,
        errors=seen.errors,
        processor_errors=seen.processor_errors,
        output_errors=seen.output_errors,
        process_alive=seen.process_alive,
        restarts=seen.restarts,
        cpu_percent=seen.cpu_percent,
        rss_bytes=seen.rss_bytes,
        last_error=seen.last_error,
        is_healthy=healthy,
        is_late=late,
        reason=reason[:256],
    )


def _log_row(row: Execution, seen: LogSeen, now: datetime) -> LogChunk:
    return LogChunk(
        execution_id=row.pk,
        seq=seen.number,
        stream=seen.stream,
        lines=seen.text,
        line_count=seen.line_count,
        at=seen.at or now,
    )


def _result_row(row: Execution, seen: ResultSeen) -> Result:
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


def _store_harvest(harvest: Harvest) -> None:
    """Store what is only ever added; what is there already stays (first result, S17)."""
    HealthWindow.objects.bulk_create(harvest.windows, ignore_conflicts=True)
    LogChunk.objects.bulk_create(harvest.logs, ignore_conflicts=True)
    Result.objects.bulk_create(harvest.results.values(), ignore_conflicts=True)


# --- Nodes ---------------------------------------------------------------------------------------


def _lock_nodes(node_ids: set[UUID]) -> dict[UUID, Node]:
    rows = (
        Node.objects.select_for_update(no_key=True)
        .filter(pk__in=node_ids)
        .only("id", "last_edge_seq_num", "connected_since")
        .order_by("pk")
    )
    return {row.pk: row for row in rows}


def _store_sequences(batch: Sequence[Incoming], nodes: dict[UUID, Node]) -> dict[UUID, int]:
    """Remember the highest number of each node; return what may be acknowledged to each."""
    highest: dict[UUID, int] = defaultdict(int)
    for item in batch:
        highest[item.node_id] = max(highest[item.node_id], item.frame.seq)
    up_to = {
        node_id: max(seq, nodes[node_id].last_edge_seq_num) if node_id in nodes else seq
        for node_id, seq in highest.items()
    }
    risen = sorted(
        node_id for node_id in nodes if up_to[node_id] > nodes[node_id].last_edge_seq_num
    )
    if risen:
        change(
            "UPDATE nodes_node n SET last_edge_seq_num = u.seq "
            "FROM unnest(%s::uuid[], %s::bigint[]) AS u(id, seq) WHERE n.id = u.id",
            [risen, [up_to[node_id] for node_id in risen]],
        )
    return up_to
