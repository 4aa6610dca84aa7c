"""What a dashboard is of, and what its boxes share: read once for all of them.

A dashboard is of one namespace, of several (their names with commas) or, for those who may read
all, of every one (`EVERY`).
"""

from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple, TypeVar

from django.db.models import Count, Max, Model, QuerySet

from jobs.models import Event
from nodes.models import Node, NodeEvent
from nodes.states import ConnectionState

# No namespace has an underscore in its name.
EVERY = "_all"

_Row = TypeVar("_Row", bound=Model)


class NodeCount(NamedTuple):
    """How many nodes share a connection, a scheduling and an enrolment state."""

    connection: str
    scheduling: str
    enrolment: str
    total: int


def within(rows: QuerySet[_Row], pk: str, name: str = "namespace") -> QuerySet[_Row]:
    """Return the rows of a dashboard's namespaces; `name` leads to a row's namespace."""
    return rows if pk == EVERY else rows.filter(**{f"{name}__in": pk.split(",")})


class Scope:
    """What a dashboard is of, and what several of its boxes need: each read once, when it is needed."""

    def __init__(self, pk: str) -> None:
        self.pk = pk

    @cached_property
    def revision(self) -> int:
        """A number that grows with everything that is told of jobs and nodes."""
        events = within(Event.objects.all(), self.pk).aggregate(newest=Max("id"))["newest"]
        told = within(NodeEvent.objects.all(), self.pk, "node__namespace")
        return (events or 0) + (told.aggregate(newest=Max("id"))["newest"] or 0)

    @cached_property
    def nodes(self) -> tuple[NodeCount, ...]:
        """The nodes that were not deleted, counted by their three axes."""
        rows = within(Node.objects.exclude(connection_state=ConnectionState.DELETED), self.pk)
        axes = rows.order_by().values_list(
            "connection_state", "scheduling_state", "enrolment_state"
        )
        return tuple(NodeCount(*row) for row in axes.annotate(total=Count("pk")))

    def count_nodes(self, is_meant: Callable[[NodeCount], bool]) -> int:
        """Return how many nodes there are whose axes are meant."""
        return sum(row.total for row in self.nodes if is_meant(row))


def load_scope(row: Scope | str) -> Scope:
    """Return a dashboard's scope, as it was loaded or by its name."""
    return row if isinstance(row, Scope) else Scope(row)
