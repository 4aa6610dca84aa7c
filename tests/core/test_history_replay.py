"""Replay: folding events gives the rollout as it was at any sequence number."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollouts.history import PastEvent, RolloutPast, fold
from rollouts.scenario import Act
from rollouts.simulator import Simulation
from rollouts.states import RolloutState, TargetState
from tests.core.fleet_laws import check_books
from tests.core.test_simulator_rollouts import SCENARIOS


def log(*entries):
    """Events from (kind, details) or (kind, details, execution)."""
    return [
        PastEvent(seq=seq, kind=entry[0], details=entry[1], execution=entry[2] if entry[2:] else "")
        for seq, entry in enumerate(entries, start=1)
    ]


STARTED = (
    "rollout.started",
    {
        "total_nodes": 5,
        "total_waves": 3,
        "wave_size": 2,
        "canary_size": 1,
        "strategy": "canary",
        "type": "update",
        "updated_nodes": 1,
    },
)
CREATED = (
    "execution.created",
    {"old_state": None, "new_state": "pending", "wave": 1, "node": "a"},
    "x",
)


def observed(state, execution="x", **more):
    return ("execution.observed", {"new_state": state, "wave": 1, "node": "a", **more}, execution)


def test_before_any_event_there_is_nothing():
    assert fold([]) == RolloutPast()


def test_the_start_says_what_there_is_to_do():
    past = fold(log(STARTED))
    assert (past.seq, past.state, past.strategy, past.rollout_type) == (
        1,
        RolloutState.ACTIVE,
        "canary",
        "update",
    )
    assert (past.total_nodes, past.updated_nodes, past.remaining_nodes) == (5, 1, 4)
    assert (past.total_waves, past.wave_size, past.canary_size) == (3, 2, 1)


def test_a_node_goes_through_its_wave():
    events = log(
        STARTED,
        ("wave.opened", {"wave": 1, "size": 1, "canary": True}),
        CREATED,
        observed("starting"),
        observed("validating"),
        observed("running", stable=True),
        ("target.settled", {"outcome": "updated", "node": "a"}),
    )
    assert fold(events, until=1).current_wave == 0
    opened = fold(events, until=3)
    assert (opened.current_wave, opened.waves, opened.unsettled_nodes) == (1, {1: 1}, 1)
    assert opened.nodes["a"].target is TargetState.RELEASED
    assert [fold(events, until=n).nodes["a"].observed for n in (3, 4, 5, 6)] == [
        "pending",
        "starting",
        "validating",
        "running",
    ]
    end = fold(events)
    assert end.nodes["a"].is_stable
    assert end.nodes["a"].wave == 1
    assert (end.updated_nodes, end.unsettled_nodes, end.remaining_nodes) == (2, 0, 3)


def test_a_stable_event_of_its_own_is_understood_too():
    past = fold(log(STARTED, CREATED, ("execution.stable", {"node": "a"}, "x")))
    assert past.nodes["a"].is_stable
    assert past.nodes["a"].observed == "pending"


def test_events_of_the_execution_before_do_not_disturb_the_new_one():
    others = [
        observed("stopped", execution="old"),
        ("execution.stopped_by_scheduler", {"new_state": "stopping", "node": "a"}, "old"),
        ("execution.stable", {"node": "a", "new_state": "running"}, "old"),
    ]
    past = fold(log(STARTED, others[1], CREATED, *others))
    assert past.nodes["a"].observed == "pending"
    assert not past.nodes["a"].is_stable
    assert fold(log(STARTED, *others)).nodes == {}


def test_what_the_scheduler_stops_is_stopped():
    stop = ("execution.stopped_by_scheduler", {"new_state": "stopping", "node": "a"}, "x")
    assert fold(log(STARTED, CREATED, stop)).nodes["a"].observed == "stopping"


def test_a_failed_node_that_was_brought_back_still_counts_as_failed():
    past = fold(
        log(
            STARTED,
            CREATED,
            observed("failed"),
            ("target.settled", {"outcome": "failed", "node": "a"}),
            ("execution.resurrected", {"node": "a", "new_state": "starting"}, "old"),
        )
    )
    assert past.failed_nodes == 1
    assert past.nodes["a"].is_resurrected
    assert past.nodes["a"].observed == "failed"


def test_a_pause_says_why_and_ends_with_a_resume_or_a_promotion():
    pause = ("rollout.paused", {"reason": "awaiting_promotion"})
    paused = fold(log(STARTED, pause))
    assert (paused.state, paused.pause_reason) == (RolloutState.PAUSED, "awaiting_promotion")
    promoted = fold(log(STARTED, pause, ("canary.promoted", {})))
    assert (promoted.state, promoted.pause_reason) == (RolloutState.ACTIVE, "")
    assert promoted.canary_promoted
    held = log(STARTED, ("rollout.paused", {}), ("rollout.resumed", {}))
    assert fold(held, until=2).pause_reason == "manual"
    assert (fold(held).state, fold(held).canary_promoted) == (RolloutState.ACTIVE, False)


@pytest.mark.parametrize("state", ["halted", "completed", "cancelled", "superseded"])
def test_every_end_is_an_end(state):
    past = fold(log(STARTED, ("rollout.paused", {}), (f"rollout.{state}", {"rule": "why"})))
    assert (past.state, past.pause_reason, past.halted_by) == (state, "", "why")


def test_a_rollback_begins_anew_and_keeps_the_job():
    past = fold(
        log(
            ("job.state", {"old_state": "pending", "new_state": "deploying"}),
            STARTED,
            CREATED,
            ("rollout.halted", {"rule": "canary.failed"}),
            ("rollout.rolled_back", {"to_version": 1, "new_version": 3}),
            ("rollout.started", {**STARTED[1], "type": "rollback", "updated_nodes": 4}),
        )
    )
    assert (past.rollout_type, past.updated_nodes, past.remaining_nodes) == ("rollback", 4, 1)
    assert (past.state, past.job_state, past.nodes) == (RolloutState.ACTIVE, "deploying", {})


def test_the_halted_rollout_knows_where_it_went_back_to():
    past = fold(log(STARTED, ("rollout.rolled_back", {"to_version": 1, "new_version": 3})))
    assert past.rolled_back_to == 1


def test_nodes_come_and_go():
    events = log(
        STARTED,
        ("node.joined", {"node": "new"}),
        ("node.deferred", {"node": "new"}),
        ("node.joined", {"node": "new"}),
        ("node.left", {"node": "new", "old_state": "remaining"}),
        ("node.joined", {"node": "new"}),
        ("node.left", {"node": "b", "old_state": "current"}),
        ("node.left", {"node": "c"}),
    )
    totals = [fold(events, until=n).total_nodes for n in range(1, 9)]
    assert totals == [5, 6, 6, 6, 5, 6, 5, 4]
    assert fold(events, until=3).deferred_nodes == 1
    assert fold(events, until=4).deferred_nodes == 0
    end = fold(events)
    assert (end.updated_nodes, end.remaining_nodes) == (0, 4)


def test_nodes_that_are_only_counted_are_counted():
    """An event about a set names a hundred nodes at most."""
    events = log(
        ("rollout.started", {**STARTED[1], "total_nodes": 20, "updated_nodes": 0}),
        ("node.deferred", {"nodes": ["a", "b"], "count": 5}),
        ("node.joined", {"nodes": ["c"], "count": 3}),
        ("node.left", {"nodes": ["a", "d"], "states": ["deferred", "current"], "count": 4}),
    )
    assert fold(events, until=2).deferred_nodes == 5
    assert fold(events, until=3).total_nodes == 23
    end = fold(events)
    assert (end.total_nodes, end.deferred_nodes, end.nodes["a"].target) == (19, 4, "left")


@pytest.mark.parametrize(
    ("observations", "target"),
    [
        ([observed("running", stable=True)], "updated"),
        ([observed("running", stable=True), observed("failed")], "updated"),
        ([observed("completed")], "updated"),
        ([observed("validating"), observed("failed")], "failed"),
        ([observed("lost")], "failed"),
        ([observed("stopped")], "stopped"),
        ([observed("running")], "released"),
        ([("rollout.halted", {"rule": "x"}), observed("failed")], "released"),
    ],
)
def test_a_node_is_settled_by_what_its_execution_told_until_the_rollout_ends(observations, target):
    assert fold(log(STARTED, CREATED, *observations)).nodes["a"].target == target


def test_a_wave_says_how_many_there_will_be():
    assert fold(log(STARTED, ("wave.opened", {"wave": 1, "total_waves": 2}))).total_waves == 2


def test_a_wave_that_is_filled_again_grows_and_more_waves_than_planned_are_counted():
    past = fold(
        log(
            STARTED,
            ("wave.opened", {"wave": 1, "size": 2}),
            ("wave.opened", {"wave": 1, "size": 1}),
            ("wave.opened", {"wave": 4, "size": 2}),
        )
    )
    assert past.waves == {1: 3, 4: 2}
    assert past.total_waves == 4


def test_kinds_that_are_not_known_and_numbers_that_are_none_change_nothing():
    past = fold(log(STARTED, ("something.new", {"x": 1}), ("wave.opened", {"wave": "?"})))
    assert past.seq == 3
    assert past.current_wave == 0


@settings(max_examples=settings().max_examples // 3)
@given(SCENARIOS, st.lists(st.integers(1, 90), max_size=5))
def test_the_events_so_far_always_tell_the_present_state(scenario, pauses):
    simulation = Simulation(scenario)
    check_books(simulation)
    for seconds in pauses:
        simulation.advance(seconds)
        check_books(simulation)
    simulation.act(Act.CANCEL)
    check_books(simulation)


@settings(max_examples=settings().max_examples // 3)
@given(SCENARIOS)
def test_replaying_up_to_a_number_is_replaying_the_events_up_to_it(scenario):
    events = Simulation(scenario).run().events
    for number in range(0, len(events), 1 + len(events) // 5):
        assert fold(events, until=number) == fold(events[:number])


def test_deferred_nodes_that_can_work_again_are_back_in_the_list():
    deferred = ("node.deferred", {"nodes": ["a", "b"], "count": 3})
    returned = ("node.returned", {"nodes": ["a"], "count": 2})
    past = fold(log(STARTED, deferred, returned))
    assert (past.deferred_nodes, past.total_nodes) == (1, 5)
