"""The plan of a spec that is not submitted yet: what the rollouts app provides to this one.

Jobs know no rollouts, yet a dry run answers with the whole plan. So `rollouts` hands in its
function when it is ready, and submission asks for it by this name.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from jobs.models import Job
from jobs.spec import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeName:
    """A node as a plan names it."""

    id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Nodes that the selector names and that get nothing, with the reason."""

    reason: str
    nodes: tuple[NodeName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecPlan:
    """Which nodes a spec would touch, and in which waves (docs/semantics.md 4.9)."""

    strategy: str
    matched: int
    eligible: int
    pending_enrolment: int
    waves: tuple[tuple[NodeName, ...], ...]
    unchanged: tuple[NodeName, ...] = ()
    added: tuple[NodeName, ...] = ()
    removed: tuple[NodeName, ...] = ()
    deferred: tuple[NodeName, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[NodeName, ...]:
        """Every node that the plan counts on."""
        out = tuple(node for wave in self.waves for node in wave)
        return out + self.unchanged + self.deferred

    @property
    def total(self) -> int:
        """How many nodes the waves hold."""
        return sum(len(wave) for wave in self.waves)


class Planner(Protocol):
    """Computes the plan of a spec against the nodes as they are now; writes nothing."""

    def __call__(self, spec: JobSpec, job: Job | None, *, run_hash: str) -> SpecPlan:
        """Return the plan of `spec` as a new version of `job`, or as a new job."""


class RolloutStates(Protocol):
    """Tells the state of the active rollouts of some jobs, in the seed's members."""

    def __call__(self, job_ids: Iterable[UUID]) -> Mapping[UUID, Mapping[str, object]]:
        """Return a state for each of these jobs that has an active rollout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a version's rollout; `kind` is one of live.tones, `word` may replace its own."""

    rollout_pk: UUID
    kind: str
    word: str
    is_completed: bool


class VersionOutcomes(Protocol):
    """Tells what became of some versions of a job."""

    def __call__(self, job_id: UUID, numbers: Iterable[int]) -> Mapping[int, Outcome]:
        """Return the outcome of each of these versions that had a rollout."""


@dataclass(frozen=True, slots=True)
class _Port:
    """What the rollouts app handed in."""

    planner: Planner
    rollout_states: RolloutStates
    version_outcomes: VersionOutcomes


_ports: list[_Port] = []


def provide(
    planner: Planner, rollout_states: RolloutStates, version_outcomes: VersionOutcomes
) -> None:
    """Set the functions; called once, by the rollouts app's AppConfig.ready."""
    _ports[:] = [_Port(planner, rollout_states, version_outcomes)]


def plan_spec(spec: JobSpec, job: Job | None, *, run_hash: str) -> SpecPlan:
    """Return the plan of a spec."""
    return _port().planner(spec, job, run_hash=run_hash)


def rollout_states(job_ids: Iterable[UUID]) -> Mapping[UUID, Mapping[str, object]]:
    """Return the state of the active rollout of each job that has one (docs/semantics.md 1.7)."""
    return _port().rollout_states(job_ids)


def version_outcomes(job_id: UUID, numbers: Iterable[int]) -> Mapping[int, Outcome]:
    """Return what became of each of these versions that had a rollout."""
    return _port().version_outcomes(job_id, numbers)


def _port() -> _Port:
    if not _ports:
        raise RuntimeError("no planner was provided: is the rollouts app installed?")
    return _ports[0]
