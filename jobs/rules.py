"""The rules of a spec that its types cannot say, each with the stage it belongs to.

The rules read the submitted members whose types hold already, so that one bad member does not hide
what is wrong with another (docs/semantics.md 4.8).
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping

from jobs.durations import DurationError, parse_duration
from jobs.problems import Problem, pointer
from nodes.operations import OPERATIONS, Kind, check_params
from nodes.selector import (
    SelectorError,
    TargetKind,
    check_label_key,
    check_label_value,
    parse_requirement,
    parse_target,
)

STAGES = ("structure", "components", "content", "timeouts", "rollout", "selector")
ONE_SHOT_TYPES = frozenset({"query", "update", "script"})
OTHER_TYPES = (*sorted(ONE_SHOT_TYPES), "config")  # all but pipeline
OPERATION_TYPES = frozenset({"query", "update"})
RUNNERS = frozenset({"shell", "python", "exec"})
RESERVED_PREFIXES = ("expanso.io/", "fleet/")
MAX_LABELS = 64
MAX_ENV_KEYS = 64
MAX_ENV_BYTES = 32 * 1024
MAX_CONFIG_BYTES = 1024 * 1024
MAX_ONE_SHOT_SECONDS = 86_400
# A century: longer than any job, and still a time that clocks and calendars can add.
MAX_SECONDS = 100 * 365 * 86_400
DURATION_NAMES = ("interval", "deadline")
DEFAULT_INTERVAL = 10_000_000_000
DEFAULT_SUCCESSES = 2

_ENV_KEY_RE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_WORDS = ("TOKEN", "SECRET", "PASSWORD", "KEY")
_SECRET_REFERENCE = "secret://"  # noqa: S105 - the scheme of a reference, not a secret

Found = Iterator[tuple[str, Problem]]
Members = Mapping[str, object]


def spec_rules(spec: Members, known_runners: Collection[str]) -> Found:
    """Yield (stage, problem) for what is wrong with a spec whose structure holds."""
    yield from _config_rules(spec, known_runners)
    yield from _timeout_rules(spec)
    yield from _rollout_rules(spec)
    yield from _selector_rules(spec)


def spec_warnings(spec: Members) -> Iterator[Problem]:
    """Yield what is allowed but doubtful in a valid spec."""
    rollout = _member(spec, "rollout")
    if rollout.get("strategy", "immediate") == "immediate":
        for name in ("max_parallel", "order"):
            if name in rollout:
                message = f"{name} has no effect with the strategy immediate"
                yield _problem("ignored_field", message, "rollout", name)
    for name in ("max_failed_nodes", "max_failed_nodes_percent"):
        if rollout.get(name) == 0:
            message = f"{name} is 0: the first failed node halts the rollout"
            yield _problem("limit_always_fires", message, "rollout", name)
    config = _member(spec, "config") if spec.get("type") == "script" else {}
    for key, value in _member(config, "env").items():
        if is_plain_secret(key, value):
            message = f"{key} looks like a secret; store it and write {_SECRET_REFERENCE}NAME"
            yield _problem("plain_secret", message, "config", "env", key)
    timeouts = {key: _whole(value) for key, value in _member(spec, "timeouts").items()}
    total = timeouts.get("total_timeout", 0)
    if 0 < total < timeouts.get("execution_timeout", 0) + timeouts.get("queue_timeout", 0):
        message = "total_timeout ends before execution_timeout and queue_timeout together"
        yield _problem("timeouts_exceed_total", message, "timeouts", "total_timeout")


def is_plain_secret(key: str, value: object) -> bool:
    """Tell whether an env value is a secret written in the open, to be masked (docs/semantics.md 4.2)."""
    return (
        any(word in key.upper() for word in _SECRET_WORDS)
        and isinstance(value, str)
        and value != ""
        and not value.startswith(_SECRET_REFERENCE)
    )


def _problem(code: str, message: str, *parts: str | int, hint: str = "") -> Problem:
    return Problem(path=pointer(*parts), code=code, message=message, hint=hint)


def _member(members: Members, name: str) -> Members:
    value = members.get(name)
    return value if isinstance(value, Mapping) else {}


def _items(members: Members, name: str) -> list[object]:
    value = members.get(name)
    return value if isinstance(value, list) else []


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def metadata_rules(spec: Members) -> Found:
    """Yield (stage, problem) for labels, meta and blocks that the type does not have."""
    for name in ("logger", "metrics"):
        if name in spec and spec.get("type") in OTHER_TYPES:
            message = f"{name} belongs to pipelines"
            yield "structure", _problem("unknown_field", message, name)
    labels = _member(spec, "labels")
    if len(labels) > MAX_LABELS:
        message = f"a job has at most {MAX_LABELS} labels"
        yield "structure", _problem("invalid_value", message, "labels")
    for key, value in labels.items():
        if wrong := check_label_key(key) or check_label_value(str(value)):
            yield "structure", _problem("invalid_value", wrong, "labels", key)
    for key in _member(spec, "meta"):
        if key.startswith(RESERVED_PREFIXES):
            message = f"keys under {' and '.join(RESERVED_PREFIXES)} belong to the system"
            yield "structure", _problem("reserved_meta_key", message, "meta", key)


def _config_rules(spec: Members, known_runners: Collection[str]) -> Found:
    job_type, config = spec.get("type"), _member(spec, "config")
    if len(json.dumps(config)) > MAX_CONFIG_BYTES:
        message = f"the config is larger than {MAX_CONFIG_BYTES} bytes"
        yield "content", _problem("invalid_value", message, "config")
    if job_type == "script":
        yield from _script_rules(config, known_runners)
    elif job_type == "config":
        if not _items(config, "operations"):
            yield "content", _problem("empty_config", "no operations", "config", "operations")
        for index, item in enumerate(_items(config, "operations")):
            step = item if isinstance(item, Mapping) else {}
            yield from _operation_rules(step, Kind.UPDATE, "config", "operations", index)
    elif job_type in OPERATION_TYPES:
        yield from _operation_rules(config, Kind(str(job_type)), "config")
    elif not config:
        yield "content", _problem("empty_config", "the pipeline is empty", "config")


def _script_rules(config: Members, known_runners: Collection[str]) -> Found:
    runner = config.get("runner")
    if runner not in known_runners:
        message = f"{runner!r} is none of {', '.join(sorted(known_runners))}"
        yield "components", _problem("unknown_runner", message, "config", "runner")
    if not str(config.get("payload", "")).strip():
        message = "the payload holds nothing but white space"
        yield "content", _problem("empty_payload", message, "config", "payload")
    env = _member(config, "env")
    for key in env:
        if not _ENV_KEY_RE.fullmatch(key):
            message = f"{key!r} is not a variable name: letters, digits and _, no digit first"
            yield "content", _problem("invalid_value", message, "config", "env", key)
    size = sum(len(key.encode()) + len(str(value).encode()) for key, value in env.items())
    if len(env) > MAX_ENV_KEYS or size > MAX_ENV_BYTES:
        message = f"env holds more than {MAX_ENV_KEYS} variables or {MAX_ENV_BYTES} bytes"
        yield "content", _problem("invalid_value", message, "config", "env")


def _operation_rules(step: Members, kind: Kind, *place: str | int) -> Found:
    name = str(step.get("operation", ""))
    operation = OPERATIONS.get(name)
    if operation is None:
        message = f"there is no operation {name!r}"
        yield "components", _problem("unknown_operation", message, *place, "operation")
        return
    if operation.kind is not kind:
        message = f"{name} is of kind {operation.kind}, here {kind} is needed"
        yield "components", _problem("operation_type_mismatch", message, *place, "operation")
        return
    for wrong in check_params(operation, _member(step, "params")):
        yield "content", _problem(wrong.code, wrong.message, *place, "params", *wrong.keys)


def _timeout_rules(spec: Members) -> Found:
    seconds = _whole(_member(spec, "timeouts").get("execution_timeout"))
    if spec.get("type") in ONE_SHOT_TYPES and seconds > MAX_ONE_SHOT_SECONDS:
        message = f"execution_timeout is at most {MAX_ONE_SHOT_SECONDS} seconds for this type"
        yield "timeouts", _problem("invalid_timeout", message, "timeouts", "execution_timeout")


def _rollout_rules(spec: Members) -> Found:
    if "rollout" not in spec:
        return
    if spec.get("type") == "query":
        message = "a query changes nothing, so it has no rollout"
        yield "rollout", _problem("rollout_not_allowed", message, "rollout")
        return
    rollout = _member(spec, "rollout")
    strategy = rollout.get("strategy", "immediate")
    given = [name for name in ("canary_count", "canary_percent") if name in rollout]
    if strategy != "canary":
        for name in given:
            message = f"{name} needs the strategy canary"
            yield "rollout", _problem("invalid_value", message, "rollout", name)
    elif len(given) > 1:
        message = "canary_count and canary_percent exclude each other"
        yield "rollout", _problem("canary_count_and_percent", message, "rollout", given[1])
    # X52: only pipelines are judged by windows; all else settles by its result.
    needs_health = strategy in ("rolling", "canary") and spec.get("type") == "pipeline"
    if needs_health and "health_check" not in rollout:
        message = f"the strategy {strategy} needs a health_check with a deadline"
        yield "rollout", _problem("health_check_required", message, "rollout", "health_check")
    yield from _deadline_rules(_member(rollout, "health_check"))
    yield from _order_rules(_member(rollout, "order"))


def _deadline_rules(health_check: Members) -> Found:
    try:
        deadline = parse_duration(health_check.get("deadline"))
        interval = parse_duration(health_check.get("interval", DEFAULT_INTERVAL))
    except DurationError:
        return
    successes = _whole(health_check.get("success_threshold", DEFAULT_SUCCESSES))
    if deadline < interval * successes:
        message = "no execution can become healthy: deadline < interval x success_threshold"
        place = ("rollout", "health_check", "deadline")
        yield "rollout", _problem("deadline_too_short", message, *place)


def _order_rules(order: Members) -> Found:
    by, label = order.get("by", "id"), str(order.get("label", ""))
    values = [str(value) for value in _items(order, "values")]
    wanted = {"id": (), "spread": ("label",), "rings": ("label", "values")}.get(str(by))
    if wanted is None:
        return
    for name in ("label", "values"):
        if order.get(name) and name not in wanted:
            message = f"an order by {by} has no {name}"
            yield "rollout", _problem("invalid_value", message, "rollout", "order", name)
        elif not order.get(name) and name in wanted:
            message = f"an order by {by} needs {name}"
            yield "rollout", _problem("invalid_value", message, "rollout", "order", name)
    if label and (wrong := check_label_key(label)):
        yield "rollout", _problem("invalid_value", wrong, "rollout", "order", "label")
    for index, value in enumerate(values):
        wrong = check_label_value(value) or ("given twice" if value in values[:index] else "")
        if wrong:
            yield "rollout", _problem("invalid_value", wrong, "rollout", "order", "values", index)


def _selector_rules(spec: Members) -> Found:
    selector = _member(spec, "selector")
    if selector.get("match_ids") == []:
        message = "match_ids is empty: it would name nobody"
        hint = "leave it out to mean every node"
        problem = _problem("invalid_selector", message, "selector", "match_ids", hint=hint)
        yield "selector", problem
    for key, value in _member(selector, "match_labels").items():
        if wrong := check_label_key(key) or check_label_value(str(value)):
            yield "selector", _problem("invalid_selector", wrong, "selector", "match_labels", key)
    for index, text in enumerate(_items(selector, "match_expressions")):
        try:
            parse_requirement(str(text))
        except SelectorError as error:
            place = ("selector", "match_expressions", index)
            yield "selector", _selector_problem(error, *place)
    if "target" in selector:
        yield from _target_rules(spec, str(selector["target"]))


def _target_rules(spec: Members, text: str) -> Found:
    try:
        target = parse_target(text)
    except SelectorError as error:
        yield "selector", _selector_problem(error, "selector", "target")
        return
    if target.kind is TargetKind.ANY and spec.get("type") not in ONE_SHOT_TYPES:
        message = "a long-running job belongs to all nodes that match"
        yield "selector", _problem("any_not_allowed", message, "selector", "target")


def _selector_problem(error: SelectorError, *place: str | int) -> Problem:
    message = f"column {error.column}: {error.message}"
    return _problem("invalid_selector", message, *place)
