"""The box that sets the canary against the nodes that still run the stable version."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from jobs.models import JobVersion
from rollouts.board import Board, load_board
from rollouts.sets import fetch
from rollouts.states import RolloutState, Strategy

# Of each side so many nodes are compared, and of each node so many of its last windows.
MOST_NODES = 100
MOST_WINDOWS = 30
# Around the window that should have ended with the rollout so many are looked at.
_NEAR = 300
# Shares of the rest's value: closer counts as the same, further in the bad direction warns.
_SAME, _MUCH = 0.10, 0.25
_MEGABYTE = 1_000_000
# Windows carry the times of the nodes' clocks.
_SKEW = timedelta(minutes=1)

_WINDOWS = """
WITH canary AS (
    SELECT e.id FROM rollouts_rollouttarget t CROSS JOIN LATERAL (
        SELECT x.id FROM rollouts_execution x
        WHERE x.rollout_id = t.rollout_id AND x.node_id = t.node_id
        ORDER BY x.created_at DESC, x.id DESC LIMIT 1
    ) e WHERE t.rollout_id = %(rollout)s AND t.wave = 1 ORDER BY t.position LIMIT %(nodes)s
), began AS (
    SELECT min(w.started_at) AS at FROM canary c CROSS JOIN LATERAL (
        SELECT h.started_at FROM rollouts_healthwindow h WHERE h.execution_id = c.id
        ORDER BY h.number LIMIT 1
    ) w
), waiting AS (
    SELECT t.node_id FROM rollouts_rollouttarget t
    WHERE t.rollout_id = %(rollout)s AND t.state = 'remaining'
    ORDER BY t.position DESC LIMIT %(nodes)s
), rest AS (
    SELECT e.id FROM waiting CROSS JOIN LATERAL (
        SELECT x.id FROM rollouts_execution x WHERE x.node_id = waiting.node_id
            AND x.job_id = %(job)s AND x.run_hash = %(run_hash)s
        ORDER BY x.created_at DESC LIMIT 1
    ) e
), sides AS (
    SELECT 'canary' AS side, id FROM canary UNION ALL SELECT 'rest', id FROM rest
), seen AS (
    SELECT s.side, w.*,
        row_number() OVER (PARTITION BY w.execution_id ORDER BY w.number DESC) AS place
    FROM sides s CROSS JOIN began CROSS JOIN LATERAL (
        SELECT h.number - extract(epoch FROM greatest(h.ended_at - %(until)s, interval '0'))
            / greatest(extract(epoch FROM h.ended_at - h.started_at), 0.1) - %(windows)s AS number
        FROM rollouts_healthwindow h WHERE h.execution_id = s.id ORDER BY h.number DESC LIMIT 1
    ) first CROSS JOIN LATERAL (
        SELECT near.* FROM (
            SELECT h.* FROM rollouts_healthwindow h
            WHERE h.execution_id = s.id AND h.number >= floor(first.number)::integer
            ORDER BY h.number LIMIT %(near)s
        ) near
        WHERE near.started_at >= began.at AND near.ended_at <= %(until)s AND NOT near.is_late
        ORDER BY near.number DESC LIMIT %(windows)s
    ) w
)
SELECT side, place, count(*), count(*) FILTER (WHERE is_healthy), sum(messages_in)::bigint,
    sum(errors)::bigint, extract(epoch FROM sum(ended_at - started_at))::float8,
    avg(cpu_percent), max(rss_bytes), sum(restarts)::bigint, min(started_at), max(ended_at)
FROM seen GROUP BY side, place ORDER BY side, place DESC
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What all windows of one side say that are equally far from the newest."""

    windows: int
    healthy: int
    messages: int
    errors: int
    seconds: float
    cpu: float | None
    memory: int | None
    restarts: int
    began_at: datetime
    ended_at: datetime

    @property
    def error_rate(self) -> float:
        """Errors in percent of messages; errors without messages count as all (docs/semantics.md 1.8)."""
        return min(100.0, 100 * self.errors / max(1, self.messages))

    @property
    def pace(self) -> float:
        """Messages a minute on one node."""
        return 60 * self.messages / self.seconds if self.seconds else 0.0

    @property
    def megabytes(self) -> float | None:
        """The highest memory of a node."""
        return None if self.memory is None else self.memory / _MEGABYTE


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One row: what both sides measured, and what that says."""

    name: str
    canary: str
    rest: str
    limit: str = ""
    # A kind of live.tones: healthy, degraded, unhealthy or remaining.
    kind: str
    verdict: str
    values: tuple[float, ...] = ()
    line: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonView:
    """The canary against the rest; not shown where no canary is."""

    pk: UUID
    revision: int
    is_shown: bool = False
    empty: str = ""
    measures: tuple[Measure, ...] = ()
    canary_version: int = 0
    rest_version: int = 0
    canary_nodes: int = 0
    rest_nodes: int = 0
    began_at: datetime | None = None
    ended_at: datetime | None = None
    most: int = MOST_NODES


def comparison_view(row: Board | str | UUID) -> ComparisonView:
    """Return the comparison of a rollout; the same four queries for any number of nodes."""
    board = load_board(row)
    rollout = board.rollout
    blank = ComparisonView(pk=rollout.pk, revision=_revision(board))
    if rollout.strategy != Strategy.CANARY or rollout.state == RolloutState.COMPLETED:
        return blank
    stable = JobVersion.objects.filter(job=rollout.job_id, number=rollout.rollback_to_version)
    run_hash = stable.values_list("run_hash", flat=True).first()
    if run_hash is None:
        text = "No earlier version completed, so there is nothing to compare with."
        return replace(blank, is_shown=True, empty=text)
    canary, rest = _sides(board, run_hash)
    if not canary:
        text = "The canary has reported no health window yet."
        return replace(blank, is_shown=True, empty=text)
    if not rest:
        text = f"No waiting node reported as v{rollout.rollback_to_version} since the canary began."
        return replace(blank, is_shown=True, empty=text)
    return replace(
        blank,
        is_shown=True,
        measures=_measures(canary, rest, float(board.terms.health.max_error_rate) * 100),
        canary_version=rollout.version.number,
        rest_version=rollout.rollback_to_version,
        canary_nodes=canary[-1].windows,
        rest_nodes=rest[-1].windows,
        began_at=min(moment.began_at for moment in canary),
        ended_at=max(moment.ended_at for moment in canary),
    )


def _revision(board: Board) -> int:
    """Return a number that also grows with the windows of other rollouts' executions."""
    ((newest,),) = fetch("SELECT coalesce(max(id), 0) FROM rollouts_healthwindow", [])
    return board.revision + int(newest)


def _sides(board: Board, run_hash: str) -> tuple[list[Moment], list[Moment]]:
    """Return canary and rest, the oldest moment first and the newest last."""
    rollout = board.rollout
    rows = fetch(
        _WINDOWS,
        {
            "rollout": rollout.pk,
            "job": rollout.job_id,
            "run_hash": run_hash,
            "until": (rollout.completed_at or timezone.now()) + _SKEW,
            "nodes": MOST_NODES,
            "windows": MOST_WINDOWS,
            "near": _NEAR,
        },
    )
    sides: dict[str, list[Moment]] = {"canary": [], "rest": []}
    for side, _, *numbers in rows:
        sides[side].append(_moment(numbers))
    return sides["canary"], sides["rest"]


def _moment(numbers: Sequence[Any]) -> Moment:
    windows, healthy, messages, errors, seconds, cpu, memory, restarts, began, ended = numbers
    return Moment(
        windows=windows,
        healthy=healthy,
        messages=messages,
        errors=errors,
        seconds=seconds,
        cpu=cpu,
        memory=memory,
        restarts=restarts,
        began_at=began,
        ended_at=ended,
    )


def together(moments: Sequence[Moment]) -> Moment:
    """Return several moments as one; CPU is their mean, memory their highest."""
    loads = [moment.cpu for moment in moments if moment.cpu is not None]
    return Moment(
        windows=sum(moment.windows for moment in moments),
        healthy=sum(moment.healthy for moment in moments),
        messages=sum(moment.messages for moment in moments),
        errors=sum(moment.errors for moment in moments),
        seconds=sum(moment.seconds for moment in moments),
        cpu=sum(loads) / len(loads) if loads else None,
        memory=max((m.memory for m in moments if m.memory is not None), default=None),
        restarts=sum(moment.restarts for moment in moments),
        began_at=min(moment.began_at for moment in moments),
        ended_at=max(moment.ended_at for moment in moments),
    )


def _measures(
    canary: Sequence[Moment], rest: Sequence[Moment], limit: float
) -> tuple[Measure, ...]:
    one, other = together(canary), together(rest)
    pair = Pair(canary=one, rest=other, course=tuple(canary))
    rows = [_of_errors(pair, limit), _of_windows(one, other)]
    rows += _of_number(pair, "Messages a minute", lambda m: m.pace, "{:,.0f}", worse=-1)
    rows += _of_number(pair, "CPU, mean", lambda m: m.cpu, "{:.1f}%")
    rows += _of_number(pair, "Memory, highest", lambda m: m.megabytes, "{:,.0f} MB")
    # Each window of either side stands for an equal time on one node.
    is_more = one.restarts * other.windows > other.restarts * one.windows
    kind, verdict = ("degraded", "More") if is_more else ("healthy", "Same")
    restarts = f"{one.restarts:,}", f"{other.restarts:,}"
    rows.append(
        Measure(name="Restarts", canary=restarts[0], rest=restarts[1], kind=kind, verdict=verdict)
    )
    return tuple(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Both sides as a whole, and how the canary went from its oldest moment to its newest."""

    canary: Moment
    rest: Moment
    course: tuple[Moment, ...]


def _of_errors(pair: Pair, limit: float) -> Measure:
    mine, theirs = pair.canary.error_rate, pair.rest.error_rate
    kind, verdict = "healthy", "Within limit"
    if mine > limit:
        kind, verdict = "unhealthy", "Above limit"
    elif mine > max(2 * theirs, theirs + 1):
        kind, verdict = "degraded", "Higher, within limit"
    return Measure(
        name="Error rate",
        canary=f"{mine:.1f}%",
        rest=f"{theirs:.1f}%",
        limit=f"{limit:g}%",
        kind=kind,
        verdict=verdict,
        values=tuple(moment.error_rate for moment in pair.course),
        line=limit,
    )


def _of_windows(one: Moment, other: Moment) -> Measure:
    lacking = other.healthy / other.windows - one.healthy / one.windows
    is_same = lacking < _SAME
    return Measure(
        name="Good windows",
        canary=f"{one.healthy:,} of {one.windows:,}",
        rest=f"{other.healthy:,} of {other.windows:,}",
        kind="healthy" if is_same else "degraded",
        verdict="Same" if is_same else "Fewer",
    )


def _of_number(
    pair: Pair,
    name: str,
    of: Callable[[Moment], float | None],
    pattern: str,
    *,
    worse: int = 1,
) -> list[Measure]:
    """Return the row of a number, none where one side does not measure it."""
    mine, theirs = of(pair.canary), of(pair.rest)
    if mine is None or theirs is None:
        return []
    kind, verdict = in_words(mine, theirs, worse=worse)
    values = (of(moment) for moment in pair.course)
    return [
        Measure(
            name=name,
            canary=pattern.format(mine),
            rest=pattern.format(theirs),
            kind=kind,
            verdict=verdict,
            values=tuple(value for value in values if value is not None),
        )
    ]


def in_words(mine: float, theirs: float, *, worse: int) -> tuple[str, str]:
    """Return the kind and the words of a difference; `worse` is 1 where more is bad, else -1."""
    if not theirs:
        return ("healthy", "Same") if not mine else ("remaining", "None before")
    change = mine / theirs - 1
    if abs(change) < _SAME:
        return "healthy", "Same"
    text = f"{abs(change):.0%} {'more' if change > 0 else 'less'}"
    return ("degraded" if change * worse >= _MUCH else "remaining"), text
