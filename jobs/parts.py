"""The blocks of a job spec, each a frozen model: rollout, selector, timeouts, configs."""

from fractions import Fraction
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Strict, WithJsonSchema
from pydantic_core import PydanticCustomError

from jobs.durations import DurationError, parse_duration
from jobs.rules import DEFAULT_INTERVAL, DEFAULT_SUCCESSES, MAX_SECONDS

_SECOND = 1_000_000_000
_HOUR = 3600 * _SECOND


def _read_duration(value: object) -> int:
    if not isinstance(value, str | int | float):
        raise PydanticCustomError("invalid_type", "must be a duration such as 30s")
    try:
        return parse_duration(value)
    except DurationError as error:
        raise PydanticCustomError(error.code, "{words}", {"words": error.message}) from None


Duration = Annotated[
    int,
    BeforeValidator(_read_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"},
                {"type": "integer", "minimum": 1_000_000},
            ],
            "description": "A text such as 500ms, 30s or 1h30m, or whole nanoseconds.",
        }
    ),
]
# JSON has lists only, and strict tuples refuse them.
Texts = Annotated[tuple[str, ...], Strict(strict=False)]


class Part(BaseModel):
    """What all blocks share: strict types, no unknown members, no change after reading."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True
    )


class HealthCheck(Part):
    """When an execution counts as healthy; durations in nanoseconds (docs/semantics.md 1.6, 1.8)."""

    deadline: Duration = Field(gt=0, description="Longest wait until an execution is healthy.")
    interval: Duration = Field(DEFAULT_INTERVAL, ge=_SECOND, le=_HOUR)
    success_threshold: int = Field(DEFAULT_SUCCESSES, ge=1, le=100)
    failure_threshold: int = Field(3, ge=1, le=100)
    max_error_rate: float = Field(0.10, ge=0, le=1)

    def error_limit(self) -> Fraction:
        """Return the largest error rate of a healthy window, exactly as written (X09)."""
        return Fraction(repr(self.max_error_rate))


class Order(Part):
    """The order in which nodes are taken into waves (docs/semantics.md X93)."""

    by: Literal["id", "spread", "rings"] = "id"
    label: str = ""
    values: Texts = ()


class RolloutSpec(Part):
    """How a version gets onto its nodes (docs/semantics.md 1.6)."""

    strategy: Literal["immediate", "rolling", "canary"] = "immediate"
    max_parallel: int = Field(10, ge=1, le=100, description="Wave size, percent of the nodes.")
    canary_count: int | None = Field(None, ge=1)
    canary_percent: int | None = Field(None, ge=1, le=100)
    auto_promote: bool = False
    health_check: HealthCheck | None = None
    max_failed_nodes: int = Field(10, ge=0)
    max_failed_nodes_percent: float = Field(10.0, ge=0, le=100)
    no_auto_rollback: bool = False
    order: Order = Order()

    def failure_percent_limit(self) -> Fraction:
        """Return max_failed_nodes_percent exactly as written (X09)."""
        return Fraction(repr(self.max_failed_nodes_percent))


class SelectorSpec(Part):
    """Which nodes run the job, as submitted; every member must hold (docs/semantics.md 1.4, 4.3)."""

    match_ids: Texts | None = None
    match_labels: dict[str, str] = Field(default_factory=dict)
    match_expressions: Texts = ()
    target: str | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it says no more than an absent selector."""
        return self == SelectorSpec()


class Timeouts(Part):
    """Limits in whole seconds; 0 is none, or the type's default (docs/semantics.md 1.2, X37)."""

    execution_timeout: int = Field(0, ge=0, le=MAX_SECONDS)
    queue_timeout: int = Field(0, ge=0, le=MAX_SECONDS)
    total_timeout: int = Field(0, ge=0, le=MAX_SECONDS)


class Signature(Part):
    """One signature entry as submitted; jobs.signatures judges it (docs/semantics.md 3.4)."""

    algorithm: str
    public_key: str
    signature: str
    nonce: str = ""
    signed_at: str = ""


class ScriptConfig(Part):
    """A script and the runner it is for (docs/semantics.md 4.2)."""

    runner: str
    payload: str
    env: dict[str, str] = Field(default_factory=dict)
    args: Texts = ()
    cwd: str | None = None


class OperationConfig(Part):
    """One node operation with its parameters (docs/semantics.md 2.7)."""

    operation: str
    params: dict[str, Any] = Field(default_factory=dict)


class StackConfig(Part):
    """Operations applied in order, again at each interval if one is given (docs/semantics.md 4.2)."""

    operations: Annotated[tuple[OperationConfig, ...], Strict(strict=False)]
    interval: Duration | None = Field(None, ge=_SECOND)


Config: TypeAlias = ScriptConfig | OperationConfig | StackConfig | dict[str, Any]

CONFIG_MODELS: dict[str, type[Part]] = {
    "script": ScriptConfig,
    "query": OperationConfig,
    "update": OperationConfig,
    "config": StackConfig,
}
