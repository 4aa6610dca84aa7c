"""What a person is told of rollouts that halted: why, what became of the nodes, what to do."""

from collections import defaultdict
from collections.abc import Sequence
from uuid import UUID

from jobs.models import Event
from rollouts.models import Rollout
from rollouts.states import RolloutState, RolloutType


def halts_in_words(halted: Sequence[Rollout]) -> dict[UUID, tuple[str, str]]:
    """Return for each halted rollout (job and version loaded) its cause, and what follows from it.

    Two queries for any number of them.
    """
    causes = dict(
        Event.objects.filter(rollout_id__in=[row.pk for row in halted], kind="rollout.halted")
        .order_by("id")
        .values_list("rollout_id", "message")
    )
    following = _following(halted)
    return {
        row.pk: (
            _cause(row, causes.get(row.pk) or row.halted_by),
            f"{row.failed_nodes:,} of {row.total_nodes:,} nodes failed. "
            + _what_follows(following.get(row.pk)),
        )
        for row in halted
    }


def _cause(row: Rollout, cause: str) -> str:
    wave = f" in wave {row.current_wave}" if row.current_wave else ""
    return f"v{row.version.number} halted{wave}: {cause}"


def _following(halted: Sequence[Rollout]) -> dict[UUID, Rollout]:
    """Return the next rollout of the same job for each that halted; one query."""
    later: dict[UUID, list[Rollout]] = defaultdict(list)
    if halted:
        found = Rollout.objects.select_related("version").filter(
            job__in=[row.job_id for row in halted],
            started_at__gte=min(row.started_at for row in halted),
        )
        for row in found.order_by("version__number"):
            later[row.job_id].append(row)
    found_next = {
        row.pk: next((o for o in later[row.job_id] if o.version.number > row.version.number), None)
        for row in halted
    }
    return {pk: row for pk, row in found_next.items() if row is not None}


def _what_follows(row: Rollout | None) -> str:
    """Say what became of the nodes of a halted rollout, and what is left to do."""
    if row is None:
        return "Nodes keep what they have: mend the spec, or roll back by hand."
    name = f"v{row.version.number}"
    done = f"{row.updated_nodes:,} of {row.total_nodes:,} nodes"
    if row.rollout_type != RolloutType.ROLLBACK:
        return f"{name} took over."
    if row.state == RolloutState.COMPLETED:
        return f"{name} brought the earlier spec back to {done}: mend the spec and submit it again."
    if row.state in (RolloutState.ACTIVE, RolloutState.PAUSED):
        return f"{name} is bringing the earlier spec back: {done} so far."
    return f"{name}, its rollback, was {row.state} after {done}: look at it first."
