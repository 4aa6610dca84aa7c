"""The job spec: one frozen model tree, read from a document with every problem of a stage at once."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, TypeAlias, get_args

from pydantic import (
    Field,
    Strict,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic_core import PydanticCustomError

from jobs.document import Document
from jobs.durations import format_duration
from jobs.legacy import LEGACY_HINT, translate_deployment
from jobs.parts import (
    CONFIG_MODELS,
    Config,
    HealthCheck,
    OperationConfig,
    Order,
    Part,
    RolloutSpec,
    ScriptConfig,
    SelectorSpec,
    Signature,
    StackConfig,
    Timeouts,
)
from jobs.printing import print_yaml
from jobs.problems import Problem, SpecRefused
from jobs.refusals import problem_of
from jobs.rules import (
    DURATION_NAMES,
    ONE_SHOT_TYPES,
    RUNNERS,
    STAGES,
    metadata_rules,
    spec_rules,
    spec_warnings,
)
from nodes.selector import ALL, ANY, Selector, Target, parse_requirements, parse_target

__all__ = [
    "JOB_TYPES",
    "HealthCheck",
    "JobSpec",
    "JobType",
    "OperationConfig",
    "Order",
    "ParsedSpec",
    "RestartPolicy",
    "RolloutSpec",
    "ScriptConfig",
    "SelectorSpec",
    "Signature",
    "SpecHeader",
    "StackConfig",
    "Timeouts",
    "default_restart_policy",
    "json_schema",
    "parse_spec",
    "peek_spec",
    "steps_of",
]

JobType: TypeAlias = Literal["pipeline", "config", "query", "update", "script"]
RestartPolicy: TypeAlias = Literal["on-failure", "always", "never"]
JOB_TYPES: tuple[str, ...] = get_args(JobType)

_DEFAULT_EXECUTION_SECONDS = {"script": 60, "query": 30, "update": 30}
_NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$"


def default_restart_policy(job_type: str) -> RestartPolicy:
    """Return the restart policy of a type that says nothing (docs/semantics.md 4.2)."""
    return "never" if job_type in ONE_SHOT_TYPES else "on-failure"


class JobSpec(Part):
    """What a user wishes: the spec of one job version (docs/semantics.md 1.2, 4.2)."""

    name: str = Field(min_length=1, max_length=128, pattern=_NAME_PATTERN)
    namespace: str = Field("default", min_length=1, max_length=63, pattern=_NAME_PATTERN)
    type: JobType
    description: str = Field("", max_length=4096)
    labels: dict[str, str] = Field(default_factory=dict)
    meta: dict[str, str] = Field(default_factory=dict)
    priority: int = Field(50, ge=0, le=1000)
    restart_policy: RestartPolicy | None = None
    rollout: RolloutSpec | None = None
    selector: SelectorSpec | None = None
    timeouts: Timeouts = Timeouts()
    config: Config
    logger: dict[str, Any] | None = None
    metrics: dict[str, Any] | None = None
    signatures: Annotated[tuple[Signature, ...], Strict(strict=False)] = ()

    @field_validator("config", mode="wrap")
    @classmethod
    def _config_of_its_type(
        cls, value: object, handler: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> object:
        model = CONFIG_MODELS.get(info.data.get("type", ""))
        if model is not None:
            return model.model_validate(value)
        if not isinstance(value, dict):
            raise PydanticCustomError("invalid_type", "must be a mapping")
        return value

    @property
    def is_one_shot(self) -> bool:
        """Whether executions end by themselves: script, query, update (docs/semantics.md 4.2)."""
        return self.type in ONE_SHOT_TYPES

    @property
    def effective_restart_policy(self) -> RestartPolicy:
        """The policy given, or the type's default (docs/semantics.md 4.2)."""
        return self.restart_policy or default_restart_policy(self.type)

    @property
    def effective_rollout(self) -> RolloutSpec:
        """The rollout block, or its defaults: everything at once (docs/semantics.md 1.2)."""
        return self.rollout or RolloutSpec()

    @property
    def effective_target(self) -> Target:
        """The target given; else any one node for an unrouted one-shot, else all (X35)."""
        if self.selector is not None and self.selector.target is not None:
            return parse_target(self.selector.target)
        unrouted = self.selector is None or self.selector.is_empty
        return ANY if self.is_one_shot and unrouted else ALL

    @property
    def effective_execution_timeout(self) -> int:
        """Seconds one execution may take; 0 is no limit (X37)."""
        return self.timeouts.execution_timeout or _DEFAULT_EXECUTION_SECONDS.get(self.type, 0)

    @property
    def node_selector(self) -> Selector:
        """The selector in the form that matches nodes, its target filled in."""
        given = self.selector or SelectorSpec()
        return Selector(
            match_ids=given.match_ids,
            match_labels=given.match_labels,
            requirements=parse_requirements(given.match_expressions),
            target=self.effective_target,
        )

    @property
    def required_runtime(self) -> str:
        """The runner that a node must offer, or "" (docs/semantics.md 4.2)."""
        return self.config.runner if isinstance(self.config, ScriptConfig) else ""

    @property
    def operation_names(self) -> tuple[str, ...]:
        """The names of the node operations it runs, in order."""
        match self.config:
            case OperationConfig():
                return (self.config.operation,)
            case StackConfig():
                return tuple(step.operation for step in self.config.operations)
        return ()

    def to_wire(self, duration: Callable[[int], object]) -> dict[str, Any]:
        """Return plain JSON values with each duration printed by `duration`; absent ones left out."""
        wire: dict[str, Any] = {
            "name": self.name,
            "namespace": self.namespace,
            "type": self.type,
            "priority": self.priority,
            "restart_policy": self.effective_restart_policy,
            "config": _config_wire(self.config, duration),
        }
        if self.rollout is not None:
            wire["rollout"] = _rollout_wire(self.rollout, duration)
        if self.selector is not None:
            wire["selector"] = self.selector.model_dump(mode="json", exclude_defaults=True)
        timeouts = self.timeouts.model_dump(exclude_defaults=True)
        signatures = [entry.model_dump() for entry in self.signatures]
        optional = {
            "description": self.description,
            "labels": dict(self.labels),
            "meta": dict(self.meta),
            "timeouts": timeouts,
            "signatures": signatures,
        }
        wire |= {name: value for name, value in optional.items() if value}
        open_blocks = {"logger": self.logger, "metrics": self.metrics}
        return wire | {name: value for name, value in open_blocks.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """Return the wire form of the API: durations are whole nanoseconds (docs/semantics.md 1.6)."""
        return self.to_wire(int)

    def to_yaml(self) -> str:
        """Return the text of the editor and of exports: durations as texts, block style."""
        return print_yaml(self.to_wire(format_duration))


def steps_of(spec: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the operations of a valid spec in its stored form, in their order; () if it has none."""
    if spec["type"] == "config":
        return spec["config"]["operations"]  # type: ignore[no-any-return]
    return (spec["config"],) if spec["type"] in ("query", "update") else ()


def _config_wire(config: Config, duration: Callable[[int], object]) -> dict[str, Any]:
    if not isinstance(config, Part):
        return config
    wire = config.model_dump(mode="json", exclude_defaults=True)
    if isinstance(config, StackConfig) and config.interval is not None:
        wire["interval"] = duration(config.interval)
    return wire


def _rollout_wire(rollout: RolloutSpec, duration: Callable[[int], object]) -> dict[str, Any]:
    wire = rollout.model_dump(mode="json", exclude_none=True)
    if rollout.order == Order():
        del wire["order"]
    if rollout.health_check is not None:
        for name in DURATION_NAMES:
            wire["health_check"][name] = duration(wire["health_check"][name])
    return wire


_MEMBERS_OF: dict[tuple[str | int, ...], Collection[str]] = {
    (): JobSpec.model_fields,
    ("rollout",): RolloutSpec.model_fields,
    ("rollout", "health_check"): HealthCheck.model_fields,
    ("rollout", "order"): Order.model_fields,
    ("selector",): SelectorSpec.model_fields,
    ("timeouts",): Timeouts.model_fields,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedSpec:
    """A valid spec and what is doubtful about it."""

    spec: JobSpec
    warnings: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecHeader:
    """What permission checks need before a spec is validated (C10); "" where it cannot be read."""

    name: str
    namespace: str
    type: str
    operations: tuple[str, ...] = ()


def peek_spec(value: Mapping[str, object]) -> SpecHeader:
    """Read name, namespace, type and operations of a spec that may still be wrong."""
    config = value.get("config")
    config = config if isinstance(config, Mapping) else {}
    listed = config.get("operations")
    steps = [config, *(listed if isinstance(listed, list) else [])]
    names = [step.get("operation") for step in steps if isinstance(step, Mapping)]
    namespace = value.get("namespace")
    return SpecHeader(
        name=_text_or_empty(value.get("name")),
        namespace="default" if namespace is None else _text_or_empty(namespace),
        type=_text_or_empty(value.get("type")),
        operations=tuple(name for name in names if isinstance(name, str)),
    )


def _text_or_empty(value: object) -> str:
    return value if isinstance(value, str) else ""


def parse_spec(
    source: Document | Mapping[str, Any],
    *,
    compat: bool = False,
    fleet_size: int | None = None,
    known_runners: Collection[str] = RUNNERS,
    at: str = "",
    after_structure: Callable[[], None] | None = None,
) -> ParsedSpec:
    """Validate a spec, stage by stage (docs/semantics.md 4.8 stages 2 and 4 to 8).

    `at` is the JSON pointer of the spec inside the document; paths of problems begin at the spec.
    `compat` translates a `deployment` block, for which `fleet_size` is the number of matching nodes.
    `after_structure` checks signatures (stage 3) and may raise SpecRefused itself.
    Raises SpecRefused with all problems of the first stage that fails, each with its line if known.
    """
    document = source if isinstance(source, Document) else None
    submitted = dict(_part_at(document.value, at) if document else source)  # type: ignore[arg-type]
    data = _without_nulls(submitted)
    found, warnings = _take_legacy(data, compat=compat, fleet_size=fleet_size)
    if data.get("type") in JOB_TYPES:
        data.setdefault("restart_policy", default_restart_policy(data["type"]))
    try:
        spec = JobSpec.model_validate(data)
    except ValidationError as error:
        spec = None
        found += [problem_of(detail, _MEMBERS_OF) for detail in error.errors(include_url=False)]
    found += metadata_rules(data)
    locate = _Locator(document, at)
    _refuse(found, ("structure",), locate)
    if after_structure is not None:
        after_structure()
    found += spec_rules(data, known_runners)
    _refuse(found, STAGES, locate)
    assert spec is not None, "a spec without problems is a spec"
    doubts = (*warnings, *spec_warnings(data))
    return ParsedSpec(spec=spec, warnings=tuple(locate(doubt) for doubt in doubts))


def _part_at(value: Mapping[str, object], at: str) -> Mapping[str, object]:
    part: object = value
    for key in at.split("/")[1:]:
        part = part.get(key) if isinstance(part, Mapping) else None
    if not isinstance(part, Mapping):
        problem = Problem(path="", code="invalid_type", message="the spec must be a mapping")
        raise SpecRefused("structure", [problem])
    return part


def _without_nulls(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out null members everywhere but in the engine's own blocks (C10)."""
    engine_owned = {"logger", "metrics"} | ({"config"} if spec.get("type") == "pipeline" else set())
    return {
        key: value if key in engine_owned else _drop_nulls(value)
        for key, value in spec.items()
        if value is not None
    }


def _drop_nulls(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        return {key: _drop_nulls(child) for key, child in value.items() if child is not None}
    return [_drop_nulls(child) for child in value] if isinstance(value, list) else value


def _take_legacy(
    data: dict[str, Any], *, compat: bool, fleet_size: int | None
) -> tuple[list[tuple[str, Problem]], tuple[Problem, ...]]:
    deployment = data.pop("deployment", None)
    if deployment is None:
        return [], ()
    if compat and isinstance(deployment, dict) and "rollout" not in data:
        data["rollout"], warnings = translate_deployment(deployment, fleet_size)
        return [], warnings
    message = "deployment belongs to an older schema"
    problem = Problem(path="/deployment", code="legacy_field", message=message, hint=LEGACY_HINT)
    return [("structure", problem)], ()


@dataclass(frozen=True, slots=True)
class _Locator:
    """Adds the line and column of a problem's path."""

    document: Document | None
    at: str

    def __call__(self, problem: Problem) -> Problem:
        position = self.document.position(self.at + problem.path) if self.document else None
        if position is None:
            return problem
        return replace(problem, line=position[0], column=position[1])


def _refuse(
    found: Iterable[tuple[str, Problem]], stages: tuple[str, ...], locate: _Locator
) -> None:
    found = list(found)
    for stage in stages:
        problems = [locate(problem) for at, problem in found if at == stage]
        if problems:
            problems.sort(key=lambda problem: problem.line or 0)
            raise SpecRefused(stage, problems)


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a spec, for the editor and the API's documentation."""
    schema = JobSpec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "Job spec"
    schema["properties"]["config"] = {"type": "object"}
    schema["allOf"] = [
        {
            "if": {"properties": {"type": {"const": job_type}}, "required": ["type"]},
            "then": {"properties": {"config": {"$ref": f"#/$defs/{model.__name__}"}}},
        }
        for job_type, model in CONFIG_MODELS.items()
    ]
    return schema
