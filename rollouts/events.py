"""Changes many executions and writes their events in the same statement, numbered by their job."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import F

from jobs.events import EventDraft, write_events
from jobs.models import Job
from rollouts.sets import fetch

__all__ = ["RETURNED", "EventDraft", "change_executions", "write_events"]

# What a statement over rollouts_execution must return for its events.
RETURNED = (
    "RETURNING new.id, new.namespace, new.job_id, new.job_version, new.rollout_id, new.node_id, "
    "new.rollout_wave, old.observed_state AS old_state, "
    "new.observed_state AS new_state"
)


def change_executions(
    *,
    job_id: UUID,
    statement: str,
    params: list[Any],
    kind: str,
    message: str,
    at: datetime,
) -> int:
    """Run a statement that ends with RETURNED and write one event for each state that it moved.

    Nothing of the rows comes to this process. Returns how many executions were changed. The
    caller holds the job's lock (law 4).
    """
    ((changed, moved),) = fetch(
        f"""
        WITH changed AS ({statement}),
        told AS (
            INSERT INTO jobs_event (job_id, job_seq, namespace, job_version, rollout_id,
                execution_id, node_id, kind, message, details, at)
            SELECT j.id, j.event_seq + row_number() OVER (ORDER BY c.id), c.namespace,
                c.job_version, c.rollout_id, c.id, c.node_id, %s, %s,
                jsonb_build_object('old_state', c.old_state, 'new_state', c.new_state,
                                   'wave', c.rollout_wave, 'node', n.name),
                %s
            FROM changed c JOIN jobs_job j ON j.id = c.job_id JOIN nodes_node n ON n.id = c.node_id
            WHERE c.old_state IS DISTINCT FROM c.new_state
        )
        SELECT count(*), count(*) FILTER (WHERE old_state IS DISTINCT FROM new_state) FROM changed
        """,  # noqa: S608 - the fragments are ours, values go through parameters
        [*params, kind, message, at],
    )
    if moved:
        Job.objects.filter(pk=job_id).update(event_seq=F("event_seq") + moved)
    return int(changed)
