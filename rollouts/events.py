"""Writes the events of many executions in one INSERT, numbered by their job (law 4)."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F

from jobs.events import EventDraft, write_events
from jobs.models import Job

__all__ = ["EventDraft", "write_events", "write_execution_events"]


def write_execution_events(
    *,
    job_id: UUID,
    kind: str,
    message: str,
    at: datetime,
    chosen: str,
    params: list[Any],
) -> int:
    """Write one event for each execution that the subquery `chosen` names, in one INSERT.

    `chosen` is SQL that yields (id, old_state, new_state) of executions; it is run after they
    were changed. Returns how many events there were. The caller holds the job's lock.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"""
            WITH chosen(id, old_state, new_state) AS ({chosen}),
            numbered AS (
                SELECT c.*, row_number() OVER (ORDER BY c.id) AS n FROM chosen c
            )
            INSERT INTO jobs_event (job_id, job_seq, namespace, job_version, rollout_id,
                execution_id, node_id, kind, message, details, at)
            SELECT e.job_id, j.event_seq + n.n, e.namespace, e.job_version, e.rollout_id,
                e.id, e.node_id, %s, %s,
                jsonb_build_object('old_state', n.old_state, 'new_state', n.new_state,
                                   'wave', e.rollout_wave, 'node', nd.name),
                %s
            FROM numbered n
            JOIN rollouts_execution e ON e.id = n.id
            JOIN jobs_job j ON j.id = e.job_id
            JOIN nodes_node nd ON nd.id = e.node_id
            """,  # noqa: S608 - the fragment is one of ours, values go through parameters
            [*params, kind, message, at],
        )
        written = int(cursor.rowcount)
    if written:
        Job.objects.filter(pk=job_id).update(event_seq=F("event_seq") + written)
    return written
