"""Job specs: what is read, defaulted and printed (docs/semantics.md 1.2, 1.4, 1.6, 4.2, part 5)."""

from fractions import Fraction

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.document import parse_document
from jobs.printing import print_yaml
from jobs.problems import SpecRefused
from jobs.spec import (
    JobSpec,
    OperationConfig,
    ScriptConfig,
    StackConfig,
    json_schema,
    parse_spec,
    peek_spec,
    steps_of,
)
from nodes.selector import ALL, ANY, parse_requirement, parse_target

SECOND = 1_000_000_000
PIPELINE = {"name": "a", "type": "pipeline", "config": {"input": {"stdin": {}}}}
SCRIPT = {"name": "a", "type": "script", "config": {"runner": "shell", "payload": "ls"}}
QUERY = {"name": "a", "type": "query", "config": {"operation": "node.hostname.get"}}
UPDATE = {
    "name": "a",
    "type": "update",
    "config": {"operation": "node.hostname.update", "params": {"hostname": "h"}},
}
STACK = {"name": "a", "type": "config", "config": {"operations": [UPDATE["config"]]}}
ALL_TYPES = [PIPELINE, SCRIPT, QUERY, UPDATE, STACK]


def spec_of(base=PIPELINE, **members):
    return parse_spec(base | members).spec


SEED = {
    "config": {
        "input": {"file": {"paths": ["/var/log/app/*.log"]}},
        "output": {"stdout": {}},
        "pipeline": {"processors": [{"mapping": "root = this\nroot.processed_at = now()\n"}]},
    },
    "description": "Processes application logs from edge nodes",
    "labels": {"env": "production", "region": "us-west"},
    "name": "log-processor",
    "namespace": "production",
    "priority": 50,
    "selector": {"match_labels": {"env": "production"}},
    "type": "pipeline",
}


def test_the_seed_job_comes_back_as_it_was_sent():
    parsed = parse_spec(SEED)
    assert parsed.spec.to_json() == SEED | {"restart_policy": "on-failure"}
    assert parsed.warnings == ()


def test_absent_members_take_their_defaults():
    spec = spec_of()
    assert (spec.namespace, spec.priority, spec.description) == ("default", 50, "")
    assert (spec.rollout, spec.selector, dict(spec.labels)) == (None, None, {})
    rollout = spec.effective_rollout
    assert (rollout.strategy, rollout.max_parallel, rollout.max_failed_nodes) == (
        "immediate",
        10,
        10,
    )
    health = spec_of(rollout={"strategy": "rolling", "health_check": {"deadline": "1m"}})
    check = health.rollout.health_check
    assert (check.deadline, check.interval) == (60 * SECOND, 10 * SECOND)
    assert (check.success_threshold, check.failure_threshold) == (2, 3)
    assert check.error_limit() == Fraction(1, 10)


def test_an_explicit_zero_is_kept():
    check = {"deadline": "1m", "max_error_rate": 0.0}
    rollout = {"strategy": "rolling", "health_check": check}
    rollout |= {"max_failed_nodes": 0, "max_failed_nodes_percent": 0}
    found = spec_of(rollout=rollout).rollout
    assert found.health_check.error_limit() == 0
    assert (found.max_failed_nodes, found.failure_percent_limit()) == (0, 0)


def test_null_is_the_same_as_absent_outside_the_engine():
    check = {"deadline": "1m", "max_error_rate": None}
    given_spec = spec_of(
        description=None,
        labels={"a": None},
        timeouts=None,
        rollout={"strategy": "rolling", "health_check": check, "canary_count": None},
        selector={"match_ids": None, "target": None},
        config={"input": {"stdin": None}},
    )
    assert given_spec.rollout.health_check.max_error_rate == 0.1
    assert given_spec.selector.is_empty
    assert dict(given_spec.labels) == {}
    assert given_spec.config == {"input": {"stdin": None}}
    params = {"hostname": "h"}
    config = {"operation": "node.hostname.update", "params": params | {"x": None}}
    assert spec_of(UPDATE, config=config).config.params == params


@pytest.mark.parametrize("percent", ["33.3", "0.1", "99.99", "10", "12.345678901234"])
def test_percentages_are_exact(percent):
    text = f"name: a\ntype: pipeline\nconfig: {{a: b}}\nrollout: {{max_failed_nodes_percent: {percent}}}"
    spec = parse_spec(parse_document(text)).spec
    assert spec.rollout.failure_percent_limit() == Fraction(percent)


@pytest.mark.parametrize("base", ALL_TYPES, ids=lambda base: base["type"])
def test_each_type_behaves_by_its_row(base):
    spec = spec_of(base)
    one_shot = base["type"] in {"query", "update", "script"}
    assert spec.is_one_shot is one_shot
    assert spec.effective_restart_policy == ("never" if one_shot else "on-failure")
    seconds = {"script": 60, "query": 30, "update": 30}.get(base["type"], 0)
    assert spec.effective_execution_timeout == seconds
    assert spec_of(base, timeouts={"execution_timeout": 7}).effective_execution_timeout == 7
    assert spec_of(base, restart_policy="always").effective_restart_policy == "always"


def test_a_spec_built_by_hand_has_the_default_policy_too():
    assert JobSpec.model_validate(SCRIPT).effective_restart_policy == "never"


def test_the_config_of_each_type_has_its_own_shape():
    assert spec_of(SCRIPT).config == ScriptConfig(runner="shell", payload="ls")
    assert spec_of(SCRIPT).required_runtime == "shell"
    assert isinstance(spec_of(QUERY).config, OperationConfig)
    assert isinstance(spec_of(STACK).config, StackConfig)
    assert spec_of(QUERY).operation_names == ("node.hostname.get",)
    assert spec_of(STACK).operation_names == ("node.hostname.update",)
    assert spec_of().operation_names == ()
    assert spec_of().required_runtime == ""


@pytest.mark.parametrize(
    ("base", "selector", "target"),
    [
        (SCRIPT, None, ANY),
        (SCRIPT, {}, ANY),
        (SCRIPT, {"match_labels": {}, "match_expressions": []}, ANY),
        (SCRIPT, {"match_labels": {"a": "b"}}, ALL),
        (QUERY, {"match_ids": ["x"]}, ALL),
        (UPDATE, {"match_expressions": ["a"]}, ALL),
        (UPDATE, {"target": "_any", "match_labels": {"a": "b"}}, ANY),
        (PIPELINE, None, ALL),
        (STACK, {}, ALL),
        (PIPELINE, {"target": "group:web"}, parse_target("group:web")),
    ],
)
def test_the_default_target_never_picks_one_node_of_a_group(base, selector, target):
    spec = spec_of(base, selector=selector)
    assert spec.effective_target == target
    assert spec.node_selector.target == target


def test_the_selector_is_ready_to_match():
    members = {"match_ids": ["i"], "match_labels": {"a": "b"}, "match_expressions": ["!c"]}
    found = spec_of(selector=members).node_selector
    assert found.match_ids == ("i",)
    assert found.match_labels == {"a": "b"}
    assert found.requirements == (parse_requirement("!c"),)


def test_durations_are_numbers_in_json_and_texts_in_yaml():
    rollout = {"strategy": "rolling", "health_check": {"deadline": "1m30s"}}
    spec = spec_of(rollout=rollout)
    assert spec.to_json()["rollout"]["health_check"]["deadline"] == 90 * SECOND
    assert "deadline: 1m30s\n" in spec.to_yaml()
    stack = spec_of(STACK, config=STACK["config"] | {"interval": "5m"})
    assert stack.to_json()["config"]["interval"] == 300 * SECOND
    assert "interval: 5m\n" in stack.to_yaml()


def test_yaml_keeps_lines_of_long_texts_and_quotes_what_would_change():
    text = spec_of(
        SCRIPT, config={"runner": "shell", "payload": "a\nb\n", "args": ["1", "1e5"]}
    ).to_yaml()
    assert "payload: |\n    a\n    b\n" in text
    assert "- '1'\n  - '1e5'\n" in text


FULL = [
    SEED,
    *ALL_TYPES,
    PIPELINE
    | {
        "logger": {"level": "INFO"},
        "metrics": {},
        "meta": {"owner": "me"},
        "timeouts": {"queue_timeout": 5, "total_timeout": 9},
        "selector": {"match_ids": ["x"], "target": "_all"},
        "rollout": {
            "strategy": "canary",
            "canary_percent": 5,
            "auto_promote": True,
            "max_failed_nodes_percent": 33.3,
            "no_auto_rollback": True,
            "health_check": {"deadline": "5m", "interval": "1s", "max_error_rate": 0.0},
            "order": {"by": "rings", "label": "ring", "values": ["a", "b"]},
        },
    },
    SCRIPT
    | {
        "config": {
            "runner": "exec",
            "payload": "/bin/true",
            "env": {"A": "1"},
            "args": ["x"],
            "cwd": "/",
        },
        "signatures": [{"algorithm": "ed25519", "public_key": "k", "signature": "s"}],
    },
    STACK | {"config": STACK["config"] | {"interval": "1h"}},
]


@pytest.mark.parametrize("value", FULL)
def test_a_printed_spec_reads_back_as_itself(value):
    spec = parse_spec(value).spec
    assert parse_spec(spec.to_json()).spec == spec
    assert parse_spec(parse_document(spec.to_yaml())).spec == spec


@pytest.mark.parametrize("value", FULL)
def test_the_json_schema_accepts_what_the_server_prints(value):
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(parse_spec(value).spec.to_json(), schema)


@pytest.mark.parametrize(
    "value",
    [
        {},
        PIPELINE | {"foo": 1},
        PIPELINE | {"rollout": {"max_parallel": 0}},
        PIPELINE | {"rollout": {"health_check": {"deadline": "5 minutes"}}},
        SCRIPT | {"config": {"runner": "shell"}},
        SCRIPT | {"config": {"runner": "shell", "payload": "x", "more": 1}},
        QUERY | {"config": {}},
    ],
)
def test_the_json_schema_refuses_what_the_server_refuses(value):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, json_schema())
    with pytest.raises(SpecRefused):
        parse_spec(value)


TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
TRICKY = st.sampled_from(
    [
        "1e5",
        "0o17",
        "0x1F",
        "yes",
        "null",
        "~",
        "",
        "2025-01-01",
        "1_0",
        ".5",
        "+1",
        "0755",
        "a: b",
        "- a",
    ]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
    | TRICKY,
    lambda child: st.lists(child, max_size=3) | st.dictionaries(TEXTS | TRICKY, child, max_size=3),
    max_leaves=8,
)


@example({"\x85": "a\u2028b\n", "a": "\r\n", "b": "\ufeff", "c": "\x7f"})
@given(st.dictionaries(TEXTS | TRICKY, JSON, max_size=4))
def test_any_printed_yaml_reads_back_as_the_same_values(value):
    assert parse_document(print_yaml(value), kind="yaml").value == value


@given(st.dictionaries(TEXTS, JSON, min_size=1, max_size=3), TEXTS)
def test_any_pipeline_config_survives_printing(config, description):
    spec = spec_of(config=config, description=description)
    assert parse_spec(parse_document(spec.to_yaml(), kind="yaml")).spec == spec


MEMBERS = st.sampled_from([*JobSpec.model_fields, "deployment", "foo"])
WORDS = """
    strategy max_parallel canary_count health_check deadline interval order by match_ids
    match_labels match_expressions target execution_timeout operations operation params runner
    payload env label values canary rolling rings script query config pipeline 1m shell
"""
BLOCKS = st.sampled_from(WORDS.split())
ROUGH = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2**62) | st.floats() | BLOCKS | TEXTS,
    lambda child: st.lists(child, max_size=3) | st.dictionaries(BLOCKS | TEXTS, child, max_size=4),
    max_leaves=10,
)


@given(
    st.sampled_from([{}, *ALL_TYPES]),
    st.dictionaries(MEMBERS, ROUGH, max_size=4),
    st.booleans(),
    st.sampled_from([None, 0, 7]),
)
def test_any_mapping_is_a_spec_or_a_refusal(base, members, compat, fleet_size):
    peek_spec(base | members)
    try:
        parsed = parse_spec(base | members, compat=compat, fleet_size=fleet_size)
    except SpecRefused as refused:
        status, problems = refused.status, refused.problems
    else:
        assert parse_spec(parsed.spec.to_json()).spec == parsed.spec
        return
    assert status == 422
    assert all(problem.message and problem.path.startswith("/") for problem in problems)


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ({"type": "query", "config": {"operation": "a"}}, ["a"]),
        (
            {"type": "config", "config": {"operations": [{"operation": "a"}, {"operation": "b"}]}},
            ["a", "b"],
        ),
        ({"type": "pipeline", "config": {"operations": "the engine's own"}}, []),
    ],
)
def test_the_operations_of_a_stored_spec_in_their_order(spec, names):
    assert [step["operation"] for step in steps_of(spec)] == names
