"""The state tables: complete, closed under what the code derives, and equal to their document."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.states import TRANSITIONS as JOB_TRANSITIONS
from jobs.states import (
    JobState,
    LiveCounts,
    OutcomeCounts,
    derive_outcome,
    derive_state,
    may_move,
)
from nodes.states import (
    CONNECTION_TRANSITIONS,
    ENROLMENT_TRANSITIONS,
    SCHEDULING_TRANSITIONS,
    badge,
)
from rollouts.state_tables import chapters, render_states_markdown
from rollouts.states import (
    FINISHED_ROLLOUT,
    LIVE,
    OBSERVED_TRANSITIONS,
    ROLLOUT_TRANSITIONS,
    STARTED,
    TARGET_TRANSITIONS,
    TERMINAL,
    ObservedState,
    RolloutState,
    TargetState,
    may_observe,
)

TABLES = [
    JOB_TRANSITIONS,
    ROLLOUT_TRANSITIONS,
    OBSERVED_TRANSITIONS,
    TARGET_TRANSITIONS,
    CONNECTION_TRANSITIONS,
    SCHEDULING_TRANSITIONS,
    ENROLMENT_TRANSITIONS,
]


def test_the_document_is_what_the_tables_render():
    written = Path(__file__).parents[2].joinpath("docs", "states.md").read_text()
    assert written == render_states_markdown()


@pytest.mark.parametrize("table", TABLES)
def test_every_state_has_a_row_and_every_step_leads_to_a_state(table):
    kind = type(next(iter(table)))
    assert set(table) == set(kind)
    assert all(set(following) <= set(kind) for following in table.values())


def test_every_state_of_every_noun_has_its_own_meaning():
    for chapter in chapters():
        meanings = [row.meaning for row in chapter.rows]
        assert len(set(meanings)) == len(meanings)
        assert all(meaning.endswith(".") for meaning in meanings)
    by_title = {chapter.title: {r.state: r.meaning for r in chapter.rows} for chapter in chapters()}
    assert by_title["Rollout"]["completed"] != by_title["Execution, observed"]["completed"]
    assert by_title["Target"]["failed"] != by_title["Execution, observed"]["failed"]


@pytest.mark.parametrize("table", TABLES)
def test_no_state_but_a_first_one_is_unreachable(table):
    first = next(iter(table))
    if table is SCHEDULING_TRANSITIONS or table is ENROLMENT_TRANSITIONS:
        assert first in {"ready", "pending"}
    reached, todo = {first}, [first]
    while todo:
        for state in table[todo.pop()] - reached:
            reached.add(state)
            todo.append(state)
    assert reached == set(table)


def test_the_counts_of_states_are_those_of_the_seed_documents():
    assert len(JobState) == 12
    assert len(ObservedState) == 10
    assert len(RolloutState) == 6
    assert set(ObservedState) == LIVE | TERMINAL
    assert LIVE.isdisjoint(TERMINAL)
    assert STARTED < LIVE


@pytest.mark.parametrize("state", sorted(FINISHED_ROLLOUT))
def test_a_finished_rollout_stays_finished(state):
    assert ROLLOUT_TRANSITIONS[state] == frozenset()


@pytest.mark.parametrize(
    ("old", "new", "legal"),
    [
        ("pending", "starting", True),
        ("pending", "running", True),
        ("validating", "starting", True),
        ("validating", "degraded", False),
        ("running", "degraded", True),
        ("degraded", "completed", True),
        ("starting", "stopped", True),
        ("stopping", "completed", True),
        ("stopping", "lost", True),
        ("stopping", "running", False),
        ("stopped", "starting", True),
        ("stopped", "running", False),
        ("completed", "failed", False),
        ("failed", "completed", False),
        ("lost", "running", True),
        ("lost", "validating", False),
    ],
)
def test_reports_move_an_execution_only_along_the_table(old, new, legal):
    assert may_observe(old, new) is legal


def test_only_four_observed_states_are_ends():
    assert set(TERMINAL) == {
        "completed",
        "failed",
        "lost",
        "stopped",
    }


def test_a_target_is_settled_once_and_then_only_leaves():
    for state in (TargetState.UPDATED, TargetState.FAILED, TargetState.STOPPED):
        assert TARGET_TRANSITIONS[state] == {TargetState.LEFT}


LIVE_COUNTS = st.builds(
    LiveCounts,
    **dict.fromkeys(
        ["pending", "running", "degraded", "completed", "failed", "lost"], st.integers(0, 3)
    ),
)
SETTLED_JOB = ["running", "degraded", "completed", "failed"]


@given(st.sampled_from(SETTLED_JOB), LIVE_COUNTS)
def test_whatever_the_counts_say_a_job_may_move_there(state, counts):
    assert may_move(JobState(state), derive_state(counts))


@given(LIVE_COUNTS)
def test_loss_alone_never_makes_a_job_failed(counts):
    if not counts.failed:
        assert derive_state(counts) is not JobState.FAILED


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({}, "queued"),
        ({"running": 3}, "running"),
        ({"running": 3, "pending": 1}, "running"),
        ({"running": 2, "degraded": 1}, "degraded"),
        ({"degraded": 2}, "degraded"),
        ({"running": 3, "lost": 1}, "degraded"),
        ({"lost": 4}, "degraded"),
        ({"running": 1, "failed": 1}, "degraded"),
        ({"failed": 2}, "failed"),
        ({"completed": 2}, "completed"),
        ({"completed": 2, "running": 1}, "running"),
    ],
)
def test_a_long_running_job_stands_where_its_executions_do(counts, state):
    assert derive_state(LiveCounts(**counts)) == state


@pytest.mark.parametrize(
    ("counts", "ends"),
    [
        ({"unfinished": 1, "completed": 4}, None),
        ({"completed": 2}, ("completed", "success")),
        ({"completed": 2, "skipped": 1}, ("completed", "success")),
        ({"skipped": 2}, ("completed", "skipped")),
        ({"completed": 1, "failed": 1}, ("failed", "partial_failure")),
        ({"completed": 1, "timeout": 1, "skipped": 1}, ("failed", "partial_failure")),
        ({"failed": 2}, ("failed", "failure")),
        ({"failed": 1, "skipped": 1}, ("failed", "failure")),
        ({"failed": 1, "timeout": 1}, ("failed", "failure")),
        ({"timeout": 2}, ("failed", "timeout")),
        ({"cancelled": 2}, ("stopped", "cancelled")),
        ({"cancelled": 1, "completed": 1}, ("stopped", "cancelled")),
        ({"cancelled": 1, "failed": 1}, ("failed", "failure")),
    ],
)
def test_a_one_shot_job_ends_by_the_six_rows(counts, ends):
    assert derive_outcome(OutcomeCounts(**counts)) == ends


@pytest.mark.parametrize("state", [s for s in JobState if s not in ("", "deleted")])
def test_every_job_but_a_deleted_one_may_be_stopped_and_deleted(state):
    assert may_move(state, JobState.STOPPED)
    assert may_move(state, JobState.DELETED)
    assert may_move(state, JobState.DEPLOYING)
    assert not may_move(JobState.DELETED, state)


@pytest.mark.parametrize(
    ("connection", "scheduling", "enrolment", "shown"),
    [
        ("connected", "ready", "accepted", "ready"),
        ("connected", "draining", "accepted", "draining"),
        ("connected", "cordoned", "accepted", "cordoned"),
        ("disconnected", "cordoned", "accepted", "disconnected"),
        ("lost", "draining", "accepted", "lost"),
        ("lost", "ready", "pending", "pending"),
        ("lost", "ready", "revoked", "revoked"),
        ("connected", "ready", "rejected", "rejected"),
        ("deleted", "ready", "revoked", "deleted"),
    ],
)
def test_a_node_shows_the_worst_of_its_three_axes(connection, scheduling, enrolment, shown):
    assert badge(connection=connection, scheduling=scheduling, enrolment=enrolment) == shown
