"""Takes in what agents reported: any number of frames, one transaction, a fixed set of queries."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from psycopg.types.json import Jsonb

from agent.protocol import Frame
from jobs.models import Job
from live.push import ring
from nodes.models import Node
from rollouts.bells import announce_all
from rollouts.delivery import load_rules, rules_of
from rollouts.events import EventDraft, write_events
from rollouts.models import Execution, HealthWindow, LogChunk, Result
from rollouts.observation import (
    Change,
    Facts,
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
from rollouts.states import STARTED

logger = logging.getLogger(__name__)

FACTS = tuple(f.name for f in fields(Facts))
_CASTS = {
    "details": "jsonb",
    "last_window_at": "timestamptz",
    "validating_at": "timestamptz",
    "deadline_at": "timestamptz",
    "deadline_cap_at": "timestamptz",
    "stable_at": "timestamptz",
    "finished_at": "timestamptz",
}
# A batch reads many executions, so of the rows beside them only what is used.
_LOADED = (
    *(f.name for f in Execution._meta.concrete_fields),
    "job__job_type",
    "job__revision",
    "rollout__strategy",
    "rollout__revision",
    "node__name",
    "node__connection_state",
    "node__revision",
)
_TEXTS = ("desired_state", "desired_message", "observed_state", "observed_message", "error_code")


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
class Subject:
    """One execution while reports are folded into it."""

    row: Execution
    facts: Facts
    # Steps taken: each raises the revision by one.
    steps: int = 0
    moved: bool = False

    def take(self, new: Change | None) -> Change | None:
        """Put a change in place; return it if it moved the state."""
        if new is None:
            return None
        self.facts = new.facts
        self.steps += 1
        self.moved = self.moved or new.moved
        return new if new.moved else None


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


# --- Loading and storing executions: shared with the judge of clocks and silence -----------------


def load_subjects(execution_ids: Iterable[str | UUID]) -> dict[str, Subject]:
    """Lock the executions' jobs, then the executions, each in order of their ids; four queries."""
    ids = sorted({str(execution_id) for execution_id in execution_ids})
    if not ids:
        return {}
    jobs = set(Execution.objects.filter(pk__in=ids).values_list("job_id", flat=True))
    list(Job.objects.select_for_update(no_key=True).filter(pk__in=jobs).order_by("pk").values("pk"))
    rows = list(
        Execution.objects.select_for_update(no_key=True, of=("self",))
        .select_related("job", "rollout", "node")
        .only(*_LOADED)
        .filter(pk__in=ids)
        .order_by("pk")
    )
    load_rules(rows)
    return {str(row.pk): Subject(row=row, facts=facts_of(row)) for row in rows}


def facts_of(row: Execution) -> Facts:
    """Return the part of an execution that reports may change."""
    return Facts(**{name: getattr(row, name) for name in FACTS})


def draft_event(subject: Subject, old: Facts, now: datetime) -> EventDraft:
    """Return the event of one step of an execution from its facts before (law 4)."""
    row, new = subject.row, subject.facts
    became_stable = new.stable_at is not None and old.stable_at is None
    details: dict[str, Any] = {
        "old_state": old.observed_state,
        "new_state": new.observed_state,
        "wave": row.rollout_wave,
        "node": row.node.name,
        "restarts": new.restarts,
        "stable": new.stable_at is not None,
    }
    if new.error_code:
        details["error_code"] = new.error_code
    if new.desired_state != old.desired_state:
        details["desired_state"] = new.desired_state
    return EventDraft(
        job_id=row.job_id,
        namespace=row.namespace,
        job_version=row.job_version,
        rollout_id=row.rollout_id,
        execution_id=row.pk,
        node_id=row.node_id,
        kind="execution.stable" if became_stable else "execution.observed",
        message=new.observed_message or f"{old.observed_state} to {new.observed_state}",
        at=now,
        details=details,
    )


def store_subjects(subjects: Iterable[Subject], events: list[EventDraft], now: datetime) -> None:
    """Write changed executions and events, wake the jobs that moved, announce each row once."""
    changed = [subject for subject in subjects if subject.steps]
    # One live execution for each job and node: those that end make room for those that begin.
    ending = [s for s in changed if s.facts.observed_state not in STARTED]
    beginning = [s for s in changed if s.facts.observed_state in STARTED]
    for group in (ending, beginning):
        if group:
            _update(group, now)
    write_events(events)
    _wake({s.row.job_id for s in changed if s.moved}, now)
    _announce(changed)


def _update(group: Sequence[Subject], now: datetime) -> None:
    columns: list[object] = [[s.row.pk for s in group], [s.steps for s in group]]
    for name in FACTS:
        values = [getattr(s.facts, name) for s in group]
        columns.append([Jsonb(dict(v)) for v in values] if name == "details" else values)
    types = [_CASTS.get(name, "text" if name in _TEXTS else "integer") + "[]" for name in FACTS]
    change(
        f"""
        UPDATE rollouts_execution e SET updated_at = %s, revision = e.revision + u.steps,
            {", ".join(f"{name} = u.{name}" for name in FACTS)}
        FROM unnest(%s::uuid[], %s::integer[], {", ".join(f"%s::{t}" for t in types)})
            AS u(id, steps, {", ".join(FACTS)})
        WHERE e.id = u.id
        """,  # noqa: S608 - names of our own columns, values are parameters
        [now, *columns],
    )


def _wake(job_ids: set[UUID], now: datetime) -> None:
    """Make the scheduler look at these jobs: the row says so, the bell only makes it sooner."""
    if not job_ids:
        return
    change(
        "UPDATE jobs_job SET reconcile_due_at = least(coalesce(reconcile_due_at, %s), %s) "
        "WHERE id = ANY(%s)",
        [now, now, sorted(job_ids)],
    )
    for job_id in sorted(job_ids):
        ring("rollouts.reconcile_job", str(job_id))


def _announce(changed: Iterable[Subject]) -> None:
    bells: dict[tuple[str, UUID], int] = {}
    for subject in changed:
        row = subject.row
        bells["execution", row.pk] = row.revision + subject.steps
        bells["job", row.job_id] = row.job.revision
        if row.rollout is not None:
            bells["rollout", row.rollout.pk] = row.rollout.revision
        if subject.moved:
            bells["node", row.node_id] = row.node.revision
    announce_all(bells)


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
            harvest.logs.append(_log_row(subject.row, report, now))
        case ResultSeen():
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
