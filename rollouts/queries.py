"""Reads rollouts and executions for people: what they may see, and the rows of lists (law 10)."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from access.problems import Refused
from access.queries import Person, may, require
from rollouts.log_lines import plain_lines
from rollouts.models import Execution, HealthWindow, LogChunk, Rollout

READ = "rollout:read"
WRITE = "rollout:write"


def rollout_for(user: Person, pk: UUID | str, permission: str = READ) -> Rollout:
    """Return a rollout with its job and version. Raises Refused `not_found`, `forbidden`."""
    rollout = Rollout.objects.select_related("job", "version").filter(pk=pk).first()
    if rollout is None:
        raise Refused("not_found", "There is no such rollout, or you may not see it.")
    require(user, permission, rollout.namespace)
    return rollout


def may_read_rollout(user: Person, pk: str) -> bool:
    """Say whether a person may look at a rollout."""
    namespace = Rollout.objects.filter(pk=pk).values_list("namespace", flat=True).first()
    return namespace is not None and may(user, READ, namespace)


def execution_for(user: Person, pk: UUID | str, permission: str = READ) -> Execution:
    """Return an execution with all it points at. Raises Refused `not_found`, `forbidden`."""
    execution = (
        Execution.objects.select_related("job", "version", "node", "rollout").filter(pk=pk).first()
    )
    if execution is None:
        raise Refused("not_found", "There is no such execution, or you may not see it.")
    require(user, permission, execution.namespace)
    return execution


def may_read_execution(user: Person, pk: str) -> bool:
    """Say whether a person may look at an execution."""
    namespace = Execution.objects.filter(pk=pk).values_list("namespace", flat=True).first()
    return namespace is not None and may(user, READ, namespace)


# --- The drawer of one node ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawer:
    """One node of a rollout: its state, its windows, the end of its log."""

    node_id: UUID
    name: str
    labels: dict[str, str]
    target_state: str
    execution: Execution | None
    rates: tuple[float | None, ...]
    limit: float
    last_rate: float | None
    highest_rate: float | None
    log: tuple[str, ...]


def error_percent(window: HealthWindow) -> float:
    """Return a window's error rate in percent; errors without messages count as all (1.8)."""
    return min(100.0, 100 * window.errors / max(1, window.messages_in))


def padded(rates: Sequence[float], least: int) -> tuple[float | None, ...]:
    """Put gaps before a few rates, so that a chart of three windows has no giant bars."""
    return (*[None] * (least - len(rates)), *rates)


_DRAWER_WINDOWS = 18
_DRAWER_CHUNKS = 5
_DRAWER_LINES = 12


def drawer_for(rollout: Rollout, node_id: UUID, limit: float) -> Drawer | None:
    """Return the drawer of a node of a rollout that the user may see; None if it is not in it."""
    target = rollout.targets.select_related("node").filter(node=node_id).first()
    if target is None:
        return None
    execution = (
        Execution.objects.select_related("previous")
        .filter(rollout=rollout, node=node_id)
        .order_by("-created_at", "-id")
        .first()
    )
    windows: list[HealthWindow] = []
    chunks: list[LogChunk] = []
    if execution is not None:
        windows = list(execution.windows.order_by("-number")[:_DRAWER_WINDOWS])[::-1]
        chunks = list(execution.log_chunks.order_by("-seq")[:_DRAWER_CHUNKS])[::-1]
    rates = [error_percent(window) for window in windows]
    lines = [line for chunk in chunks for line in plain_lines(chunk.lines)]
    return Drawer(
        node_id=target.node_id,
        name=target.node.name,
        labels=target.node.labels,
        target_state=target.state,
        execution=execution,
        rates=padded(rates, _DRAWER_WINDOWS) if rates else (),
        limit=limit,
        last_rate=rates[-1] if rates else None,
        highest_rate=max(rates, default=None),
        log=tuple(lines[-_DRAWER_LINES:]),
    )
