"""The nodes of rollouts as marks, read: counted by wave and look, or each with its name."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from rollouts.models import Rollout
from rollouts.sets import fetch
from rollouts.states import RolloutState


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkCount:
    """How many nodes share a wave, a state, a ring and a look."""

    wave: int
    state: str
    ring: int
    kind: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One node."""

    node_id: UUID
    name: str
    wave: int
    state: str
    kind: str

    @property
    def href(self) -> str:
        """Where the page of its rollout shows it."""
        return f"?node={self.node_id}"


_OF_PLACE = {
    "remaining": "waiting",
    "deferred": "deferred",
    "stopped": "old",
    "failed": "failed",
    "updated": "stable",
    "current": "stable",
    "released": "starting",
}
_OF_RELEASED = {
    "validating": "validating",
    "failed": "failed",
    "completed": "stable",
    "stopping": "old",
    "stopped": "old",
}


def kind_of(state: str, seen: str, *, is_pipeline: bool) -> str:
    """Say what a node looks like: by its place in the rollout, then by what its execution does."""
    if seen == "lost" and state in ("released", "failed", "updated", "current"):
        return "lost"
    if state == "released":
        if seen == "running":
            return "stable" if is_pipeline else "starting"
        return _OF_RELEASED.get(seen, "starting")
    if seen == "degraded" and state in ("updated", "current"):
        return "degraded"
    return _OF_PLACE[state]


def count_marks_of(rollouts: Iterable[Rollout]) -> dict[UUID, tuple[MarkCount, ...]]:
    """Count the nodes of several rollouts by wave and look.

    It reads the tallies that the database keeps, so it costs the same for any number of nodes;
    only of halted rollouts those that run another version again are counted.
    """
    known = {rollout.pk: rollout for rollout in rollouts}
    rows = fetch(
        "SELECT rollout_id, wave, state, ring, seen, count FROM rollouts_rollouttally "
        "WHERE rollout_id = ANY(%s) AND count > 0 ORDER BY rollout_id, wave, ring, state, seen",
        [list(known)],
    )
    halted = [r.pk for r in known.values() if r.state == RolloutState.HALTED]
    restored = _count_restored(halted) if halted else Counter()
    found: dict[UUID, list[MarkCount]] = defaultdict(list)
    for pk, wave, state, ring, seen, count in rows:
        back = restored[pk, wave, state, ring, seen]
        is_pipeline = known[pk].version.spec.get("type") == "pipeline"
        kind = kind_of(state, seen, is_pipeline=is_pipeline)
        for name, size in ((kind, count - back), ("restored", back)):
            if size:
                found[pk].append(
                    MarkCount(wave=wave, state=state, ring=ring, kind=name, count=size)
                )
    return {pk: tuple(counts) for pk, counts in found.items()}


# A halted rollout's node runs what it ran before: another version is wanted there again.
_RESTORED = """
t.state IN ('released', 'updated', 'stopped') AND EXISTS (
    SELECT 1 FROM rollouts_execution wanted WHERE wanted.job_id = r.job_id
        AND wanted.node_id = t.node_id AND wanted.desired_state = 'running'
        AND wanted.job_version <> v.number)
"""


def _count_restored(halted: list[UUID]) -> Counter[tuple[UUID, int, str, int, str]]:
    rows = fetch(
        f"""
        SELECT t.rollout_id, t.wave, t.state, t.ring, coalesce(e.observed_state, ''), count(*)
        FROM rollouts_rollouttarget t
        JOIN rollouts_rollout r ON r.id = t.rollout_id
        JOIN jobs_jobversion v ON v.id = r.version_id
        LEFT JOIN rollouts_execution e ON e.rollout_id = t.rollout_id AND e.node_id = t.node_id
        WHERE t.rollout_id = ANY(%s) AND {_RESTORED} GROUP BY 1, 2, 3, 4, 5
        """,  # noqa: S608 - the fragment is ours
        [halted],
    )
    return Counter({(pk, wave, state, ring, seen): n for pk, wave, state, ring, seen, n in rows})


def list_marks(rollout: Rollout) -> tuple[Mark, ...]:
    """Return every node of a rollout in the order in which it gets its turn; one query."""
    rows = fetch(
        f"""
        SELECT t.node_id, n.name, t.wave, t.state, coalesce(e.observed_state, ''),
            r.state = 'halted' AND {_RESTORED}
        FROM rollouts_rollouttarget t
        JOIN rollouts_rollout r ON r.id = t.rollout_id
        JOIN jobs_jobversion v ON v.id = r.version_id
        JOIN nodes_node n ON n.id = t.node_id
        LEFT JOIN rollouts_execution e ON e.rollout_id = t.rollout_id AND e.node_id = t.node_id
        WHERE t.rollout_id = %s AND t.state <> 'left' ORDER BY t.position
        """,  # noqa: S608 - the fragment is ours
        [rollout.pk],
    )
    is_pipeline = rollout.version.spec.get("type") == "pipeline"
    return tuple(
        Mark(
            node_id=node_id,
            name=name,
            wave=wave,
            state=state,
            kind="restored" if is_back else kind_of(state, seen, is_pipeline=is_pipeline),
        )
        for node_id, name, wave, state, seen, is_back in rows
    )
