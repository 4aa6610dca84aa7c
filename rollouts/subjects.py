"""Executions while something happens to them: loaded under lock, changed in memory, stored in sets."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from live.push import announce_all, ring
from rollouts.delivery import load_rules
from rollouts.events import EventDraft, write_events
from rollouts.facts import FACTS, Facts, make_facts, values_of
from rollouts.observation import Change, Rules
from rollouts.sets import as_array, change, fetch
from rollouts.states import STARTED, ObservedState

# The array that carries each column to the database.
_ARRAYS = {
    "details": "jsonb[]",
    "last_window_at": "timestamptz[]",
    "validating_at": "timestamptz[]",
    "deadline_at": "timestamptz[]",
    "deadline_cap_at": "timestamptz[]",
    "stable_at": "timestamptz[]",
    "finished_at": "timestamptz[]",
} | dict.fromkeys(
    ("desired_state", "desired_message", "observed_state", "observed_message", "error_code"),
    "text[]",
)
_DETAILS = FACTS.index("details")
# On its way up: what moves between these, and was never stable, gives nothing to decide.
_BEGINNING = frozenset(
    {
        ObservedState.PENDING,
        ObservedState.STARTING,
        ObservedState.VALIDATING,
        ObservedState.RUNNING,
    }
)
# When the scheduler looks at it all the same: by then clocks have changed that it shows.
LATER = timedelta(seconds=2)


class Row(NamedTuple):
    """What is known of an execution and of the rows beside it, in the order of the query."""

    pk: UUID
    namespace: str
    job_id: UUID
    job_version: int
    version_id: int
    node_id: UUID
    rollout_id: UUID | None
    rollout_wave: int
    revision: int
    node_name: str
    node_revision: int
    strategy: str
    rollout_revision: int


_WIDTH = len(Row._fields)
_LOCK_JOBS = """
    SELECT j.id, j.job_type, j.revision FROM jobs_job j
    WHERE j.id IN (SELECT job_id FROM rollouts_execution WHERE id = ANY(%s::uuid[]))
    ORDER BY j.id FOR NO KEY UPDATE
"""
_LOCK_EXECUTIONS = f"""
    SELECT e.id, e.namespace, e.job_id, e.job_version, e.version_id, e.node_id, e.rollout_id,
        e.rollout_wave, e.revision, n.name, n.revision,
        coalesce(r.strategy, ''), coalesce(r.revision, 0), {", ".join(f"e.{name}" for name in FACTS)}
    FROM rollouts_execution e
    JOIN nodes_node n ON n.id = e.node_id
    LEFT JOIN rollouts_rollout r ON r.id = e.rollout_id
    WHERE e.id = ANY(%s::uuid[]) ORDER BY e.id FOR NO KEY UPDATE OF e
"""  # noqa: S608 - names of our own columns


@dataclass(slots=True)
class Subject:
    """One execution while reports are folded into it."""

    row: Row
    job_revision: int
    rules: Rules
    # As it was loaded, and as it is now.
    before: Facts
    facts: Facts
    # Steps taken: each raises the revision by one.
    steps: int = 0
    moved: bool = False
    # Lines or a result came: its pages show more, although the row is the same.
    has_more: bool = False

    @property
    def is_urgent(self) -> bool:
        """Say whether the scheduler may have something to decide now that it has moved."""
        old, new = self.before, self.facts
        calm = (
            {old.observed_state, new.observed_state} <= _BEGINNING
            and old.stable_at is new.stable_at is None
            and old.desired_state == new.desired_state
        )
        return self.moved and not calm

    def take(self, new: Change | None) -> Change | None:
        """Put a change in place; return it if it moved the state."""
        if new is None:
            return None
        self.facts = new.facts
        self.steps += 1
        self.moved = self.moved or new.moved
        return new if new.moved else None


def load_subjects(execution_ids: Iterable[str | UUID]) -> dict[str, Subject]:
    """Lock the executions' jobs, then the executions, each in order of their ids.

    Two queries, and one for versions that this process has not met. Rows come as they are, not
    as models: a batch brings hundreds of them.
    """
    ids = sorted({str(execution_id) for execution_id in execution_ids})
    if not ids:
        return {}
    jobs = {pk: (kind, revision) for pk, kind, revision in fetch(_LOCK_JOBS, [as_array(ids)])}
    found = []
    for values in fetch(_LOCK_EXECUTIONS, [as_array(ids)]):
        row = Row._make(values[:_WIDTH])
        if row.job_id in jobs:
            found.append((row, (row.version_id, row.strategy, jobs[row.job_id][0]), values))
    rules = load_rules({key for _, key, _ in found})
    subjects = {}
    for row, key, values in found:
        facts = _facts(values[_WIDTH:])
        subjects[str(row.pk)] = Subject(row, jobs[row.job_id][1], rules[key], facts, facts)
    return subjects


def _facts(stored: Sequence[Any]) -> Facts:
    details = stored[_DETAILS]
    read = {} if details == "{}" else json.loads(details)
    return make_facts((*stored[:_DETAILS], read, *stored[_DETAILS + 1 :]))


def draft_event(subject: Subject, old: Facts, now: datetime) -> EventDraft:
    """Return the event of one step of an execution from its facts before (law 4)."""
    row, new = subject.row, subject.facts
    became_stable = new.stable_at is not None and old.stable_at is None
    details: dict[str, Any] = {
        "old_state": old.observed_state,
        "new_state": new.observed_state,
        "wave": row.rollout_wave,
        "node": row.node_name,
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
    known = list(subjects)
    changed = [subject for subject in known if subject.steps]
    # One live execution for each job and node: those that end make room for those that begin.
    ending = [s for s in changed if s.facts.observed_state not in STARTED]
    beginning = [s for s in changed if s.facts.observed_state in STARTED]
    for group in (ending, beginning):
        if group:
            _update(group, now)
    write_events(events)
    _wake(changed, now)
    _announce(subject for subject in known if subject.steps or subject.has_more)


def _update(group: Sequence[Subject], now: datetime) -> None:
    """Store the facts of a group in one statement that names the columns that differ."""
    before = zip(*(values_of(subject.before) for subject in group), strict=True)
    after = zip(*(values_of(subject.facts) for subject in group), strict=True)
    columns = {name: new for name, old, new in zip(FACTS, before, after, strict=True) if old != new}
    change(
        f"""
        UPDATE rollouts_execution e SET updated_at = %s, revision = e.revision + u.steps
            {"".join(f", {name} = u.{name}" for name in columns)}
        FROM unnest(%s::uuid[], %s::integer[]
            {"".join(f", %s::{_ARRAYS.get(name, 'integer[]')}" for name in columns)})
            AS u(id, steps{"".join(f", {name}" for name in columns)})
        WHERE e.id = u.id
        """,  # noqa: S608 - names of our own columns, values are parameters
        [
            now,
            as_array(subject.row.pk.hex for subject in group),
            as_array(subject.steps for subject in group),
            *map(as_array, columns.values()),
        ],
    )


def _wake(changed: Iterable[Subject], now: datetime) -> None:
    """Make the scheduler look at the jobs that moved: the row says so, the bell makes it sooner.

    Work that only begins waits for a later look, or for one that has another cause (ADR 0015).
    """
    moved = [subject for subject in changed if subject.moved]
    urgent = {subject.row.job_id for subject in moved if subject.is_urgent}
    due = {s.row.job_id: now if s.row.job_id in urgent else now + LATER for s in moved}
    if not due:
        return
    change(
        """
        UPDATE jobs_job j SET reconcile_due_at = least(coalesce(j.reconcile_due_at, u.at), u.at)
        FROM unnest(%s::uuid[], %s::timestamptz[]) AS u(id, at) WHERE j.id = u.id
        """,
        [as_array(job_id.hex for job_id in due), as_array(due.values())],
    )
    for job_id in sorted(urgent):
        ring("rollouts.reconcile_job", str(job_id))


def _announce(changed: Iterable[Subject]) -> None:
    bells: dict[tuple[str, UUID], int] = {}
    for subject in changed:
        row = subject.row
        bells["execution", row.pk] = row.revision + subject.steps
        bells["job", row.job_id] = subject.job_revision
        if row.rollout_id is not None:
            bells["rollout", row.rollout_id] = row.rollout_revision
        if subject.moved:
            bells["node", row.node_id] = row.node_revision
    announce_all(bells)
