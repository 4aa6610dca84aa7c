"""What runs by itself from time to time: nodes that changed are followed."""

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from jobs.models import Job
from jobs.rules import ONE_SHOT_TYPES
from jobs.states import JobState
from nodes.models import Node
from rollouts.models import Execution


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
    namespaces = sorted({namespace for _, namespace, _ in changed})
    with transaction.atomic():
        # A job that was stopped has a look too while something of it is still to stop.
        wanted = ~Q(state__in=[JobState.STOPPED, JobState.DELETED])
        # One-shot work that has ended takes no node in and has none to leave: else every node
        # that comes or goes would bring up all that was ever run.
        wanted &= ~Q(job_type__in=ONE_SHOT_TYPES, state__in=[JobState.COMPLETED, JobState.FAILED])
        stopping = Execution.objects.filter(job=OuterRef("pk"), observed_state="stopping")
        jobs = Job.objects.filter(wanted | Exists(stopping), namespace_id__in=namespaces)
        ids = list(jobs.order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True))
        Job.objects.filter(pk__in=ids).update(nodes_changed=True, reconcile_due_at=timezone.now())
        newest = max(at for _, _, at in changed if at is not None)
        Node.objects.filter(pk__in=[pk for pk, _, _ in changed], changed_at__lte=newest).update(
            changed_at=None
        )
    return len(changed)
