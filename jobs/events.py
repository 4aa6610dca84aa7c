"""Writes events in sets, numbered by job: every change of state has exactly one (law 4)."""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F

from jobs.models import Job


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
    (domain.md X41). One UPDATE for each job and one INSERT for all.
    """
    by_job: dict[UUID, list[EventDraft]] = defaultdict(list)
    for draft in drafts:
        by_job[draft.job_id].append(draft)
    rows: list[dict[str, Any]] = []
    for job_id, group in sorted(by_job.items()):
        last = _reserve(job_id, len(group))
        for seq, draft in enumerate(group, start=last - len(group) + 1):
            row = {name: getattr(draft, name) for name in _COPIED}
            row |= {"job_seq": seq, "message": draft.message[:1024], "details": dict(draft.details)}
            rows.append(row)
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(_INSERT, [json.dumps(rows, default=str)])


_COPIED = tuple(f.name for f in fields(EventDraft))
# One JSON text for all: a batch of reports writes hundreds, and parameters cost more than rows.
_INSERT = """
    INSERT INTO jobs_event (job_id, job_seq, namespace, job_version, rollout_id, execution_id,
        node_id, kind, message, details, at)
    SELECT e.job_id, e.job_seq, e.namespace, e.job_version, e.rollout_id, e.execution_id,
        e.node_id, e.kind, e.message, e.details, e.at
    FROM json_to_recordset(%s::json) AS e(job_id uuid, job_seq bigint, namespace text,
        job_version integer, rollout_id uuid, execution_id uuid, node_id uuid, kind text,
        message text, details jsonb, at timestamptz)
    ORDER BY e.job_id, e.job_seq
"""


def _reserve(job_id: UUID, count: int) -> int:
    """Take `count` numbers of a job; return the last."""
    Job.objects.filter(pk=job_id).update(event_seq=F("event_seq") + count)
    return Job.objects.values_list("event_seq", flat=True).get(pk=job_id)
