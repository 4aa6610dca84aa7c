"""What runs by itself from time to time: nodes that changed are followed."""

from collections.abc import Iterable, Sequence
from uuid import UUID

from django.db import OperationalError, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce, Least
from django.utils import timezone

from jobs.models import Job
from jobs.rules import ONE_SHOT_TYPES
from jobs.states import JobState
from nodes.models import Node
from rollouts.models import Execution
from rollouts.sets import change
from rollouts.states import LIVE

# How long one job that somebody holds is waited for.
PATIENCE_MS = 200
# One-shot work in these states begins nothing more by itself.
OVER = (JobState.COMPLETED, JobState.FAILED, JobState.ROLLOUT_FAILED)


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
    if not _mark_jobs({namespace for _, namespace, _ in changed}, [pk for pk, _, _ in changed]):
        return 0  # the nodes keep their marks for the next sweep
    newest = max(at for _, _, at in changed if at is not None)
    Node.objects.filter(pk__in=[pk for pk, _, _ in changed], changed_at__lte=newest).update(
        changed_at=None
    )
    return len(changed)


def _mark_jobs(namespaces: Iterable[str], nodes: Sequence[UUID]) -> bool:
    """Make every job look at its nodes that has any to look at; say whether all could be told.

    Nobody waits behind this: what is free is marked at once, and what somebody holds is waited
    for shortly, one job at a time, without a lock on any other.
    """
    wanted = ~Q(state__in=[JobState.STOPPED, JobState.DELETED])
    # One-shot work that is over takes no node in: else every node that comes or goes would
    # bring up all that was ever run. One that is due may be about to begin anew, with nodes as
    # they were before they changed.
    wanted &= ~Q(job_type__in=ONE_SHOT_TYPES, state__in=OVER, reconcile_due_at__isnull=True)
    jobs = Job.objects.filter(wanted | Q(pk__in=_alive_on(nodes)), namespace_id__in=namespaces)
    held = set(jobs.values_list("pk", flat=True))
    with transaction.atomic():
        free = jobs.select_for_update(no_key=True, skip_locked=True, of=("self",))
        ids = list(free.values_list("pk", flat=True))
        _mark(ids)
    held.difference_update(ids)
    # At the first that stays held it ends: the next sweep begins again.
    return all(_mark_held(pk) for pk in sorted(held))


def _alive_on(nodes: Sequence[UUID]) -> QuerySet[Execution, UUID]:
    """Return the jobs with something on these nodes that has not ended.

    Also what was stopped or given up may have left work that is to be lost with its node.
    """
    alive = Execution.objects.filter(node__in=nodes, observed_state__in=sorted(LIVE))
    return alive.values_list("job_id", flat=True)


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
    # What waits keeps its place, or nodes that come and go would put it off again and again.
    now = timezone.now()
    due_at = Least(Coalesce("reconcile_due_at", now), now)
    Job.objects.filter(pk__in=job_ids).update(nodes_changed=True, reconcile_due_at=due_at)
