"""Executions while something happens to them: loaded under lock, changed in memory, stored in sets."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from jobs.models import Job
from live.push import announce_all, ring
from rollouts.delivery import load_rules
from rollouts.events import EventDraft, write_events
from rollouts.models import Execution
from rollouts.observation import Change, Facts
from rollouts.sets import as_json, change
from rollouts.states import STARTED

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


@dataclass(slots=True)
class Subject:
    """One execution while reports are folded into it."""

    row: Execution
    facts: Facts
    # Steps taken: each raises the revision by one.
    steps: int = 0
    moved: bool = False
    # Lines or a result came: its pages show more, although the row is the same.
    has_more: bool = False

    def take(self, new: Change | None) -> Change | None:
        """Put a change in place; return it if it moved the state."""
        if new is None:
            return None
        self.facts = new.facts
        self.steps += 1
        self.moved = self.moved or new.moved
        return new if new.moved else None


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
    known = list(subjects)
    changed = [subject for subject in known if subject.steps]
    # One live execution for each job and node: those that end make room for those that begin.
    ending = [s for s in changed if s.facts.observed_state not in STARTED]
    beginning = [s for s in changed if s.facts.observed_state in STARTED]
    for group in (ending, beginning):
        if group:
            _update(group, now)
    write_events(events)
    _wake({s.row.job_id for s in changed if s.moved}, now)
    _announce(subject for subject in known if subject.steps or subject.has_more)


def _update(group: Sequence[Subject], now: datetime) -> None:
    """Store the facts of a group in one statement, sent as one JSON text: arrays cost far more."""
    rows = [
        {"id": s.row.pk, "steps": s.steps} | {name: getattr(s.facts, name) for name in FACTS}
        for s in group
    ]
    types = [f"{name} {_CASTS.get(name, _plain_type(name))}" for name in FACTS]
    change(
        f"""
        UPDATE rollouts_execution e SET updated_at = %s, revision = e.revision + u.steps,
            {", ".join(f"{name} = u.{name}" for name in FACTS)}
        FROM json_to_recordset(%s::json) AS u(id uuid, steps integer, {", ".join(types)})
        WHERE e.id = u.id
        """,  # noqa: S608 - names of our own columns, values are parameters
        [now, as_json(rows)],
    )


def _plain_type(name: str) -> str:
    return "text" if name in _TEXTS else "integer"


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
