"""The numbers on the tabs of a rollout's page, each a live box of its own."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from jobs.models import Event
from rollouts.models import Evaluation, Rollout

# A page never counts further than this.
MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CountView:
    """How much stands under a tab; `has_more` when it was not counted to the end."""

    pk: UUID
    revision: int
    count: int
    has_more: bool = False


def failures_count_view(pk: str | UUID) -> CountView:
    """Return how many nodes failed, as the failure budget counts them."""
    rollout = Rollout.objects.select_related("job").get(pk=pk)
    return CountView(
        pk=rollout.pk,
        revision=rollout.revision + rollout.job.event_seq,
        count=rollout.failed_nodes,
    )


def events_count_view(pk: str | UUID) -> CountView:
    """Return how many events a rollout has."""
    return _count(pk, Event.objects.filter(rollout_id=pk))


def decisions_count_view(pk: str | UUID) -> CountView:
    """Return how many decisions about a rollout were made."""
    return _count(pk, Evaluation.objects.filter(rollout__id=pk))


def _count(pk: str | UUID, rows: QuerySet[Any]) -> CountView:
    """Count rows that are only added to, and no further than a page shows; two queries."""
    rollout = Rollout.objects.select_related("job").get(pk=pk)
    found = rows.order_by().values("pk")[: MOST + 1].count()
    return CountView(
        pk=rollout.pk,
        revision=rollout.revision + rollout.job.event_seq + found,
        count=min(found, MOST),
        has_more=found > MOST,
    )
