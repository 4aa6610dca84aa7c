"""Writes events in sets, numbered by job: every change of state has exactly one (law 4)."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import F

from jobs.models import Event, Job


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
    rows: list[Event] = []
    for job_id, group in sorted(by_job.items()):
        last = _reserve(job_id, len(group))
        for seq, draft in enumerate(group, start=last - len(group) + 1):
            rows.append(
                Event(
                    job_id=job_id,
                    job_seq=seq,
                    namespace=draft.namespace,
                    job_version=draft.job_version,
                    rollout_id=draft.rollout_id,
                    execution_id=draft.execution_id,
                    node_id=draft.node_id,
                    kind=draft.kind,
                    message=draft.message[:1024],
                    details=dict(draft.details),
                    at=draft.at,
                )
            )
    Event.objects.bulk_create(rows)


def _reserve(job_id: UUID, count: int) -> int:
    """Take `count` numbers of a job; return the last."""
    Job.objects.filter(pk=job_id).update(event_seq=F("event_seq") + count)
    return Job.objects.values_list("event_seq", flat=True).get(pk=job_id)
