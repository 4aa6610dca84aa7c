"""What the planner decides, rule by rule of docs/semantics.md 1.6 to 1.8, 1.10 and part 5."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest

from rollouts.planner import (
    AwaitPromotion,
    Defer,
    Finish,
    Halt,
    OpenWave,
    PlaceWave,
    Policy,
    Promote,
    Resurrect,
    RollBack,
    Snapshot,
    WaitUntil,
    plan,
    why_no_rollback,
)
from rollouts.states import RolloutType, Strategy

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROLLING = Policy(strategy=Strategy.ROLLING, max_parallel=20)
CANARY = Policy(strategy=Strategy.CANARY, max_parallel=20, canary_count=2)
AUTO = replace(CANARY, auto_promote=True)


def seen(policy=ROLLING, **fields):
    """A rollout of ten nodes, none released yet, all fit, version 1 behind it."""
    remaining = fields.get("remaining", 10)
    given = {
        "rollout_type": RolloutType.UPDATE,
        "policy": policy,
        "total_nodes": 10,
        "remaining": remaining,
        "fit": remaining,
        "fit_canary": remaining,
        "rollback_to_version": 1,
    }
    return Snapshot(**{**given, **fields})


def kinds(snapshot):
    return [type(action) for action in plan(snapshot, NOW)]


def only(snapshot):
    (action,) = plan(snapshot, NOW)
    return action


def settled_canaries(policy=CANARY, *, unwell=0, **fields):
    wave = OpenWave(number=1, size=2, stable=2, stable_but_unwell=unwell)
    return seen(policy, remaining=8, updated_nodes=2, wave=wave, **fields)


# Waves.


def test_the_first_wave_of_a_rolling_rollout_is_one_wave_size():
    action = only(seen())
    assert (action.number, action.size, action.canary) == (1, 2, False)
    assert action.rule == "wave.open"


def test_a_wave_opens_only_when_every_node_of_the_one_before_is_settled():
    open_wave = OpenWave(number=1, size=2, unsettled=1, stable=1)
    action = only(seen(remaining=8, wave=open_wave))
    assert isinstance(action, WaitUntil)
    assert action.facts == {"settled": 1, "needed": 2}
    assert "wave 1" in action.reason
    action = only(seen(remaining=8, wave=replace(open_wave, unsettled=0, stable=2)))
    assert (action.number, action.size) == (2, 2)


def test_the_last_wave_takes_what_remains():
    action = only(seen(remaining=1, wave=OpenWave(number=5, size=2, stable=2)))
    assert (action.number, action.size) == (6, 1)


def test_a_wave_takes_no_more_nodes_than_can_take_work():
    assert only(seen(fit=1)).size == 1


def test_the_wait_for_a_wave_ends_at_its_next_clock_but_never_in_the_past():
    wave = OpenWave(number=1, size=2, unsettled=2)
    later = NOW + timedelta(seconds=30)
    assert only(seen(wave=wave, next_deadline_at=later)).when == later
    assert only(seen(wave=wave, next_deadline_at=NOW - timedelta(seconds=5))).when == NOW
    assert only(seen(wave=wave)).when is None


def test_a_wave_never_mixes_rings():
    assert only(seen(next_ring=1)).size == 1
    assert only(seen(next_ring=9)).size == 2
    assert only(seen(next_ring=None)).size == 2


def test_nodes_that_can_take_no_work_are_deferred_when_nothing_else_is_left():
    action = only(seen(remaining=3, fit=0, wave=OpenWave(number=1, size=2, stable=2)))
    assert isinstance(action, Defer)
    assert action.facts == {"remaining": 3}


def test_an_immediate_rollout_takes_all_nodes_as_wave_0():
    action = only(seen(Policy()))
    assert (action.number, action.size) == (0, 10)


def test_an_immediate_rollout_takes_a_node_that_joined_without_waiting_for_the_others():
    wave = OpenWave(number=0, size=10, unsettled=10)
    action = only(seen(Policy(), total_nodes=11, remaining=1, wave=wave))
    assert (action.number, action.size) == (0, 1)


def test_an_immediate_rollout_defers_who_is_away_once_the_rest_has_settled():
    wave = OpenWave(number=0, size=8, unsettled=1)
    action = only(seen(Policy(), remaining=2, fit=0, wave=wave))
    assert isinstance(action, WaitUntil)
    assert "the only wave" in action.reason
    assert kinds(seen(Policy(), remaining=2, fit=0, wave=replace(wave, unsettled=0))) == [Defer]


# The end.


def test_it_ends_when_nothing_remains_and_all_is_settled():
    action = only(seen(remaining=0, updated_nodes=9, failed_nodes=1))
    assert isinstance(action, Finish)
    assert action.makes_stable
    assert action.facts == {"updated": 9, "failed": 1, "deferred": 0}


def test_a_rollout_with_nothing_to_change_ends_at_once():
    assert kinds(seen(remaining=0, updated_nodes=10)) == [Finish]
    assert kinds(seen(CANARY, remaining=0, updated_nodes=10)) == [Finish]
    assert kinds(seen(Policy(), remaining=0, updated_nodes=10)) == [Finish]


def test_a_rollout_that_every_node_left_ends_and_makes_no_version_stable():
    action = only(seen(total_nodes=0, remaining=0))
    assert isinstance(action, Finish)
    assert not action.makes_stable


def test_nothing_ends_while_a_person_holds_it():
    action = only(seen(remaining=0, updated_nodes=10, paused=True))
    assert action.rule == "paused.manual"


# Pause.


@pytest.mark.parametrize("policy", [Policy(), ROLLING, CANARY, AUTO])
def test_no_wave_opens_while_a_person_holds_it(policy):
    assert only(seen(policy, paused=True)).rule == "paused.manual"


@pytest.mark.parametrize("policy", [Policy(), ROLLING])
def test_a_promotion_that_makes_no_sense_lifts_no_pause(policy):
    assert only(seen(policy, paused=True, promote_requested=True)).rule == "paused.manual"


def test_a_promotion_left_over_from_the_canary_lifts_no_later_pause():
    snapshot = settled_canaries(canary_promoted=True, promote_requested=True, paused=True)
    assert only(snapshot).rule == "paused.manual"


def test_a_paused_rollout_still_halts():
    wave = OpenWave(number=1, size=2, failed=2)
    assert kinds(seen(paused=True, remaining=8, failed_nodes=2, wave=wave)) == [Halt, RollBack]


# The canary.


def test_the_canary_wave_is_wave_1_and_has_its_own_size():
    action = only(seen(CANARY))
    assert (action.number, action.size, action.canary) == (1, 2, True)


def test_canaries_are_the_first_that_are_fit_when_it_opens():
    assert only(seen(CANARY, fit=5, fit_canary=1)).size == 1


def test_with_no_node_fit_to_be_a_canary_it_waits_and_defers_nobody():
    action = only(seen(CANARY, fit=0, fit_canary=0))
    assert action.rule == "canary.unavailable"
    assert "no_canary_available" in action.reason


def test_the_canaries_ignore_rings():
    assert only(seen(CANARY, next_ring=1)).size == 2


def test_a_canary_that_left_is_replaced_while_the_others_validate():
    wave = OpenWave(number=1, size=1, unsettled=1)
    action = only(seen(CANARY, total_nodes=9, remaining=8, wave=wave))
    assert (action.number, action.size, action.canary) == (1, 1, True)


def test_a_canary_that_was_stopped_is_replaced_and_did_not_fail():
    wave = OpenWave(number=1, size=2, stable=1)
    action = only(seen(CANARY, remaining=8, updated_nodes=1, wave=wave))
    assert (action.number, action.size, action.canary) == (1, 1, True)


def test_a_full_canary_wave_is_not_filled_further():
    wave = OpenWave(number=1, size=2, unsettled=1, stable=1)
    assert only(seen(CANARY, remaining=8, wave=wave)).rule == "wave.settled"


def test_no_canary_is_replaced_while_paused_or_once_a_person_is_asked():
    wave = OpenWave(number=1, size=1, stable=1)
    assert only(seen(CANARY, remaining=8, wave=wave, paused=True)).rule == "paused.manual"
    assert only(seen(CANARY, remaining=8, wave=wave, awaiting_promotion=True)).rule == "canary.gate"


def test_when_every_canary_left_while_awaiting_promotion_new_ones_are_taken():
    wave = OpenWave(number=1, size=0)
    gone = seen(CANARY, total_nodes=8, remaining=8, wave=wave, awaiting_promotion=True)
    assert only(gone).canary
    assert only(replace(gone, fit=0, fit_canary=0)).rule == "canary.unavailable"


def test_stable_canaries_wait_for_a_person():
    assert kinds(settled_canaries()) == [AwaitPromotion]
    action = only(settled_canaries(awaiting_promotion=True))
    assert isinstance(action, WaitUntil)
    assert action.rule == "canary.gate"


def test_a_promotion_opens_the_next_wave_in_the_same_breath():
    promote, place = plan(settled_canaries(awaiting_promotion=True, promote_requested=True), NOW)
    assert isinstance(promote, Promote)
    assert promote.rule == "canary.promoted"
    assert (place.number, place.size, place.canary) == (2, 2, False)


def test_auto_promotion_opens_the_next_wave_in_the_same_breath():
    promote, place = plan(settled_canaries(AUTO), NOW)
    assert promote.rule == "canary.auto_promoted"
    assert place.number == 2


def test_a_promotion_goes_through_a_pause_but_auto_promotion_does_not():
    assert kinds(settled_canaries(paused=True, promote_requested=True)) == [Promote, PlaceWave]
    assert only(settled_canaries(AUTO, paused=True)).rule == "paused.manual"
    assert only(settled_canaries(paused=True)).rule == "paused.manual"


@pytest.mark.parametrize("policy", [CANARY, AUTO])
@pytest.mark.parametrize("asked", [False, True])
def test_an_unwell_canary_blocks_every_promotion_and_halts_nothing(policy, asked):
    action = only(settled_canaries(policy, unwell=1, promote_requested=asked))
    assert isinstance(action, WaitUntil)
    assert action.rule == "canary.unwell"


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "a canary was stable and is unwell now"),
        (2, "2 canaries were stable and are unwell now"),
    ],
)
def test_it_says_how_many_canaries_are_unwell(count, words):
    assert only(settled_canaries(CANARY, unwell=count)).reason == words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (1, "a node can take no work now and catches up later"),
        (2, "2 nodes can take no work now and catch up later"),
    ],
)
def test_it_says_how_many_nodes_are_passed_over(count, words):
    assert only(seen(Policy(), remaining=count, fit=0)).reason == words


def test_promotion_needs_at_least_one_stable_canary():
    wave = OpenWave(number=1, size=2)
    snapshot = seen(AUTO, remaining=8, fit=0, fit_canary=0, wave=wave, promote_requested=True)
    assert only(snapshot).rule == "canary.unavailable"


def test_when_the_canaries_were_all_there_is_nothing_to_promote():
    wave = OpenWave(number=1, size=2, stable=2)
    assert kinds(seen(CANARY, total_nodes=2, remaining=0, updated_nodes=2, wave=wave)) == [Finish]


def test_deferred_nodes_get_no_version_that_nobody_promoted():
    wave = OpenWave(number=1, size=2, stable=2)
    held = seen(CANARY, remaining=0, deferred=8, updated_nodes=2, wave=wave)
    assert kinds(held) == [AwaitPromotion]
    assert kinds(replace(held, promote_requested=True)) == [Promote, Finish]


def test_deferred_nodes_are_not_waited_for():
    wave = OpenWave(number=1, size=2)
    assert kinds(seen(CANARY, remaining=0, deferred=8, wave=wave)) == [Finish]
    assert kinds(seen(remaining=0, deferred=8, wave=wave)) == [Finish]


def test_after_a_promotion_nodes_that_are_all_away_are_deferred():
    asked = settled_canaries(promote_requested=True, fit=0)
    assert kinds(asked) == [Promote, Defer]


def test_any_failed_canary_halts_whatever_the_limits_say():
    wave = OpenWave(number=1, size=2, unsettled=1, failed=1)
    snapshot = seen(CANARY, total_nodes=100, remaining=98, failed_nodes=1, wave=wave)
    assert kinds(replace(snapshot, canaries_failed=1)) == [Halt, RollBack]
    assert plan(replace(snapshot, canaries_failed=1), NOW)[0].rule == "canary.failed"
    promoted = replace(snapshot, canaries_failed=1, canary_promoted=True)
    assert kinds(promoted) == [WaitUntil]


def test_a_failed_canary_halts_even_when_promotion_was_asked_for():
    snapshot = settled_canaries(promote_requested=True, failed_nodes=1, canaries_failed=1)
    assert kinds(snapshot)[0] is Halt


# Limits.


@pytest.mark.parametrize(
    ("failed", "total", "limit"),
    [
        (0, 10, ""),
        (1, 10, ""),
        (2, 10, "max_failed_nodes_percent"),
        (1, 5, "max_failed_nodes_percent"),
        (10, 100, ""),
        (11, 100, "max_failed_nodes"),
        (10, 1000, ""),
        (11, 1000, "max_failed_nodes"),
    ],
)
def test_failures_strictly_above_a_limit_halt(failed, total, limit):
    snapshot = seen(total_nodes=total, failed_nodes=failed)
    halts = [a for a in plan(snapshot, NOW) if isinstance(a, Halt)]
    assert [halt.rule for halt in halts] == ([f"limit.{limit}"] if limit else [])


@pytest.mark.parametrize(
    "policy", [Policy(max_failed_nodes=0), replace(ROLLING, max_failed_nodes=0)]
)
def test_an_explicit_zero_halts_at_the_first_failure(policy):
    assert kinds(seen(policy, total_nodes=1000, failed_nodes=1))[0] is Halt


def test_percent_limits_are_exact_fractions_not_floats():
    at_a_third = replace(ROLLING, max_failed_nodes_percent=Fraction("33.3"), max_failed_nodes=999)
    assert kinds(seen(at_a_third, total_nodes=1000, failed_nodes=333)) != [Halt, RollBack]
    assert kinds(seen(at_a_third, total_nodes=1000, failed_nodes=334)) == [Halt, RollBack]
    small = replace(ROLLING, max_failed_nodes_percent=Fraction("0.3"))
    assert kinds(seen(small, total_nodes=1000, failed_nodes=3)) == [PlaceWave]
    assert kinds(seen(small, total_nodes=999, failed_nodes=3)) == [Halt, RollBack]


def test_the_limits_apply_to_immediate_rollouts():
    wave = OpenWave(number=0, size=10, unsettled=8, failed=2)
    snapshot = seen(Policy(), remaining=0, failed_nodes=2, wave=wave)
    assert kinds(snapshot) == [Halt, RollBack]


def test_a_node_that_leaves_makes_no_earlier_failure_worse():
    one_of_nine = seen(total_nodes=9, failed_nodes=1)
    assert kinds(one_of_nine)[0] is Halt
    assert kinds(replace(one_of_nine, total_at_failure=10)) == [PlaceWave]
    assert kinds(replace(one_of_nine, failed_nodes=2, total_at_failure=9))[0] is Halt


# Rollback.


def halting(**fields):
    return seen(**{"remaining": 8, "failed_nodes": 2, **fields})


def test_a_halted_rollout_returns_to_the_stable_version():
    halt, back = plan(halting(rollback_to_version=7), NOW)
    assert halt.facts["failed"] == 2
    assert isinstance(back, RollBack)
    assert back.to_version == 7
    assert why_no_rollback(halting()) == ""


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"policy": replace(ROLLING, auto_rollback=False)}, "automatic rollback is off"),
        ({"one_shot": True}, "one-shot work is never rolled back"),
        ({"rollout_type": RolloutType.ROLLBACK}, "a rollback never rolls back"),
        ({"rollback_to_version": 0}, "there is no earlier version whose rollout completed"),
        ({"rollback_is_identical": True}, "version 1 would run the same"),
    ],
)
def test_a_halted_rollout_stays_halted_and_says_why(fields, reason):
    assert kinds(halting(**fields)) == [Halt]
    assert why_no_rollback(halting(**fields)) == reason


def test_a_restart_that_fails_returns_to_a_stable_version_that_differs():
    assert kinds(halting(rollout_type=RolloutType.RESTART)) == [Halt, RollBack]


# Resurrection.


def test_failed_nodes_are_brought_back_before_the_limits_are_looked_at():
    assert kinds(halting(resurrectable=2)) == [Resurrect, Halt, RollBack]


def test_failed_nodes_are_brought_back_while_the_rollout_goes_on():
    wave = OpenWave(number=1, size=2, unsettled=1, failed=1)
    snapshot = seen(remaining=8, failed_nodes=1, wave=wave, resurrectable=1)
    assert kinds(snapshot) == [Resurrect, WaitUntil]
    assert kinds(replace(snapshot, paused=True)) == [Resurrect, WaitUntil]


@pytest.mark.parametrize(
    "fields", [{"one_shot": True}, {"policy": replace(ROLLING, auto_rollback=False)}]
)
def test_nothing_is_brought_back_for_one_shots_or_when_rollback_is_off(fields):
    assert Resurrect not in kinds(seen(resurrectable=1, **fields))


def test_every_action_says_why():
    for snapshot in (seen(), seen(CANARY), settled_canaries(), halting(), seen(remaining=0)):
        for action in plan(snapshot, NOW):
            assert action.rule
            assert action.reason
