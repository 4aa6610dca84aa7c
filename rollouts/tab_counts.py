"""The numbers on the tabs of a rollout's page, each a live box of its own."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from jobs.models import Event
from rollouts.board import Board, load_board
from rollouts.models import Evaluation

# A page never counts further than this.
MOST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class CountView:
    """How much stands under a tab; `has_more` when it was not counted to the end."""

    pk: UUID
    revision: int
    count: int
    has_more: bool = False


def failures_count_view(row: Board | str | UUID) -> CountView:
    """Return how many nodes failed, as the failure budget counts them."""
    board = load_board(row)
    rollout = board.rollout
    return CountView(pk=rollout.pk, revision=board.revision, count=rollout.failed_nodes)


def events_count_view(row: Board | str | UUID) -> CountView:
    """Return how many events a rollout has."""
    board = load_board(row)
    return _count(board, Event.objects.filter(rollout_id=board.rollout.pk))


def decisions_count_view(row: Board | str | UUID) -> CountView:
    """Return how many decisions about a rollout were made."""
    board = load_board(row)
    return _count(board, Evaluation.objects.filter(rollout=board.rollout.pk))


def _count(board: Board, rows: QuerySet[Any]) -> CountView:
    """Count rows that are only added to, and no further than a page shows."""
    found = rows.order_by().values("pk")[: MOST + 1].count()
    return CountView(
        pk=board.rollout.pk,
        revision=board.revision + found,
        count=min(found, MOST),
        has_more=found > MOST,
    )
