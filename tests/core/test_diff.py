"""What a new spec changes: effects, summaries and the text diff (docs/semantics.md X24, 4.9)."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.canonical import run_hash, spec_hash
from jobs.diff import Effect, semantic_diff, text_diff
from jobs.spec import JobSpec, parse_spec

PIPELINE = {"name": "a", "type": "pipeline", "config": {"list": [1, {"x": 1}], "old": 1}}


def spec_of(**members):
    return parse_spec(PIPELINE | members).spec


OLD = spec_of()


@pytest.mark.parametrize(
    ("members", "path", "effect", "summary"),
    [
        (
            {"description": "x" * 80},
            "/description",
            Effect.METADATA,
            "description:  → " + "x" * 59 + "… (metadata only)",
        ),
        ({"labels": {"a": "b"}}, "/labels/a", Effect.METADATA, "labels.a added: b (metadata only)"),
        ({"priority": 7}, "/priority", Effect.PACE, "priority: 50 → 7 (changes the pace)"),
        (
            {"rollout": {"max_failed_nodes": 1}},
            "/rollout/max_failed_nodes",
            Effect.PACE,
            "rollout.max_failed_nodes: 10 → 1 (changes the pace)",
        ),
        (
            {"timeouts": {"queue_timeout": 1}},
            "/timeouts/queue_timeout",
            Effect.PACE,
            "timeouts.queue_timeout: 0 → 1 (changes the pace)",
        ),
        (
            {"timeouts": {"execution_timeout": 1}},
            "/timeouts/execution_timeout",
            Effect.RESTARTS,
            "timeouts.execution_timeout: 0 → 1 (replaces executions)",
        ),
        (
            {"selector": {"target": "group:web"}},
            "/selector/target",
            Effect.RETARGETS,
            "selector.target: _all → group:web (adds or removes nodes)",
        ),
        (
            {"config": {"list": [1, {"x": 2}], "old": 1}},
            "/config/list/1/x",
            Effect.RESTARTS,
            "config.list.1.x: 1 → 2 (replaces executions)",
        ),
        (
            {"config": {"list": [1, {"x": True}], "old": 1}},
            "/config/list/1/x",
            Effect.RESTARTS,
            "config.list.1.x: 1 → True (replaces executions)",
        ),
        (
            {"config": {"list": [1, {"x": 1}]}},
            "/config/old",
            Effect.RESTARTS,
            "config.old removed (replaces executions)",
        ),
        (
            {"config": {"list": [], "old": 1}},
            "/config/list",
            Effect.RESTARTS,
            "config.list: [1, {'x': 1}] → [] (replaces executions)",
        ),
    ],
)
def test_each_change_says_what_it_does(members, path, effect, summary):
    (change,) = semantic_diff(OLD, spec_of(**members))
    assert (change.path, change.effect, change.summary) == (path, effect, summary)


def test_absent_sides_are_none():
    (added,) = semantic_diff(OLD, spec_of(labels={"a": "b"}))
    (removed,) = semantic_diff(spec_of(labels={"a": "b"}), OLD)
    assert (added.old, added.new, removed.old, removed.new) == (None, "b", "b", None)


def test_durations_are_shown_as_texts():
    old, new = (
        spec_of(rollout={"strategy": "rolling", "health_check": {"deadline": deadline}})
        for deadline in ("1m", "90s")
    )
    (change,) = semantic_diff(old, new)
    assert (change.old, change.new) == ("1m", "1m30s")


def test_a_block_that_came_or_went_is_told_by_its_members():
    check = {"deadline": "1m", "interval": "5s"}
    plain = spec_of(rollout={"max_parallel": 20})
    checked = spec_of(rollout={"max_parallel": 20, "strategy": "rolling", "health_check": check})
    came = [
        change.summary.removesuffix(" (changes the pace)")
        for change in semantic_diff(plain, checked)
    ]
    assert came == [
        "rollout.health_check.deadline added: 1m",
        "rollout.health_check.failure_threshold added: 3",
        "rollout.health_check.interval added: 5s",
        "rollout.health_check.max_error_rate added: 0.1",
        "rollout.health_check.success_threshold added: 2",
        "rollout.strategy: immediate → rolling",
    ]
    went = semantic_diff(checked, plain)
    assert went[0].path == "/rollout/health_check/deadline"
    assert (went[0].old, went[0].new) == ("1m", None)
    assert went[0].summary.startswith("rollout.health_check.deadline removed")


def test_a_member_that_came_into_a_new_part_of_the_config_has_its_whole_path():
    new = spec_of(
        config=PIPELINE["config"] | {"output": {"file": {"path": "/x", "codec": "lines"}}}
    )
    assert [change.path for change in semantic_diff(OLD, new)] == [
        "/config/output/file/codec",
        "/config/output/file/path",
    ]


def test_an_empty_block_is_a_change_of_its_own():
    (change,) = semantic_diff(OLD, spec_of(config=PIPELINE["config"] | {"output": {}}))
    assert change.summary == "config.output added: {} (replaces executions)"


def test_the_strongest_effect_comes_first():
    new = spec_of(description="x", priority=1, config={"y": 1}, selector={"match_ids": ["i"]})
    changes = semantic_diff(OLD, new)
    effects = [change.effect for change in changes]
    assert effects == sorted(effects, key=list(Effect).index)
    assert set(effects) == set(Effect)
    assert changes[0].effect is Effect.RESTARTS
    assert semantic_diff(OLD, OLD) == ()


def test_signatures_and_reserved_meta_are_no_change():
    signature = {"algorithm": "x", "public_key": "x", "signature": "x"}
    meta = {"fleet/x": "1"}
    noisy = JobSpec.model_validate(OLD.to_json() | {"signatures": [signature], "meta": meta})
    assert semantic_diff(OLD, noisy) == ()
    assert text_diff(OLD, noisy) == ""


def test_the_text_diff_is_the_unified_diff_of_the_yaml():
    text = text_diff(OLD, spec_of(priority=7), ("version 1", "version 2"))
    assert text.startswith("--- version 1\n+++ version 2\n@@")
    assert "-priority: 50\n+priority: 7\n" in text
    assert "+name: a\n" in text_diff(None, OLD)


def test_the_order_of_keys_is_no_difference_in_the_text():
    mixed = {"old": 1, "list": [{"x": 1, "y": 2}, 3]}
    given = {"list": [{"y": 2, "x": 1}, 3], "old": 1}
    assert text_diff(spec_of(config=mixed), spec_of(config=given)) == ""
    longer = {"list": [{"y": 2, "x": 5}], "new": 1, "old": 1}
    changed = text_diff(spec_of(config=mixed), spec_of(config=longer)).splitlines()[3:]
    signed = [line for line in changed if line[0] in "+-"]
    assert signed == ["-    x: 1", "-  - 3", "+    x: 5", "+  new: 1"]


MEMBERS = st.fixed_dictionaries(
    {},
    optional={
        "description": st.sampled_from(["", "x"]),
        "priority": st.sampled_from([50, 1]),
        "labels": st.dictionaries(st.sampled_from("ab"), st.sampled_from(["", "v"])),
        "selector": st.sampled_from([{}, {"match_labels": {"a": "b"}}, {"target": "_all"}]),
        "config": st.dictionaries(
            st.sampled_from("ab"),
            st.lists(st.integers(0, 1) | st.booleans(), max_size=2) | st.text("x", max_size=1),
            min_size=1,
        ),
        "timeouts": st.sampled_from([{}, {"execution_timeout": 1}, {"queue_timeout": 1}]),
        "rollout": st.sampled_from([{}, {"max_failed_nodes": 1}]),
        "restart_policy": st.sampled_from(["never", "on-failure"]),
    },
)


@example({"config": {"a": [1]}}, {"config": {"a": [True]}})
@given(MEMBERS, MEMBERS)
def test_the_diff_agrees_with_both_hashes(left, right):
    old, new = spec_of(**left), spec_of(**right)
    changes = semantic_diff(old, new)
    assert bool(changes) is (spec_hash(old) != spec_hash(new))
    replaces = run_hash(old) != run_hash(new)
    assert any(change.effect is Effect.RESTARTS for change in changes) is replaces
