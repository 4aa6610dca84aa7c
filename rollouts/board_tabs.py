"""What stands under the tabs of a rollout's page: failures, events, decisions, health."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from jobs.models import Event
from live.tones import tone_of
from rollouts.board import Board, load_board
from rollouts.board_limits import facts_in_words
from rollouts.models import Evaluation
from rollouts.sets import fetch

# A push sends these boxes whole, so they hold what one looks at; the rest is behind a link.
NEWEST = 30
MOST_GROUPS = 50
MOST_NODES_OF_HEALTH = 15
WINDOWS_OF_HEALTH = 12
_NAMES_OF_GROUP = 5


# --- Failures ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedNode:
    """A node of a group of failures, with the execution that failed there."""

    node_id: UUID
    name: str
    execution_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failures with one code and, numbers aside, one message."""

    code: str
    message: str
    last_error: str
    count: int
    nodes: tuple[FailedNode, ...]
    first_at: datetime

    @property
    def more(self) -> int:
        """How many nodes are not named."""
        return self.count - len(self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailuresView:
    """All failures of a rollout, grouped."""

    pk: UUID
    revision: int
    failed: int
    groups: tuple[FailureGroup, ...]


def failures_view(row: Board | str | UUID) -> FailuresView:
    """Return the failures of a rollout by what they have in common; two queries."""
    board = load_board(row)
    rows = fetch(
        """
        WITH failed AS (
            SELECT e.id, e.node_id, n.name, e.error_code, e.observed_message, e.updated_at,
                coalesce(e.finished_at, e.updated_at) AS failed_at,
                regexp_replace(e.observed_message, '[0-9]+([.][0-9]+)?', '#', 'g') AS print,
                row_number() OVER (PARTITION BY e.error_code,
                    regexp_replace(e.observed_message, '[0-9]+([.][0-9]+)?', '#', 'g')
                    ORDER BY coalesce(e.finished_at, e.updated_at), e.id) AS place
            FROM rollouts_execution e JOIN nodes_node n ON n.id = e.node_id
            WHERE e.rollout_id = %s AND e.observed_state IN ('failed', 'lost')
        ), grouped AS (
            SELECT error_code, print, count(*) AS n, min(failed_at) AS first_at,
                (array_agg(observed_message ORDER BY place))[1] AS message,
                (array_agg(id ORDER BY place))[1:%s] AS ids,
                (array_agg(node_id ORDER BY place))[1:%s] AS node_ids,
                (array_agg(name ORDER BY place))[1:%s] AS names
            FROM failed GROUP BY error_code, print ORDER BY n DESC, first_at LIMIT %s
        )
        SELECT g.error_code, g.message, g.n, g.first_at, g.ids, g.node_ids, g.names,
            coalesce((SELECT w.last_error FROM rollouts_healthwindow w
                WHERE w.execution_id = g.ids[1] AND w.last_error <> ''
                ORDER BY w.number DESC LIMIT 1), '')
        FROM grouped g ORDER BY g.n DESC, g.first_at
        """,
        [board.rollout.pk, _NAMES_OF_GROUP, _NAMES_OF_GROUP, _NAMES_OF_GROUP, MOST_GROUPS],
    )
    groups = tuple(
        FailureGroup(
            code=code,
            message=message,
            last_error=last_error,
            count=count,
            first_at=first_at,
            nodes=tuple(
                FailedNode(node_id=node_id, name=name, execution_id=execution_id)
                for execution_id, node_id, name in zip(ids, node_ids, names, strict=True)
            ),
        )
        for code, message, count, first_at, ids, node_ids, names, last_error in rows
    )
    return FailuresView(
        pk=board.rollout.pk,
        revision=board.revision,
        failed=sum(group.count for group in groups),
        groups=groups,
    )


# --- Events and decisions ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One event in words, with the look of the state that it led to."""

    seq: int
    at: datetime
    kind: str
    tone: str
    glyph: str
    message: str
    node: str
    job_name: str
    job_pk: UUID
    rollout_pk: UUID | None
    execution_pk: UUID | None


_LOOKS = {
    "rollout.started": "deploying",
    "rollout.paused": "paused",
    "rollout.resumed": "active",
    "rollout.completed": "completed",
    "rollout.halted": "halted",
    "rollout.cancelled": "cancelled",
    "rollout.superseded": "superseded",
    "rollout.rolled_back": "rolled_back",
    "canary.promoted": "completed",
    "wave.opened": "active",
    "wave.settled": "completed",
    "node.deferred": "deferred",
    "node.left": "left",
    "node.joined": "starting",
    "execution.stable": "stable",
}


def event_row(event: Event) -> EventRow:
    """Return an event as pages show it; the job must be loaded with it."""
    new_state = str(event.details.get("new_state", ""))
    if event.kind == "wave.settled" and event.details.get("failed"):
        look = tone_of("degraded")
    elif event.details.get("reason") == "awaiting_promotion":
        look = tone_of("awaiting_promotion")
    else:
        look = tone_of(_LOOKS.get(event.kind) or new_state or "remaining")
    return EventRow(
        seq=event.job_seq,
        at=event.at,
        kind=event.kind,
        tone=look.tone,
        glyph=look.glyph,
        message=event.message,
        node=str(event.details.get("node", "")),
        job_name=event.job.name,
        job_pk=event.job_id,
        rollout_pk=event.rollout_id,
        execution_pk=event.execution_id,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsView:
    """The newest events, and whether there are older ones."""

    pk: UUID
    revision: int
    rows: tuple[EventRow, ...]
    has_more: bool


def events_view(row: Board | str | UUID) -> EventsView:
    """Return the newest events of a rollout."""
    board = load_board(row)
    found = Event.objects.select_related("job").filter(rollout_id=board.rollout.pk)
    rows = [event_row(event) for event in found.order_by("-id")[: NEWEST + 1]]
    return EventsView(
        pk=board.rollout.pk,
        revision=board.revision,
        rows=tuple(rows[:NEWEST]),
        has_more=len(rows) > NEWEST,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One decision of the planner: rule, numbers, outcome, cause."""

    at: datetime
    rule: str
    message: str
    wave: int
    facts: tuple[tuple[str, str], ...]
    trigger: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionsView:
    """The newest decisions about a rollout."""

    pk: UUID
    revision: int
    rows: tuple[Decision, ...]


def decisions_view(row: Board | str | UUID) -> DecisionsView:
    """Return the newest decisions about a rollout."""
    board = load_board(row)
    found = Evaluation.objects.filter(rollout=board.rollout.pk).order_by("-id")[:NEWEST]
    rows = tuple(
        Decision(
            at=row.created_at,
            rule=row.rule,
            message=row.message,
            wave=row.wave,
            facts=facts_in_words(row.facts),
            trigger=row.triggered_by,
        )
        for row in found
    )
    return DecisionsView(pk=board.rollout.pk, revision=board.revision, rows=rows)


# --- Health --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One health window as a dot: good or not, and its error rate in percent."""

    number: int
    is_healthy: bool
    is_late: bool
    rate: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHealth:
    """The last windows of one execution, the oldest first."""

    execution_id: UUID
    node_id: UUID
    name: str
    state: str
    limit: float
    windows: tuple[Window, ...]

    @property
    def rates(self) -> tuple[float | None, ...]:
        """Error rates as bars: none for a late window, a full one for a bad one without errors."""
        return tuple(
            None
            if window.is_late
            else window.rate
            if window.is_healthy or window.rate > self.limit
            else 100.0
            for window in self.windows
        )

    @property
    def words(self) -> str:
        """Its windows for those who do not see the chart, or point at it."""
        return "; ".join(
            f"Window {window.number}: {window.rate:.1f}% errors, "
            + ("late" if window.is_late else "good" if window.is_healthy else "bad")
            for window in self.windows
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """Health of the nodes that do worst."""

    pk: UUID
    revision: int
    rows: tuple[NodeHealth, ...]
    limit: float
    interval: float
    success_threshold: int
    failure_threshold: int
    has_windows: bool
    is_cut: bool


def health_view(row: Board | str | UUID) -> HealthView:
    """Return the windows of a rollout's executions, the worst nodes first; two queries."""
    board = load_board(row)
    policy, most = board.terms.health, MOST_NODES_OF_HEALTH + 1
    found = fetch(
        """
        WITH worst AS (
            SELECT e.id, e.node_id, n.name, e.observed_state, e.unhealthy_streak
            FROM rollouts_execution e JOIN nodes_node n ON n.id = e.node_id
            WHERE e.id = ANY(ARRAY(
                SELECT x.id FROM rollouts_execution x
                WHERE x.rollout_id = %s AND x.unhealthy_streak > 0
                ORDER BY x.unhealthy_streak DESC LIMIT %s
            ) || ARRAY(
                SELECT x.id FROM rollouts_execution x
                WHERE x.rollout_id = %s AND x.window_count > 0 AND x.unhealthy_streak = 0
                ORDER BY x.node_id LIMIT %s
            ))
            ORDER BY e.unhealthy_streak DESC, e.id LIMIT %s
        )
        SELECT x.id, x.node_id, x.name, x.observed_state,
            w.number, w.is_healthy, w.is_late, w.errors, w.messages_in, w.reason
        FROM worst x CROSS JOIN LATERAL (
            SELECT * FROM rollouts_healthwindow h WHERE h.execution_id = x.id
            ORDER BY h.number DESC LIMIT %s
        ) w ORDER BY x.unhealthy_streak DESC, x.id, w.number
        """,
        [board.rollout.pk, most, board.rollout.pk, most, most, WINDOWS_OF_HEALTH],
    )
    limit = float(policy.max_error_rate) * 100
    rows = tuple(_by_execution(found, limit))
    return HealthView(
        pk=board.rollout.pk,
        revision=board.revision,
        rows=rows[:MOST_NODES_OF_HEALTH],
        limit=limit,
        interval=policy.interval.total_seconds(),
        success_threshold=policy.success_threshold,
        failure_threshold=policy.failure_threshold,
        has_windows=board.terms.validates or bool(rows),
        is_cut=len(rows) > MOST_NODES_OF_HEALTH,
    )


def _by_execution(rows: Iterable[tuple[Any, ...]], limit: float) -> Iterable[NodeHealth]:
    heads: dict[UUID, tuple[UUID, str, str]] = {}
    windows: dict[UUID, list[Window]] = {}
    for pk, node_id, name, state, number, is_healthy, is_late, errors, seen, reason in rows:
        heads[pk] = (node_id, name, state)
        windows.setdefault(pk, []).append(
            Window(
                number=number,
                is_healthy=is_healthy,
                is_late=is_late,
                rate=min(100.0, 100 * errors / max(1, seen)),
                reason=reason,
            )
        )
    for pk, (node_id, name, state) in heads.items():
        yield NodeHealth(
            execution_id=pk,
            node_id=node_id,
            name=name,
            state=state,
            limit=limit,
            windows=tuple(windows[pk]),
        )
