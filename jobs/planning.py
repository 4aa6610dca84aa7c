"""The plan of a spec that is not submitted yet: what the rollouts app provides to this one.

Jobs know no rollouts, yet a dry run answers with the whole plan. So `rollouts` hands in its
function when it is ready, and submission asks for it by this name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

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
    """Which nodes a spec would touch, and in which waves (domain.md 4.9)."""

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
    def total(self) -> int:
        """How many nodes the waves hold."""
        return sum(len(wave) for wave in self.waves)


class Planner(Protocol):
    """Computes the plan of a spec against the nodes as they are now; writes nothing."""

    def __call__(self, spec: JobSpec, job: Job | None, *, run_hash: str) -> SpecPlan:
        """Return the plan of `spec` as a new version of `job`, or as a new job."""


_planner: Planner | None = None


def provide(planner: Planner) -> None:
    """Set the planner; called once, by the rollouts app's AppConfig.ready."""
    global _planner  # noqa: PLW0603 - the one slot of this module
    _planner = planner


def plan_spec(spec: JobSpec, job: Job | None, *, run_hash: str) -> SpecPlan:
    """Return the plan of a spec."""
    if _planner is None:
        raise RuntimeError("no planner was provided: is the rollouts app installed?")
    return _planner(spec, job, run_hash=run_hash)
