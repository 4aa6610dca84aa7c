"""Writes events in sets, numbered by job: every change of state has exactly one (law 4)."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.backends.utils import CursorWrapper


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDraft:
    """One event that has no number yet."""

    job_id: UUID
    namespace: str
    job_version: int
    kind: str
    message: str
    at: datetime
    details: Mapping[str, Any] = field(default_factory=dict)
    rollout_id: UUID | None = None
    execution_id: UUID | None = None
    node_id: UUID | None = None


def write_events(drafts: Iterable[EventDraft]) -> None:
    """Give the events their numbers and store them, in the order given within each job.

    The caller holds the lock of every job concerned, so that numbers follow the commit order
    (docs/semantics.md X41). One UPDATE for all jobs and one COPY for all events.
    """
    by_job: dict[UUID, list[EventDraft]] = defaultdict(list)
    for draft in drafts:
        by_job[draft.job_id].append(draft)
    if not by_job:
        return
    with connection.cursor() as cursor:
        last = _reserve(cursor, {job_id: len(group) for job_id, group in by_job.items()})
        # Django makes its own errors of the driver's in everything but COPY.
        with connection.wrap_database_errors, cursor.copy(_COPY) as copy:
            for job_id, group in sorted(by_job.items()):
                for seq, draft in enumerate(group, start=last[job_id] - len(group) + 1):
                    copy.write_row(_row(draft, seq))


_COPY = """
    COPY jobs_event (job_id, job_seq, namespace, job_version, rollout_id, execution_id, node_id,
        kind, message, details, at) FROM STDIN
"""


def _row(draft: EventDraft, seq: int) -> tuple[object, ...]:
    # The time as a text: a batch has one for all, and the driver would write it each time anew.
    return (
        *(draft.job_id, seq, draft.namespace, draft.job_version, draft.rollout_id),
        *(draft.execution_id, draft.node_id, draft.kind, draft.message[:1024]),
        *(json.dumps(draft.details, default=str), str(draft.at)),
    )


def _reserve(cursor: CursorWrapper, counts: Mapping[UUID, int]) -> dict[UUID, int]:
    """Take as many numbers of each job; return the last of each."""
    cursor.execute(
        "UPDATE jobs_job j SET event_seq = j.event_seq + u.count "
        "FROM unnest(%s::uuid[], %s::bigint[]) AS u(id, count) WHERE j.id = u.id "
        "RETURNING j.id, j.event_seq",
        [list(counts), list(counts.values())],
    )
    return dict(cursor.fetchall())
