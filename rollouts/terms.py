"""What the scheduler needs of a spec, read from it once: policy, health, selector, deadlines."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from django.conf import settings

from jobs.components import required_components
from jobs.models import JobVersion
from jobs.spec import JobSpec
from nodes.selector import Selector, TargetKind
from rollouts.health import HealthPolicy
from rollouts.planner import Policy
from rollouts.states import Strategy


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """In which order nodes are taken (docs/semantics.md X93)."""

    by: str = "id"
    label: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """One version's terms. Capabilities are names needed, by kind (inputs, runtimes, …)."""

    selector: Selector
    capabilities: Mapping[str, frozenset[str]]
    policy: Policy
    health: HealthPolicy
    # Executions pass through `validating` before they count as stable.
    validates: bool
    one_shot: bool
    # Exactly one node, picked by load (docs/semantics.md 4.3).
    takes_any: bool
    order: Order
    start_deadline: timedelta
    queue_timeout: timedelta | None
    total_timeout: timedelta | None

    @property
    def is_all_out(self) -> bool:
        """Whether one-shot work is sent out at once: its outcome alone speaks (docs/semantics.md C05)."""
        return self.one_shot and self.policy.strategy is Strategy.IMMEDIATE


def terms_of(version: JobVersion, strategy: str | None = None) -> Terms:
    """Return the terms of a version; `strategy` overrides the spec's (a rollback is immediate)."""
    known = _known(version.pk, version.spec_hash)
    key = (strategy, settings.START_DEADLINE)
    if key not in known:
        known[key] = terms_of_spec(JobSpec.model_validate(version.spec), strategy)
    return known[key]


@lru_cache(maxsize=256)
def _known(_pk: int, _spec_hash: str) -> dict[tuple[str | None, timedelta], Terms]:
    """Return what was read of a version by this process: a version never changes."""
    return {}


def terms_of_spec(spec: JobSpec, strategy: str | None = None) -> Terms:
    """Return the terms of a spec."""
    block = spec.rollout
    chosen = Strategy(strategy or (block.strategy if block else Strategy.IMMEDIATE))
    check = block.health_check if block else None
    health = HealthPolicy()
    if check:
        health = HealthPolicy(
            interval=timedelta(microseconds=check.interval // 1000),
            success_threshold=check.success_threshold,
            failure_threshold=check.failure_threshold,
            max_error_rate=check.error_limit(),
            deadline=timedelta(microseconds=check.deadline // 1000),
        )
    policy = Policy(strategy=chosen)
    if block:
        policy = Policy(
            strategy=chosen,
            max_parallel=block.max_parallel,
            canary_count=block.canary_count,
            canary_percent=block.canary_percent,
            auto_promote=block.auto_promote,
            max_failed_nodes=block.max_failed_nodes,
            max_failed_nodes_percent=block.failure_percent_limit(),
            auto_rollback=not block.no_auto_rollback,
        )
    order = Order()
    if block:
        order = Order(by=block.order.by, label=block.order.label, values=tuple(block.order.values))
    selector = spec.node_selector
    target = selector.target
    return Terms(
        selector=selector,
        capabilities=_capabilities(spec),
        policy=policy,
        health=health,
        validates=bool(check) and spec.type == "pipeline" and chosen is not Strategy.IMMEDIATE,
        one_shot=spec.is_one_shot,
        takes_any=target is not None and target.kind is TargetKind.ANY,
        order=order,
        start_deadline=health.deadline or settings.START_DEADLINE,
        queue_timeout=_seconds(spec.timeouts.queue_timeout),
        total_timeout=_seconds(spec.timeouts.total_timeout),
    )


def _capabilities(spec: JobSpec) -> dict[str, frozenset[str]]:
    """Return what a node must be able to do, by kind (docs/semantics.md 4.2)."""
    if spec.type == "script":
        return {"runtimes": frozenset({spec.required_runtime})}
    if spec.operation_names:
        return {"operations": frozenset(spec.operation_names)}
    if spec.type != "pipeline" or not isinstance(spec.config, dict):
        return {}
    needed = required_components(spec.config)
    kinds = {"inputs": needed.inputs, "processors": needed.processors, "outputs": needed.outputs}
    return {kind: frozenset(names) for kind, names in kinds.items() if names}


def _seconds(value: int) -> timedelta | None:
    return timedelta(seconds=value) if value else None
