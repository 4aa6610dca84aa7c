"""What runs by itself from time to time: nodes that changed are followed."""

from collections.abc import Sequence
from uuid import UUID

from django.db import OperationalError, transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from jobs.models import Job
from jobs.rules import ONE_SHOT_TYPES
from jobs.states import JobState
from nodes.models import Node
from rollouts.models import Execution
from rollouts.sets import change

# How long one job that somebody holds is waited for.
PATIENCE_MS = 200


def absorb_nodes(limit: int = 1000) -> int:
    """Make the jobs of a namespace look at its nodes when one of them changed; count the nodes.

    Jobs are marked before the nodes' marks are cleared, and a node that changed once more
    meanwhile keeps its mark: nothing can fall between the two.
    """
    changed = list(
        Node.objects.filter(changed_at__isnull=False)
        .order_by("changed_at")
        .values_list("pk", "namespace_id", "changed_at")[:limit]
    )
    if not changed:
        return 0
    if not _mark_jobs(sorted({namespace for _, namespace, _ in changed})):
        return 0  # the nodes keep their marks for the next sweep
    newest = max(at for _, _, at in changed if at is not None)
    Node.objects.filter(pk__in=[pk for pk, _, _ in changed], changed_at__lte=newest).update(
        changed_at=None
    )
    return len(changed)


def _mark_jobs(namespaces: Sequence[str]) -> bool:
    """Make every job look at its nodes that has any to look at; say whether all could be told.

    Nobody waits behind this: what is free is marked at once, and what somebody holds is waited
    for shortly, one job at a time, without a lock on any other.
    """
    # A job that was stopped has a look too while something of it is still to stop.
    wanted = ~Q(state__in=[JobState.STOPPED, JobState.DELETED])
    # One-shot work that has ended takes no node in and has none to leave: else every node
    # that comes or goes would bring up all that was ever run. One that is due may be about to
    # begin anew, with nodes as they were before they changed.
    wanted &= ~Q(
        job_type__in=ONE_SHOT_TYPES,
        state__in=[JobState.COMPLETED, JobState.FAILED],
        reconcile_due_at__isnull=True,
    )
    stopping = Execution.objects.filter(job=OuterRef("pk"), observed_state="stopping")
    jobs = Job.objects.filter(wanted | Exists(stopping), namespace_id__in=namespaces)
    held = set(jobs.values_list("pk", flat=True))
    with transaction.atomic():
        free = jobs.select_for_update(no_key=True, skip_locked=True, of=("self",))
        ids = list(free.values_list("pk", flat=True))
        _mark(ids)
    held.difference_update(ids)
    # At the first that stays held it ends: the next sweep begins again.
    return all(_mark_held(pk) for pk in sorted(held))


def _mark_held(job_id: UUID) -> bool:
    with transaction.atomic():
        change(f"SET LOCAL lock_timeout = {PATIENCE_MS}", [])
        try:
            _mark([job_id])
        except OperationalError:
            transaction.set_rollback(True)
            return False
    return True


def _mark(job_ids: Sequence[UUID]) -> None:
    Job.objects.filter(pk__in=job_ids).update(nodes_changed=True, reconcile_due_at=timezone.now())
