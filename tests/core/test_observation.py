"""What reports, windows, clocks and silence do to one execution (docs/semantics.md 1.5, 1.8, part 5)."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.clocks import apply_deadline, apply_silence, missed_windows
from rollouts.health import HealthPolicy
from rollouts.observation import (
    Facts,
    Rules,
    apply_ack,
    apply_result,
    apply_state,
    apply_window,
    is_late,
)
from rollouts.reports import ResultSeen, StateSeen, WindowSeen
from rollouts.states import OBSERVED_TRANSITIONS, STARTED, TERMINAL, DesiredState, ObservedState

NOW = datetime(2030, 1, 1, tzinfo=UTC)
TEN = timedelta(seconds=10)
MINUTE = timedelta(minutes=1)
CHECKED = Rules(has_windows=True, validates=True, policy=HealthPolicy(deadline=MINUTE))
UNCHECKED = Rules(has_windows=True, validates=False)
ONE_SHOT = Rules(has_windows=False, validates=False, is_one_shot=True)
HELD = Rules(has_windows=False, validates=False)
S = ObservedState
RELEASED = Facts(deadline_at=NOW + MINUTE, deadline_cap_at=NOW + 2 * MINUTE, delivered_seq=1)


def said(state, **more):
    return StateSeen(execution_id="e", observed_state=S(state), **more)


def window(number, *, healthy=True, ended_at=NOW, **more):
    values = {"messages_in": 100, "errors": 0 if healthy else 50} | more
    return WindowSeen(
        execution_id="e", number=number, started_at=ended_at - TEN, ended_at=ended_at, **values
    )


def after(facts, rules, *steps):
    """Fold states (words) and windows (H, U) into the facts."""
    for step in steps:
        if step in ("H", "U"):
            seen = window(facts.window_count + 1, healthy=step == "H")
            change = apply_window(facts, rules, seen, NOW)
        else:
            change = apply_state(facts, rules, said(step), NOW)
        facts = change.facts if change else facts
    return facts


@pytest.mark.parametrize(
    ("windows", "state"),
    [
        ("HH", "running"),
        ("UHH", "running"),
        ("UUHH", "running"),
        ("UUU", "failed"),
        ("HUHUHU", "validating"),
        ("UUHUUHUU", "validating"),
        ("H", "validating"),
    ],
)
def test_the_first_threshold_that_is_reached_decides(windows, state):
    facts = after(RELEASED, CHECKED, "starting", "validating", *windows)
    assert facts.observed_state == state
    assert (facts.stable_at is not None) == (state == "running")


def test_a_failed_validation_tells_the_node_to_stop():
    facts = after(RELEASED, CHECKED, "validating", *"UUU")
    assert (facts.desired_state, facts.desired_seq) == ("stopped", 2)
    assert facts.error_code == "health_windows_unhealthy"
    assert "3 unhealthy windows" in facts.observed_message
    assert facts.finished_at == NOW
    assert facts.deadline_at is None


def test_a_node_cannot_call_itself_stable():
    facts = after(RELEASED, CHECKED, "running")
    assert facts.observed_state == "validating"
    assert facts.stable_at is None


def test_without_a_health_check_running_is_stable_at_once():
    for rules in (UNCHECKED, HELD):
        facts = after(RELEASED, rules, "starting", "running")
        assert (facts.stable_at, facts.deadline_at) == (NOW, None)


def test_one_shot_work_is_stable_when_it_has_completed():
    running = after(RELEASED, ONE_SHOT, "starting", "running")
    assert running.stable_at is None
    ended = apply_result(running, ONE_SHOT, ResultSeen(execution_id="e", status="completed"), NOW)
    assert ended.facts.observed_state == "completed"
    assert ended.facts.stable_at == NOW


@pytest.mark.parametrize(
    ("status", "state", "code"),
    [
        ("completed", "completed", ""),
        ("skipped", "completed", ""),
        ("failed", "failed", "exit_code"),
        ("timeout", "failed", "execution_timeout"),
        ("cancelled", "stopped", ""),
    ],
)
def test_the_words_of_a_result(status, state, code):
    running = after(RELEASED, ONE_SHOT, "running")
    change = apply_result(running, ONE_SHOT, ResultSeen(execution_id="e", status=status), NOW)
    assert (change.facts.observed_state, change.facts.error_code) == (state, code)


def test_the_start_clock_gives_way_to_the_validation_clock_once():
    later = NOW + timedelta(seconds=30)
    first = apply_state(RELEASED, CHECKED, said("validating"), later).facts
    assert first.validating_at == later
    assert (first.deadline_at, first.deadline_cap_at) == (later + MINUTE, later + 2 * MINUTE)
    restarted = apply_state(first, CHECKED, said("starting", restarts=1), later + TEN).facts
    again = apply_state(restarted, CHECKED, said("validating", restarts=1), later + 2 * TEN).facts
    assert (again.validating_at, again.deadline_at) == (later, later + MINUTE)


def test_the_sixth_restart_during_validation_fails_it():
    facts = after(RELEASED, CHECKED, "validating")
    for number in range(1, 6):
        facts = apply_state(facts, CHECKED, said("starting", restarts=number), NOW).facts
        facts = apply_state(facts, CHECKED, said("validating", restarts=number), NOW).facts
    assert facts.observed_state == "validating"
    facts = apply_state(facts, CHECKED, said("starting", restarts=6), NOW).facts
    assert (facts.observed_state, facts.error_code) == ("failed", "too_many_restarts")
    assert facts.desired_state == "stopped"


def test_a_window_with_a_restart_is_unhealthy():
    facts = after(RELEASED, CHECKED, "validating", "H")
    facts = apply_window(facts, CHECKED, window(2, restarts=1), NOW).facts
    assert (facts.healthy_streak, facts.unhealthy_streak) == (0, 1)


def test_a_stable_execution_degrades_and_recovers_but_never_fails_by_windows():
    stable = after(RELEASED, CHECKED, "validating", *"HH")
    assert after(stable, CHECKED, *"UU").observed_state == "running"
    degraded = after(stable, CHECKED, *"UUU")
    assert degraded.observed_state == "degraded"
    assert degraded.desired_state == "running"
    assert after(degraded, CHECKED, *"UUUUUU").observed_state == "degraded"
    assert after(degraded, CHECKED, "running").observed_state == "degraded"
    assert after(degraded, CHECKED, *"HH").observed_state == "running"


def test_a_restart_of_a_stable_execution_is_not_validated_again():
    stable = after(RELEASED, CHECKED, "validating", *"HH")
    again = after(stable, CHECKED, "starting", "validating")
    assert again.observed_state == "running"
    assert again.deadline_at is None


def test_late_windows_are_counted_and_never_judged():
    facts = after(RELEASED, CHECKED, "validating")
    for number in range(1, 5):
        facts = apply_window(facts, CHECKED, window(number), NOW, late=True).facts
    assert facts.window_count == 4
    assert facts.stable_at is None


def test_a_window_is_late_only_while_a_backlog_comes_in():
    connected = NOW
    early = window(1, ended_at=NOW - TEN)
    assert is_late(early, connected, NOW + timedelta(seconds=5))
    assert not is_late(early, connected, NOW + timedelta(minutes=10))
    assert not is_late(window(1, ended_at=NOW + TEN), connected, NOW + TEN)
    assert not is_late(early, None, NOW)


def test_a_window_seen_already_changes_nothing():
    facts = after(RELEASED, CHECKED, "validating", "H")
    assert apply_window(facts, CHECKED, window(1), NOW) is None


def test_a_window_that_ends_at_the_deadline_counts_and_a_later_one_does_not():
    deadline = NOW + MINUTE
    facts = after(RELEASED, CHECKED, "validating", "H")
    in_time = apply_window(facts, CHECKED, window(2, ended_at=deadline), deadline + TEN)
    assert in_time.facts.stable_at is not None
    after_it = window(2, ended_at=deadline + timedelta(microseconds=1))
    assert apply_window(facts, CHECKED, after_it, deadline + TEN).facts.stable_at is None


# --- Stopping, losing, coming back ---------------------------------------------------------------


def test_what_is_being_stopped_does_not_come_up_again():
    stopping = replace(RELEASED, observed_state="stopping", desired_state="stopped", desired_seq=2)
    assert apply_state(stopping, CHECKED, said("running"), NOW) is None
    assert after(stopping, CHECKED, "stopped").observed_state == "stopped"


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_a_result_that_wins_the_race_against_a_stop_is_kept(status):
    stopping = replace(RELEASED, observed_state="stopping", desired_state="stopped", desired_seq=2)
    change = apply_result(stopping, ONE_SHOT, ResultSeen(execution_id="e", status=status), NOW)
    assert change.facts.observed_state == status


def test_a_stable_execution_revives_from_lost():
    lost = replace(RELEASED, observed_state="lost", stable_at=NOW, finished_at=NOW)
    revived = after(lost, CHECKED, "validating")
    assert revived.observed_state == "running"
    assert revived.finished_at is None


def test_an_unvalidated_execution_never_revives_from_lost():
    lost = replace(RELEASED, observed_state="lost", finished_at=NOW)
    assert after(lost, CHECKED, "running").observed_state == "stopping"


def test_a_lost_execution_that_is_not_wanted_goes_to_stopping():
    lost = replace(RELEASED, observed_state="lost", stable_at=NOW, desired_state="stopped")
    assert after(lost, CHECKED, "running").observed_state == "stopping"


def test_reports_of_the_run_before_a_resurrection_change_nothing():
    revived = replace(
        RELEASED, observed_state="starting", stable_at=NOW, desired_seq=3, delivered_seq=2
    )
    assert apply_state(revived, CHECKED, said("stopped"), NOW) is None
    result = ResultSeen(execution_id="e", status="cancelled")
    assert apply_result(revived, CHECKED, result, NOW) is None
    known = apply_ack(revived, 3).facts
    assert after(known, CHECKED, "running").observed_state == "running"


@pytest.mark.parametrize("seq", [0, 1, 3])
def test_an_acknowledgement_neither_goes_back_nor_ahead(seq):
    facts = replace(RELEASED, desired_seq=2, delivered_seq=1)
    assert apply_ack(facts, seq) is None
    assert apply_ack(facts, 2).facts.delivered_seq == 2


# --- Clocks and silence --------------------------------------------------------------------------


def test_an_execution_that_never_starts_fails_at_its_deadline():
    assert apply_deadline(RELEASED, NOW + MINUTE - TEN, connected=True) is None
    change = apply_deadline(RELEASED, NOW + MINUTE, connected=True)
    assert change.facts.observed_state == "failed"
    assert change.facts.error_code == "health_deadline_exceeded"
    assert change.facts.desired_state == "stopped"


def test_while_its_node_is_away_only_the_cap_counts():
    assert apply_deadline(RELEASED, NOW + MINUTE, connected=False) is None
    change = apply_deadline(RELEASED, NOW + 2 * MINUTE, connected=False)
    assert change.facts.details["capped"] is True


def test_gaps_are_added_to_the_clock_and_to_its_cap():
    gaps = timedelta(hours=1)
    assert apply_deadline(RELEASED, NOW + 2 * MINUTE, connected=True, gaps=gaps) is None
    assert apply_deadline(RELEASED, NOW + MINUTE + gaps, connected=True, gaps=gaps) is not None


def test_a_stop_that_takes_too_long_stays_a_stop():
    stopping = replace(RELEASED, observed_state="stopping", desired_state="stopped")
    change = apply_deadline(stopping, NOW + MINUTE, connected=True)
    assert not change.moved
    assert change.facts.deadline_at is None


def test_the_third_interval_without_a_window_is_the_first_that_counts():
    facts = after(RELEASED, CHECKED, "validating")
    counts = [missed_windows(facts, CHECKED, NOW + n * TEN, since=NOW) for n in range(7)]
    assert counts == [0, 0, 0, 1, 2, 3, 4]
    assert missed_windows(facts, CHECKED, NOW + 6 * TEN, since=NOW, gaps=4 * TEN) == 0


def test_silence_fails_a_validation_and_degrades_what_is_stable():
    facts = after(RELEASED, CHECKED, "validating")
    for missed in (1, 2, 3):
        facts = apply_silence(facts, CHECKED, missed, NOW).facts
    assert facts.observed_state == "failed"
    assert "no_report" in facts.observed_message
    stable = after(RELEASED, CHECKED, "validating", *"HH")
    assert apply_silence(stable, CHECKED, 3, NOW).facts.observed_state == "degraded"
    assert apply_silence(stable, CHECKED, 0, NOW) is None


def test_each_missed_interval_is_judged_once():
    facts = after(RELEASED, CHECKED, "validating")
    once = apply_silence(facts, CHECKED, 1, NOW).facts
    assert apply_silence(once, CHECKED, 1, NOW) is None
    assert once.unhealthy_streak == 1


def test_work_without_windows_is_never_silent():
    running = after(RELEASED, ONE_SHOT, "running")
    assert missed_windows(running, ONE_SHOT, NOW + timedelta(days=1), since=NOW) == 0


# --- Properties ----------------------------------------------------------------------------------

RULES = st.sampled_from(
    [
        CHECKED,
        UNCHECKED,
        ONE_SHOT,
        HELD,
        replace(CHECKED, policy=HealthPolicy(deadline=MINUTE, max_error_rate=Fraction(0))),
    ]
)
REPORTS = st.one_of(
    st.builds(
        StateSeen,
        execution_id=st.just("e"),
        observed_state=st.sampled_from(list(S)),
        attempt=st.integers(0, 3),
        restarts=st.integers(0, 8),
    ),
    st.builds(
        lambda number, healthy: window(number, healthy=healthy),
        st.integers(1, 12),
        st.booleans(),
    ),
    st.builds(
        ResultSeen,
        execution_id=st.just("e"),
        status=st.sampled_from(["completed", "skipped", "failed", "timeout", "cancelled"]),
    ),
)
ORIGINS = st.builds(
    Facts,
    desired_state=st.sampled_from([DesiredState.RUNNING, DesiredState.STOPPED]),
    observed_state=st.sampled_from(list(S)),
    stable_at=st.sampled_from([None, NOW]),
    desired_seq=st.integers(1, 3),
    delivered_seq=st.integers(0, 3),
)


def apply(facts, rules, report):
    match report:
        case StateSeen():
            return apply_state(facts, rules, report, NOW)
        case WindowSeen():
            return apply_window(facts, rules, report, NOW)
    return apply_result(facts, rules, report, NOW)


@given(facts=ORIGINS, rules=RULES, reports=st.lists(REPORTS, max_size=20))
def test_every_step_is_in_the_table_and_no_end_is_left(facts, rules, reports):
    for report in reports:
        change = apply(facts, rules, report)
        if change is None:
            continue
        old, new = S(facts.observed_state), S(change.facts.observed_state)
        assert change.moved == (old != new)
        if change.moved:
            assert new in OBSERVED_TRANSITIONS[old]
            assert old not in (S.COMPLETED, S.FAILED)
        if old is S.STOPPED and change.moved:
            assert facts.stable_at
            assert facts.desired_state == DesiredState.RUNNING
        if facts.desired_state == DesiredState.STOPPED and old not in STARTED:
            assert new not in STARTED
        if facts.stable_at:
            assert change.facts.stable_at == facts.stable_at
        if new in TERMINAL:
            assert change.facts.deadline_at is None
        assert change.facts.desired_seq - facts.desired_seq in (0, 1)
        facts = change.facts


@given(facts=ORIGINS, rules=RULES, report=REPORTS)
def test_a_report_that_comes_twice_changes_nothing_the_second_time(facts, rules, report):
    first = apply(facts, rules, report)
    if first is not None:
        second = apply(first.facts, rules, report)
        assert second is None or not second.moved or S(first.facts.observed_state) is S.LOST


def test_no_clock_means_no_verdict():
    later = NOW + 9 * MINUTE
    assert apply_deadline(replace(RELEASED, deadline_at=None), later, connected=True) is None
    ended = replace(RELEASED, observed_state=S.COMPLETED)
    assert apply_deadline(ended, later, connected=True) is None


def test_an_execution_that_does_not_stop_in_time_only_loses_its_clock():
    stopping = replace(RELEASED, observed_state=S.STOPPING, desired_state=DesiredState.STOPPED)
    change = apply_deadline(stopping, NOW + MINUTE, connected=True)
    assert change.moved is False
    assert (change.facts.observed_state, change.facts.deadline_at) == ("stopping", None)


def test_an_execution_in_validation_fails_at_its_deadline():
    facts = after(RELEASED, CHECKED, "starting", "validating")
    change = apply_deadline(facts, facts.deadline_at, connected=True)
    assert change.facts.observed_message == "not stable within its deadline"


@pytest.mark.parametrize("state", ["starting", "running", "completed"])
def test_what_failed_stays_failed_whatever_its_node_says(state):
    failed = after(RELEASED, UNCHECKED, "failed")
    assert failed.observed_state == "failed"
    assert apply_state(failed, UNCHECKED, said(state), NOW) is None


def test_a_window_after_silence_ends_it():
    facts = after(RELEASED, CHECKED, "starting", "validating")
    silent = apply_silence(facts, CHECKED, 1, NOW).facts
    assert silent.details["silent_windows"] == 1
    heard = apply_window(silent, CHECKED, window(1), NOW).facts
    assert heard.details["silent_windows"] == 0


def test_saying_the_same_again_changes_nothing():
    facts = after(RELEASED, UNCHECKED, "starting")
    assert apply_state(facts, UNCHECKED, said("starting"), NOW) is None


def test_a_failure_of_what_was_to_stop_tells_the_node_nothing_new():
    stopping = replace(
        RELEASED, observed_state=S.STOPPING, desired_state=DesiredState.STOPPED, desired_seq=4
    )
    change = apply_state(stopping, UNCHECKED, said("failed"), NOW)
    assert (change.facts.observed_state, change.facts.desired_seq) == ("failed", 4)


def test_the_sixth_restart_told_by_a_repeated_state_fails_a_validation():
    validating = replace(RELEASED, observed_state=S.VALIDATING, validating_at=NOW, restarts=4)
    fifth = apply_state(validating, CHECKED, said("running", restarts=5), NOW)
    assert (fifth.facts.observed_state, fifth.facts.restarts) == ("validating", 5)
    sixth = apply_state(fifth.facts, CHECKED, said("running", restarts=6), NOW)
    assert (sixth.facts.observed_state, sixth.facts.error_code) == ("failed", "too_many_restarts")


def test_a_failed_execution_does_not_start_by_its_nodes_word():
    failed = replace(RELEASED, observed_state=S.FAILED, stable_at=NOW)
    assert apply_state(failed, UNCHECKED, said("starting"), NOW) is None


def test_what_should_stop_already_is_not_told_again_when_its_clock_runs_out():
    starting = replace(
        RELEASED, observed_state=S.STARTING, desired_state=DesiredState.STOPPED, desired_seq=4
    )
    failed = apply_deadline(starting, NOW + MINUTE, connected=True).facts
    assert (failed.observed_state, failed.desired_seq) == ("failed", 4)
    assert failed.desired_message == starting.desired_message


def test_what_is_stopped_and_wanted_again_may_only_come_up_if_it_was_stable():
    stopped = replace(RELEASED, observed_state=S.STOPPED)
    assert apply_state(stopped, UNCHECKED, said("starting"), NOW) is None
    stable = replace(stopped, stable_at=NOW)
    assert apply_state(stable, UNCHECKED, said("starting"), NOW).facts.observed_state == "starting"


def test_a_restart_that_changes_no_state_is_counted():
    running = after(RELEASED, UNCHECKED, "starting", "running")
    change = apply_state(running, UNCHECKED, said("running", restarts=1), NOW)
    assert change is not None
    assert change.facts.restarts == 1
    assert apply_state(change.facts, UNCHECKED, said("running", restarts=1), NOW) is None


def test_what_a_report_explains_is_kept_beside_what_was_known():
    known = replace(RELEASED, details={"resurrected_at": "then", "reason": "old"})
    change = apply_state(known, UNCHECKED, said("starting", details={"reason": "new"}), NOW)
    assert change.facts.details == {"resurrected_at": "then", "reason": "new"}
