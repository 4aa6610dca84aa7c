"""The two hashes of a spec: what makes a version and what replaces executions (X24, C10)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.canonical import canonical_spec, run_hash, spec_hash
from jobs.spec import JobSpec, parse_spec

PIPELINE = {"name": "a", "type": "pipeline", "config": {"input": {"stdin": {}}}}
SCRIPT = {"name": "a", "type": "script", "config": {"runner": "shell", "payload": "ls"}}
QUERY = {"name": "a", "type": "query", "config": {"operation": "node.hostname.get"}}


def spec_of(base=PIPELINE, **members):
    return parse_spec(base | members).spec


@pytest.mark.parametrize(
    ("base", "members"),
    [
        (PIPELINE, {"namespace": "default", "priority": 50, "description": "", "labels": {}}),
        (PIPELINE, {"restart_policy": "on-failure", "timeouts": {"queue_timeout": 0}}),
        (PIPELINE, {"rollout": {"strategy": "immediate", "max_failed_nodes_percent": 10}}),
        (PIPELINE, {"selector": {"match_labels": {}, "target": "_all"}}),
        (PIPELINE, {"rollout": {"order": {"by": "id"}}}),
        (SCRIPT, {"timeouts": {"execution_timeout": 60}, "selector": {"target": "_any"}}),
        (SCRIPT, {"config": SCRIPT["config"] | {"env": {}, "args": []}}),
        (
            QUERY,
            {"timeouts": {"execution_timeout": 30}, "config": QUERY["config"] | {"params": {}}},
        ),
        (SCRIPT, {"signatures": [{"algorithm": "x", "public_key": "x", "signature": "x"}]}),
    ],
)
def test_defaults_that_are_written_out_and_signatures_change_nothing(base, members):
    assert spec_hash(spec_of(base, **members)) == spec_hash(spec_of(base))
    assert run_hash(spec_of(base, **members)) == run_hash(spec_of(base))


def test_reserved_meta_changes_nothing():
    reserved = JobSpec.model_validate(PIPELINE | {"meta": {"fleet/x": "1", "expanso.io/y": "2"}})
    assert spec_hash(reserved) == spec_hash(spec_of())


@pytest.mark.parametrize(
    "members",
    [
        {"description": "x"},
        {"labels": {"a": "b"}},
        {"meta": {"a": "b"}},
        {"priority": 51},
        {"name": "b"},
        {"selector": {"match_labels": {"a": "b"}}},
        {"rollout": {"max_failed_nodes": 1}},
        {"rollout": {"health_check": {"deadline": "1m"}}},
        {"timeouts": {"queue_timeout": 5}},
    ],
)
def test_what_surrounds_the_work_makes_a_version_and_replaces_nothing(members):
    changed = spec_of(**members)
    assert spec_hash(changed) != spec_hash(spec_of())
    assert run_hash(changed) == run_hash(spec_of())


@pytest.mark.parametrize(
    "members",
    [
        {"config": {"input": {"stdin": {"x": 1}}}},
        {"config": {"input": {"stdin": {"x": True}}}},
        {"logger": {}},
        {"metrics": {}},
        {"restart_policy": "never"},
        {"timeouts": {"execution_timeout": 5}},
    ],
)
def test_what_the_node_runs_replaces_executions(members):
    changed = spec_of(**members)
    assert spec_hash(changed) != spec_hash(spec_of())
    assert run_hash(changed) != run_hash(spec_of())


def test_durations_enter_the_hash_as_texts_of_nanoseconds():
    given_text = spec_of(rollout={"strategy": "rolling", "health_check": {"deadline": "1m"}})
    given_number = spec_of(
        rollout={"strategy": "rolling", "health_check": {"deadline": 60 * 10**9}}
    )
    assert spec_hash(given_text) == spec_hash(given_number)
    assert canonical_spec(given_text)["rollout"]["health_check"]["deadline"] == "60000000000"


def test_numbers_beyond_the_standard_are_hashed_exactly():
    values = [2**53, 2**53 + 1, str(2**53), 2**63 - 1, -(2**53)]
    hashes = {run_hash(spec_of(config={"n": [value]})) for value in values}
    assert len(hashes) == len(values)


def test_a_query_has_no_rollout_in_its_canonical_form():
    assert "rollout" not in canonical_spec(spec_of(QUERY))


def test_a_hash_is_64_hexadecimal_digits():
    assert len(spec_hash(spec_of())) == 64
    assert spec_hash(spec_of()) != run_hash(spec_of())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text("ab", max_size=3),
    lambda child: st.lists(child, max_size=3) | st.dictionaries(st.text("ab", max_size=2), child),
    max_leaves=6,
)
CONFIGS = st.dictionaries(st.text("ab", max_size=2), VALUES, min_size=1, max_size=3)


@given(CONFIGS)
def test_the_order_of_members_changes_nothing(config):
    turned = dict(reversed(config.items()))
    assert run_hash(spec_of(config=config)) == run_hash(spec_of(config=turned))


@given(CONFIGS)
def test_printing_and_reading_keeps_both_hashes(config):
    spec = spec_of(config=config)
    again = parse_spec(spec.to_json()).spec
    assert (spec_hash(again), run_hash(again)) == (spec_hash(spec), run_hash(spec))
