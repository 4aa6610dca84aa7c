"""Judges what nobody reports: clocks that ran out, windows that did not come, drains that ended."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from nodes.services import GAPS_SINCE, cordon_nodes
from rollouts.clocks import apply_deadline, apply_silence, missed_windows
from rollouts.events import EventDraft
from rollouts.observation import Change, fail
from rollouts.states import ObservedState
from rollouts.subjects import Subject, draft_event, load_subjects, store_subjects

BATCH = 500
# A window that ended exactly at the deadline may still be on its way (docs/semantics.md X15, C02).
SLACK = timedelta(seconds=1)

_BEGAN = "coalesce(e.validating_at, e.released_at)"
_LAST_SIGN = (
    "greatest(coalesce(e.last_window_at, e.validating_at, e.stable_at, e.released_at), "
    "n.connected_since, p.session_since)"
)
# A node that is not heard may be away although it does not count as disconnected yet (X57).
_HEARD_UNTIL = "least(%(now)s, p.last_seen_at)"
# Nor has it failed in time if nobody could hear it since (law 7): it has the grace to come back.
_IS_HEARD = """
    (n.connection_state = 'connected' AND NOT EXISTS (
        SELECT 1 FROM nodes_ingestclock c JOIN nodes_nodepresence p ON p.node_id = n.id
        WHERE p.last_seen_at < c.started_at AND %(now)s <= c.started_at + %(grace)s))
"""


def judge_silence(now: datetime | None = None) -> int:
    """Judge everything that is due: level-triggered, so it may run anywhere and any time.

    Returns how many executions changed.
    """
    now = now or timezone.now()
    return judge_deadlines(now) + judge_missing_windows(now)


def judge_deadlines(now: datetime) -> int:
    """Fail executions whose start or validation clock ran out (docs/semantics.md C02, X18, X80)."""
    due = _fetch(
        f"""
        SELECT e.id, {_IS_HEARD}, {GAPS_SINCE.format(since=_BEGAN)} FROM rollouts_execution e
        JOIN nodes_node n ON n.id = e.node_id
        WHERE e.deadline_at <= %(due)s AND ({_IS_HEARD} OR e.deadline_cap_at <= %(due)s)
        ORDER BY e.deadline_at LIMIT {BATCH}
        """,  # noqa: S608 - the fragments are ours, values are parameters
        {"now": now, "due": now - SLACK, "grace": settings.START_GRACE},
    )
    if not due:
        return 0
    with transaction.atomic():
        ids = [row[0] for row in due]
        waiting = _waiting_for(ids)
        subjects = load_subjects([*ids, *waiting.values()])
        events: list[EventDraft] = []
        for execution_id, is_heard, gap in due:
            subject = subjects[str(execution_id)]
            _take(subject, apply_deadline(subject.facts, now, connected=is_heard, gaps=gap),
                  events, now)  # fmt: skip
            successor = subjects.get(str(waiting.get(execution_id)))
            if successor is not None and subject.steps and not subject.moved:
                _give_up_waiting(successor, events, now)
        store_subjects(subjects.values(), events, now)
    return sum(1 for subject in subjects.values() if subject.steps)


def judge_missing_windows(now: datetime) -> int:
    """Judge intervals without a window for as long as the node was heard (docs/semantics.md X17, C07).

    Only a node that speaks while it sends no windows has something to answer for: one that has
    fallen silent altogether counts as disconnected soon, and what it measured comes later.
    """
    silent = _fetch(
        f"""
        SELECT e.id, {_LAST_SIGN}, {_HEARD_UNTIL}, {GAPS_SINCE.format(since=_LAST_SIGN)}
        FROM rollouts_execution e
        JOIN nodes_node n ON n.id = e.node_id
        JOIN nodes_nodepresence p ON p.node_id = n.id
        JOIN jobs_job j ON j.id = e.job_id
        JOIN jobs_jobversion v ON v.id = e.version_id
        CROSS JOIN LATERAL (SELECT coalesce(
            (v.spec #>> '{{rollout,health_check,interval}}')::numeric / 1e9, 10) AS seconds) i
        WHERE j.job_type = 'pipeline' AND n.connection_state = 'connected'
            AND e.observed_state IN ('validating', 'running', 'degraded')
            AND e.desired_state = 'running'
            AND {_LAST_SIGN} < %(least)s
            AND floor(extract(epoch FROM {_HEARD_UNTIL} - {_LAST_SIGN}) / i.seconds)
                > 2 + coalesce((e.details ->> 'silent_windows')::integer, 0)
        ORDER BY e.id LIMIT {BATCH}
        """,  # noqa: S608 - likewise
        {"now": now, "least": now - timedelta(seconds=3)},
    )
    if not silent:
        return 0
    with transaction.atomic():
        subjects = load_subjects([row[0] for row in silent])
        events: list[EventDraft] = []
        for execution_id, last_sign, heard_until, gap in silent:
            subject = subjects[str(execution_id)]
            rules = subject.rules
            since = max(at for at in (last_sign, *_later_signs(subject)) if at)
            missed = missed_windows(subject.facts, rules, heard_until, since=since, gaps=gap)
            _take(subject, apply_silence(subject.facts, rules, missed, now), events, now)
        store_subjects(subjects.values(), events, now)
    return sum(1 for subject in subjects.values() if subject.steps)


def cordon_drained(now: datetime | None = None) -> int:
    """Cordon draining nodes whose one-shot work has ended, evictions too (docs/semantics.md 4.4)."""
    now = now or timezone.now()
    done = _fetch(
        """
        SELECT n.id FROM nodes_node n
        WHERE n.scheduling_state = 'draining' AND n.connection_state <> 'deleted'
            AND NOT EXISTS (SELECT 1 FROM rollouts_execution e JOIN jobs_job j ON j.id = e.job_id
                WHERE e.node_id = n.id
                    AND e.observed_state NOT IN ('completed', 'failed', 'stopped', 'lost')
                    AND (n.drain_evicts OR j.job_type NOT IN ('pipeline', 'config')))
        """,
        {},
    )
    return cordon_nodes([node_id for (node_id,) in done], now) if done else 0


def _fetch(sql: str, params: dict[str, Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return list(cursor.fetchall())


def _take(subject: Subject, new: Change | None, events: list[EventDraft], now: datetime) -> None:
    old = subject.facts
    if subject.take(new) is not None:
        events.append(draft_event(subject, old, now))


def _waiting_for(stopping: list[UUID]) -> dict[UUID, UUID]:
    """Return, by the execution that should stop, the pending one that waits for it."""
    rows = _fetch(
        "SELECT previous_id, id FROM rollouts_execution WHERE previous_id = ANY(%(ids)s) "
        "AND observed_state = 'pending' AND desired_state = 'running'",
        {"ids": stopping},
    )
    return dict(rows)


def _give_up_waiting(successor: Subject, events: list[EventDraft], now: datetime) -> None:
    # An old execution that does not stop fails the node for the new one (docs/semantics.md X65, C02).
    if successor.facts.observed_state != ObservedState.PENDING:
        return
    reason = "the execution before it did not stop within its deadline"
    _take(successor, fail(successor.facts, now, "previous_not_stopped", reason), events, now)


def _later_signs(subject: Subject) -> tuple[datetime | None, ...]:
    """Return when it came up, and its last window, which may have come since it was chosen."""
    text = subject.facts.details.get("up_at")
    up_at = datetime.fromisoformat(text) if isinstance(text, str) else None
    return up_at, subject.facts.last_window_at
