"""Refused specs: every problem of the first failing stage, with code, path and line (4.8, X38)."""

import pytest

from jobs.document import parse_document
from jobs.problems import CODES, WARNINGS, Problem, SpecRefused, pointer
from jobs.spec import parse_spec, peek_spec

HEALTH = {"deadline": "1m"}
PIPELINE = {"name": "a", "type": "pipeline", "config": {"input": {"stdin": {}}}}
SCRIPT = {"name": "a", "type": "script", "config": {"runner": "shell", "payload": "ls"}}
QUERY = {"name": "a", "type": "query", "config": {"operation": "node.hostname.get"}}
UPDATE = {
    "name": "a",
    "type": "update",
    "config": {"operation": "node.hostname.update", "params": {"hostname": "h"}},
}
STACK = {"name": "a", "type": "config", "config": {"operations": [UPDATE["config"]]}}


def refused(value, **options):
    with pytest.raises(SpecRefused) as caught:
        parse_spec(value, **options)
    return caught.value


def found(value, **options):
    refusal = refused(value, **options)
    assert all(problem.message for problem in refusal.problems)
    return refusal.stage, [(problem.code, problem.path) for problem in refusal.problems]


STRUCTURE = [
    ({}, [("invalid_spec", "/name"), ("invalid_spec", "/type"), ("invalid_spec", "/config")]),
    (PIPELINE | {"name": None}, [("invalid_spec", "/name")]),
    (PIPELINE | {"name": ""}, [("invalid_value", "/name")]),
    (PIPELINE | {"name": "A"}, [("invalid_value", "/name")]),
    (PIPELINE | {"name": "a\n"}, [("invalid_value", "/name")]),
    (PIPELINE | {"name": "a-"}, [("invalid_value", "/name")]),
    (PIPELINE | {"name": "a" * 129}, [("invalid_value", "/name")]),
    (PIPELINE | {"name": 7}, [("invalid_type", "/name")]),
    (PIPELINE | {"namespace": "a" * 64}, [("invalid_value", "/namespace")]),
    (PIPELINE | {"type": "daemon"}, [("unknown_job_type", "/type")]),
    (PIPELINE | {"type": ["x"]}, [("invalid_type", "/type")]),
    (
        PIPELINE | {"type": "daemon", "config": 1},
        [("unknown_job_type", "/type"), ("invalid_type", "/config")],
    ),
    (PIPELINE | {"config": []}, [("invalid_type", "/config")]),
    (PIPELINE | {"foo": 1}, [("unknown_field", "/foo")]),
    (PIPELINE | {"a/b": 1}, [("unknown_field", "/a~1b")]),
    (PIPELINE | {"id": "x"}, [("unknown_field", "/id")]),
    (PIPELINE | {"priority": 1001}, [("invalid_value", "/priority")]),
    (PIPELINE | {"priority": -1}, [("invalid_value", "/priority")]),
    (PIPELINE | {"priority": 1.0}, [("invalid_type", "/priority")]),
    (PIPELINE | {"priority": True}, [("invalid_type", "/priority")]),
    (PIPELINE | {"restart_policy": "sometimes"}, [("invalid_value", "/restart_policy")]),
    (PIPELINE | {"description": "x" * 4097}, [("invalid_value", "/description")]),
    (PIPELINE | {"labels": {"a": 1}}, [("invalid_type", "/labels/a")]),
    (PIPELINE | {"labels": {"-a": "b"}}, [("invalid_value", "/labels/-a")]),
    (PIPELINE | {"labels": {"x/a": "b c"}}, [("invalid_value", "/labels/x~1a")]),
    (PIPELINE | {"labels": {f"k{n}": "v" for n in range(65)}}, [("invalid_value", "/labels")]),
    (PIPELINE | {"meta": {"expanso.io/a": "b"}}, [("reserved_meta_key", "/meta/expanso.io~1a")]),
    (PIPELINE | {"meta": {"fleet/a": "b"}}, [("reserved_meta_key", "/meta/fleet~1a")]),
    (PIPELINE | {"rollout": {"wave": 1}}, [("unknown_field", "/rollout/wave")]),
    (PIPELINE | {"rollout": {"max_parallel": 10.0}}, [("invalid_type", "/rollout/max_parallel")]),
    (PIPELINE | {"rollout": {"max_parallel": "10%"}}, [("invalid_type", "/rollout/max_parallel")]),
    (
        PIPELINE | {"rollout": {"health_check": {}}},
        [("invalid_spec", "/rollout/health_check/deadline")],
    ),
    (
        PIPELINE | {"rollout": {"health_check": {"deadline": []}}},
        [("invalid_type", "/rollout/health_check/deadline")],
    ),
    (PIPELINE | {"selector": {"match": 1}}, [("unknown_field", "/selector/match")]),
    (PIPELINE | {"selector": {"match_ids": ["a", 1]}}, [("invalid_type", "/selector/match_ids/1")]),
    (PIPELINE | {"selector": {"match_ids": "a"}}, [("invalid_type", "/selector/match_ids")]),
    (PIPELINE | {"timeouts": {"total": 1}}, [("unknown_field", "/timeouts/total")]),
    (
        PIPELINE | {"timeouts": {"total_timeout": "1m"}},
        [("invalid_type", "/timeouts/total_timeout")],
    ),
    (SCRIPT | {"config": {"runner": "shell"}}, [("invalid_spec", "/config/payload")]),
    (SCRIPT | {"config": SCRIPT["config"] | {"x": 1}}, [("unknown_field", "/config/x")]),
    (QUERY | {"config": QUERY["config"] | {"x": 1}}, [("unknown_field", "/config/x")]),
    (SCRIPT | {"logger": {}}, [("unknown_field", "/logger")]),
    (STACK | {"metrics": {}}, [("unknown_field", "/metrics")]),
    (
        SCRIPT | {"signatures": [{}]},
        [
            ("invalid_spec", f"/signatures/0/{name}")
            for name in ("algorithm", "public_key", "signature")
        ],
    ),
    (PIPELINE | {"deployment": {}}, [("legacy_field", "/deployment")]),
]


@pytest.mark.parametrize(("value", "problems"), STRUCTURE)
def test_the_structure_is_checked_first(value, problems):
    assert found(value) == ("structure", problems)


COMPONENTS = [
    (
        SCRIPT | {"config": {"runner": "hero", "payload": "x"}},
        [("unknown_runner", "/config/runner")],
    ),
    (QUERY | {"config": {"operation": "a.b.c"}}, [("unknown_operation", "/config/operation")]),
    (UPDATE | {"config": QUERY["config"]}, [("operation_type_mismatch", "/config/operation")]),
    (QUERY | {"config": UPDATE["config"]}, [("operation_type_mismatch", "/config/operation")]),
    (
        STACK | {"config": {"operations": [UPDATE["config"], QUERY["config"], {"operation": "x"}]}},
        [
            ("operation_type_mismatch", "/config/operations/1/operation"),
            ("unknown_operation", "/config/operations/2/operation"),
        ],
    ),
]


@pytest.mark.parametrize(("value", "problems"), COMPONENTS)
def test_runners_and_operations_must_be_known(value, problems):
    assert found(value) == ("components", problems)


def test_a_runner_that_a_node_advertises_is_known():
    config = {"runner": "hero", "payload": "x"}
    assert (
        parse_spec(SCRIPT | {"config": config}, known_runners={"hero"}).spec.required_runtime
        == "hero"
    )


CONTENT = [
    (
        SCRIPT | {"config": {"runner": "shell", "payload": " \n"}},
        [("empty_payload", "/config/payload")],
    ),
    (PIPELINE | {"config": {}}, [("empty_config", "/config")]),
    (STACK | {"config": {"operations": []}}, [("empty_config", "/config/operations")]),
    (
        UPDATE | {"config": {"operation": "node.hostname.update"}},
        [("invalid_spec", "/config/params/hostname")],
    ),
    (
        QUERY | {"config": {"operation": "node.hostname.get", "params": {"x": 1}}},
        [("unknown_field", "/config/params/x")],
    ),
    (
        STACK | {"config": STACK["config"] | {"interval": "1ms"}},
        [("invalid_value", "/config/interval")],
    ),
    (
        STACK | {"config": STACK["config"] | {"interval": 30}},
        [("suspicious_duration", "/config/interval")],
    ),
    (
        SCRIPT | {"config": SCRIPT["config"] | {"env": {"1A": "x"}}},
        [("invalid_value", "/config/env/1A")],
    ),
    (
        SCRIPT | {"config": SCRIPT["config"] | {"env": {f"K{n}": "" for n in range(65)}}},
        [("invalid_value", "/config/env")],
    ),
    (
        SCRIPT | {"config": SCRIPT["config"] | {"env": {"A": "x" * 32768}}},
        [("invalid_value", "/config/env")],
    ),
    (
        SCRIPT | {"config": SCRIPT["config"] | {"payload": "x" * 2**20}},
        [("invalid_value", "/config")],
    ),
]


@pytest.mark.parametrize(("value", "problems"), CONTENT)
def test_the_content_must_be_there(value, problems):
    assert found(value) == ("content", problems)


TIMEOUTS = [
    (PIPELINE, {"execution_timeout": -1}, ["execution_timeout"]),
    (PIPELINE, {"queue_timeout": -1, "total_timeout": 2**62}, ["queue_timeout", "total_timeout"]),
    (SCRIPT, {"execution_timeout": 86_401}, ["execution_timeout"]),
]


@pytest.mark.parametrize(("base", "timeouts", "names"), TIMEOUTS)
def test_timeouts_have_ranges(base, timeouts, names):
    expected = [("invalid_timeout", f"/timeouts/{name}") for name in names]
    assert found(base | {"timeouts": timeouts}) == ("timeouts", expected)


@pytest.mark.parametrize(("base", "seconds"), [(SCRIPT, 86_400), (PIPELINE, 86_401), (SCRIPT, 0)])
def test_timeouts_inside_their_ranges_are_kept(base, seconds):
    timeouts = {"execution_timeout": seconds}
    assert parse_spec(base | {"timeouts": timeouts}).spec.timeouts.execution_timeout == seconds


def rolling(**members):
    return {"strategy": "rolling", "health_check": HEALTH} | members


def checked(**members):
    return rolling(health_check=HEALTH | members)


ROLLOUTS = [
    ({"strategy": "blue"}, [("invalid_value", "strategy")]),
    ({"strategy": "rolling"}, [("health_check_required", "health_check")]),
    ({"strategy": "canary", "health_check": None}, [("health_check_required", "health_check")]),
    (rolling(max_parallel=0), [("invalid_value", "max_parallel")]),
    (rolling(max_parallel=101), [("invalid_value", "max_parallel")]),
    (rolling(canary_count=1), [("invalid_value", "canary_count")]),
    (rolling(canary_percent=1), [("invalid_value", "canary_percent")]),
    (
        rolling(strategy="canary", canary_count=1, canary_percent=1),
        [("canary_count_and_percent", "canary_percent")],
    ),
    (rolling(strategy="canary", canary_count=0), [("invalid_value", "canary_count")]),
    (rolling(strategy="canary", canary_percent=101), [("invalid_value", "canary_percent")]),
    (rolling(max_failed_nodes=-1), [("invalid_value", "max_failed_nodes")]),
    (rolling(max_failed_nodes_percent=100.1), [("invalid_value", "max_failed_nodes_percent")]),
    (
        rolling(max_failed_nodes_percent=float("nan")),
        [("invalid_value", "max_failed_nodes_percent")],
    ),
    (checked(deadline="19s"), [("deadline_too_short", "health_check/deadline")]),
    (
        checked(deadline="0s"),
        [
            ("invalid_value", "health_check/deadline"),
            ("deadline_too_short", "health_check/deadline"),
        ],
    ),
    (checked(deadline=60), [("suspicious_duration", "health_check/deadline")]),
    (checked(deadline="soon"), [("invalid_duration", "health_check/deadline")]),
    (checked(deadline=-1), [("invalid_duration", "health_check/deadline")]),
    (checked(deadline=1e10), [("invalid_duration", "health_check/deadline")]),
    (checked(deadline=True), [("invalid_duration", "health_check/deadline")]),
    (checked(interval="999ms"), [("invalid_value", "health_check/interval")]),
    (checked(deadline="9h", interval="1h1s"), [("invalid_value", "health_check/interval")]),
    (checked(success_threshold=0), [("invalid_value", "health_check/success_threshold")]),
    (checked(failure_threshold=101), [("invalid_value", "health_check/failure_threshold")]),
    (checked(max_error_rate=1.1), [("invalid_value", "health_check/max_error_rate")]),
    (rolling(order={"by": "age"}), [("invalid_value", "order/by")]),
    (
        rolling(order={"label": "a", "values": ["b"]}),
        [("invalid_value", "order/label"), ("invalid_value", "order/values")],
    ),
    (rolling(order={"by": "spread"}), [("invalid_value", "order/label")]),
    (rolling(order={"by": "rings", "label": "a"}), [("invalid_value", "order/values")]),
    (rolling(order={"by": "spread", "label": "-"}), [("invalid_value", "order/label")]),
    (
        rolling(order={"by": "rings", "label": "a", "values": ["b", "b", "-"]}),
        [("invalid_value", "order/values/1"), ("invalid_value", "order/values/2")],
    ),
]


@pytest.mark.parametrize(("rollout", "problems"), ROLLOUTS)
def test_the_rollout_block_is_checked(rollout, problems):
    expected = [(code, f"/rollout/{path}") for code, path in problems]
    assert found(PIPELINE | {"rollout": rollout}) == ("rollout", expected)


def test_a_bad_member_does_not_hide_a_rule_over_others():
    rollout = {"strategy": "canary", "canary_count": 1, "canary_percent": 1, "max_parallel": 0}
    assert found(PIPELINE | {"rollout": rollout}) == (
        "rollout",
        [
            ("invalid_value", "/rollout/max_parallel"),
            ("canary_count_and_percent", "/rollout/canary_percent"),
            ("health_check_required", "/rollout/health_check"),
        ],
    )


def test_a_query_has_no_rollout():
    assert found(QUERY | {"rollout": {}}) == ("rollout", [("rollout_not_allowed", "/rollout")])


@pytest.mark.parametrize("base", [SCRIPT, UPDATE, STACK])
def test_only_pipelines_need_a_health_check(base):
    assert parse_spec(base | {"rollout": {"strategy": "rolling"}}).spec.rollout.health_check is None


def test_a_deadline_may_equal_the_shortest_possible():
    assert parse_spec(PIPELINE | {"rollout": checked(deadline="20s")}).spec


SELECTORS = [
    ({"match_ids": []}, ["match_ids"]),
    ({"match_labels": {"a b": "c", "d": "-"}}, ["match_labels/a b", "match_labels/d"]),
    (
        {"match_expressions": ["a", "b inn (c)", "a,b", ""]},
        [f"match_expressions/{n}" for n in (1, 2, 3)],
    ),
    ({"target": ""}, ["target"]),
    ({"target": "group:web."}, ["target"]),
]


@pytest.mark.parametrize(("selector", "paths"), SELECTORS)
def test_the_selector_is_checked_last(selector, paths):
    expected = [("invalid_selector", f"/selector/{path}") for path in paths]
    assert found(PIPELINE | {"selector": selector}) == ("selector", expected)


def test_a_bad_expression_names_its_column():
    (problem,) = refused(PIPELINE | {"selector": {"match_expressions": ["b inn (c)"]}}).problems
    assert problem.message.startswith("column 3:")


@pytest.mark.parametrize("base", [PIPELINE, STACK])
def test_a_long_running_job_belongs_to_all_its_matches(base):
    value = base | {"selector": {"target": "_any"}}
    assert found(value) == ("selector", [("any_not_allowed", "/selector/target")])


def test_an_earlier_stage_hides_the_later_ones():
    value = {
        "name": "a",
        "type": "script",
        "config": {"runner": "hero", "payload": ""},
        "timeouts": {"queue_timeout": -1},
        "rollout": {"max_parallel": 0},
        "selector": {"target": ""},
    }
    fixes = [
        ("structure", {"name": "a"}),
        ("components", {"config": {"runner": "shell", "payload": ""}}),
        ("content", {"config": {"runner": "shell", "payload": "x"}}),
        ("timeouts", {"timeouts": {}}),
        ("rollout", {"rollout": {}}),
        ("selector", {"selector": {}}),
    ]
    value |= {"name": "A"}
    for stage, fix in fixes:
        assert refused(value).stage == stage
        value |= fix
    assert parse_spec(value).spec


def test_signatures_are_checked_after_the_structure_and_before_the_rest():
    seen = []
    empty = SCRIPT | {"config": {"runner": "shell", "payload": ""}}
    refused({}, after_structure=lambda: seen.append("too early"))
    assert seen == []
    refused(empty, after_structure=lambda: seen.append("asked"))
    assert seen == ["asked"]


def test_problems_have_the_line_of_their_member():
    text = "name: A\nconfig: {a: b}\ntype: pipeline\nlabels:\n  -x: y\nrollout:\n  wave: 1\n"
    problems = refused(parse_document(text)).problems
    assert [(p.path, p.line, p.column) for p in problems] == [
        ("/name", 1, 1),
        ("/labels/-x", 5, 3),
        ("/rollout/wave", 7, 3),
    ]


def test_a_spec_inside_a_document_has_its_own_paths_and_the_documents_lines():
    document = parse_document('{"dry_run": true,\n "spec": {\n  "name": "A", "type": "pipeline"}}')
    problems = refused(document, at="/spec").problems
    assert [(p.path, p.line) for p in problems] == [("/config", 2), ("/name", 3)]


@pytest.mark.parametrize("text", ['{"spec": 1}', "{}", '{"spec": []}'])
def test_a_missing_spec_is_refused(text):
    refusal = refused(parse_document(text), at="/spec")
    assert (refusal.status, refusal.code) == (422, "invalid_type")


@pytest.mark.parametrize(
    ("slip", "meant"),
    [("lables", "labels"), ("selecter", "selector"), ("rolout", "rollout"), ("typ", "type"),
     ("timeout", "timeouts"), ("cofnig", "config"), ("descripton", "description"),
     ("replicas", ""), ("version", ""), ("tags", ""), ("schedule", "")],
)  # fmt: skip
def test_only_a_slip_of_the_keys_is_taken_for_another_field(slip, meant):
    (problem,) = refused(PIPELINE | {slip: "x"}).problems
    expected = f"did you mean {meant}?" if meant else "known are name, "
    assert problem.hint.startswith(expected)


def test_an_unknown_field_is_answered_with_the_nearest_known_one():
    problems = refused(PIPELINE | {"priorty": 1, "qqqqq": 1, "config": {"a": 1}}).problems
    assert problems[0].hint == "did you mean priority?"
    assert problems[1].hint.startswith("known are name, ")
    (unlike,) = refused(PIPELINE | {"colour": "red"}).problems
    assert unlike.hint.startswith("known are name, ")
    script = SCRIPT | {"config": SCRIPT["config"] | {"x": 1}}
    assert refused(script).problems[0].hint == ""


def test_durations_are_explained_with_units():
    (problem,) = refused(PIPELINE | {"rollout": checked(deadline="9h", interval="2h")}).problems
    assert problem.message == "interval must be less than or equal to 1h"


WARNED = [
    (PIPELINE | {"rollout": {"max_parallel": 5}}, [("ignored_field", "/rollout/max_parallel")]),
    (PIPELINE | {"rollout": {"order": {"by": "id"}}}, [("ignored_field", "/rollout/order")]),
    (
        PIPELINE | {"rollout": rolling(max_failed_nodes=0, max_failed_nodes_percent=0.0)},
        [
            ("limit_always_fires", "/rollout/max_failed_nodes"),
            ("limit_always_fires", "/rollout/max_failed_nodes_percent"),
        ],
    ),
    (
        SCRIPT
        | {
            "config": SCRIPT["config"]
            | {"env": {"API_token": "x", "KEY": "secret://k", "A": "b", "PASSWORD": ""}}
        },
        [("plain_secret", "/config/env/API_token")],
    ),
    (
        SCRIPT | {"timeouts": {"execution_timeout": 5, "queue_timeout": 6, "total_timeout": 10}},
        [("timeouts_exceed_total", "/timeouts/total_timeout")],
    ),
    (SCRIPT | {"timeouts": {"execution_timeout": 5, "queue_timeout": 5, "total_timeout": 10}}, []),
    (PIPELINE | {"rollout": rolling(max_parallel=5, order={"by": "id"})}, []),
]


@pytest.mark.parametrize(("value", "warnings"), WARNED)
def test_doubtful_members_are_warned_about(value, warnings):
    parsed = parse_spec(value)
    assert [(warning.code, warning.path) for warning in parsed.warnings] == warnings
    assert all(warning.code in WARNINGS for warning in parsed.warnings)


def test_the_permission_check_reads_the_header_of_a_wrong_spec():
    header = peek_spec({"name": 1, "type": "update", "config": {"operation": "power.node.reboot"}})
    assert (header.name, header.namespace, header.type) == ("", "default", "update")
    assert header.operations == ("power.node.reboot",)
    stack = peek_spec({"namespace": [], "config": {"operations": [{"operation": "a"}, 1, {}]}})
    assert (stack.namespace, stack.operations) == ("", ("a",))
    assert peek_spec({"namespace": "prod", "config": 1}).namespace == "prod"


def test_every_code_has_a_status_and_a_title():
    assert all(400 <= status <= 503 and title for status, title in CODES.values())
    assert not set(CODES) & set(WARNINGS)
    refusal = SpecRefused("parse", [Problem(path="", code="body_too_large", message="m")])
    assert (str(refusal), refusal.status) == ("m", 413)
    assert pointer("a/b", 1, "~") == "/a~1b/1/~0"
