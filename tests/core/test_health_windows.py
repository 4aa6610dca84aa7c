"""When an execution is healthy: windows, streaks, clocks and silence (docs/semantics.md 1.8, C02, C07)."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.health import (
    HealthPolicy,
    Streaks,
    Verdict,
    Window,
    advance,
    error_rate,
    expire,
    hold_clock,
    is_degraded,
    is_healthy,
    judge,
    let_clock_run,
    next_alarm,
    owed_windows,
    start_clock,
    weigh,
    why_unhealthy,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = HealthPolicy(deadline=timedelta(seconds=90))
LETTERS = {
    "H": {"messages_in": 100},
    "U": {"messages_in": 100, "errors": 50},
    "R": {"messages_in": 100, "restarts": 1},
    "D": {"process_alive": False},
    "L": {"messages_in": 100, "errors": 50, "late": True},
}


def seconds(number):
    return timedelta(seconds=number)


def windows(letters, *, every=10):
    return [
        Window(**LETTERS[letter], ended_at=START + seconds(every * number))
        for number, letter in enumerate(letters, start=1)
    ]


def verdict(letters, *, after=None, policy=POLICY):
    now = START + seconds(10 * len(letters) if after is None else after)
    return judge(policy, windows(letters), START, now)


@pytest.mark.parametrize(
    ("letters", "outcome"),
    [
        ("", "undecided"),
        ("H", "undecided"),
        ("HH", "stable"),
        ("UHH", "stable"),
        ("UUHH", "stable"),
        ("UU", "undecided"),
        ("UUU", "failed"),
        ("DDD", "failed"),
        ("URD", "failed"),
        ("HUHUHU", "undecided"),
        ("UUHUUHUU", "undecided"),
        ("HHUUU", "stable"),
        ("UUUHH", "failed"),
        ("HLH", "stable"),
        ("LLL", "undecided"),
        ("UULU", "failed"),
    ],
)
def test_the_first_to_reach_its_threshold_decides(letters, outcome):
    assert verdict(letters).verdict == outcome


@pytest.mark.parametrize("letters", ["HUHUHU", "UUHUUHUU", "UUHUUH", "H", ""])
def test_what_stays_undecided_fails_at_the_deadline(letters):
    judgement = verdict(letters, after=89)
    assert judgement.verdict is Verdict.UNDECIDED
    judgement = verdict(letters, after=90)
    assert judgement.verdict is Verdict.FAILED
    assert judgement.code == "health_deadline_exceeded"


def test_windows_that_were_judged_bad_are_named_in_the_reason():
    judgement = verdict("UUU")
    assert judgement.code == "health_windows_unhealthy"
    assert judgement.reason.startswith("3 unhealthy windows in a row, last: error rate 50.0%")
    assert judgement.streaks == Streaks(unhealthy=3)


def test_a_window_that_ends_exactly_at_the_deadline_is_counted_first():
    policy = HealthPolicy(deadline=seconds(20))
    assert verdict("HH", after=20, policy=policy).verdict is Verdict.STABLE
    assert verdict("HH", after=25, policy=policy).verdict is Verdict.STABLE
    assert verdict("UHH", after=30, policy=policy).verdict is Verdict.FAILED


def test_without_a_deadline_it_may_stay_undecided_for_ever():
    assert verdict("HU", after=10**7, policy=HealthPolicy()).verdict is Verdict.UNDECIDED


def test_with_the_defaults_it_is_stable_after_20_s_at_the_earliest_and_failed_after_30():
    assert verdict("H").verdict is verdict("UU").verdict is Verdict.UNDECIDED
    assert verdict("HH").verdict is Verdict.STABLE
    assert verdict("UUU").verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("messages", "errors", "limit", "healthy"),
    [
        (100, 10, "0.1", True),
        (100, 11, "0.1", False),
        (9, 1, "0.1", False),
        (10, 1, "0.1", True),
        (1000, 1, "0", False),
        (1000, 0, "0", True),
        (0, 0, "0", True),
        (0, 1, "0.1", False),
        (0, 1, "1", True),
        (0, 2, "1", False),
        (3, 1, "0.3333333333333333", False),
    ],
)
def test_the_error_rate_of_the_window_alone_is_compared_exactly(messages, errors, limit, healthy):
    policy = HealthPolicy(max_error_rate=Fraction(limit))
    window = Window(messages_in=messages, errors=errors)
    assert is_healthy(window, policy) is healthy
    assert error_rate(window) == Fraction(errors, max(1, messages))


@pytest.mark.parametrize(
    ("window", "words"),
    [
        (Window(process_alive=False, restarts=2), "process not alive"),
        (Window(restarts=2), "2 restarts"),
        (Window(messages_in=9, errors=1), "error rate 11.1% above 10.0% (1 of 9 messages)"),
    ],
)
def test_an_unhealthy_window_says_what_is_wrong(window, words):
    assert not is_healthy(window, HealthPolicy())
    assert why_unhealthy(window, HealthPolicy()) == words


def test_the_sixth_restart_before_it_is_stable_fails_it():
    patient = HealthPolicy(failure_threshold=100, deadline=timedelta(hours=1))
    assert verdict("RRRRR", policy=patient).verdict is Verdict.UNDECIDED
    judgement = verdict("RRRRRR", policy=patient)
    assert (judgement.verdict, judgement.code) == (Verdict.FAILED, "too_many_restarts")
    assert verdict("RHRHRHRHRHR", policy=patient).code == "too_many_restarts"
    assert weigh(Streaks(healthy=9), patient, restarts=6).verdict is Verdict.FAILED


def test_the_two_streaks_reset_each_other():
    assert advance(Streaks(unhealthy=2), healthy=True) == Streaks(healthy=1)
    assert advance(Streaks(healthy=4), healthy=False) == Streaks(unhealthy=1)


@given(st.text("HURDL", max_size=12), st.integers(1, 4), st.integers(1, 4))
def test_judging_all_windows_at_once_or_one_by_one_is_the_same(letters, successes, failures):
    policy = HealthPolicy(success_threshold=successes, failure_threshold=failures)
    streaks, restarts, decided = Streaks(), 0, Verdict.UNDECIDED
    for window in windows(letters):
        if window.late or decided is not Verdict.UNDECIDED:
            continue
        streaks = advance(streaks, healthy=is_healthy(window, policy))
        restarts += window.restarts
        decided = weigh(streaks, policy, restarts=restarts).verdict
    assert verdict(letters, policy=policy).verdict is decided


@given(st.text("HU", max_size=30), st.integers(1, 5), st.integers(1, 5))
def test_a_verdict_needs_its_threshold_in_a_row_and_no_less(letters, successes, failures):
    policy = HealthPolicy(success_threshold=successes, failure_threshold=failures)
    good, bad = letters.find("H" * successes), letters.find("U" * failures)
    ends = {"stable": good + successes if good >= 0 else 99, "failed": bad + failures}
    ends["failed"] = ends["failed"] if bad >= 0 else 99
    expected = min(ends, key=ends.get) if min(ends.values()) < 99 else "undecided"
    assert verdict(letters, policy=policy).verdict == expected


@pytest.mark.parametrize(
    ("was", "streaks", "degraded"),
    [
        (False, Streaks(unhealthy=2), False),
        (False, Streaks(unhealthy=3), True),
        (False, Streaks(healthy=1), False),
        (True, Streaks(unhealthy=9), True),
        (True, Streaks(healthy=1), True),
        (True, Streaks(healthy=2), False),
    ],
)
def test_a_stable_execution_degrades_and_recovers_by_the_same_thresholds(was, streaks, degraded):
    assert is_degraded(streaks, HealthPolicy(), was_degraded=was) is degraded


@pytest.mark.parametrize(
    ("silent", "gaps", "owed"),
    [(0, 0, 0), (29, 0, 0), (30, 0, 1), (39, 0, 1), (40, 0, 2), (40, 10, 1), (70, 70, 0)],
)
def test_silence_counts_from_the_third_interval_and_our_own_absence_does_not(silent, gaps, owed):
    heard_at, now = START, START + seconds(silent)
    assert owed_windows(heard_at, now, HealthPolicy(), seconds(gaps)) == owed


def test_a_clock_runs_out_after_its_deadline():
    clock = start_clock(seconds(60), START)
    assert next_alarm(clock) == START + seconds(60)
    assert let_clock_run(clock, START + seconds(5)) == clock


def test_a_clock_stands_still_while_its_node_is_away():
    held = hold_clock(start_clock(seconds(60), START), START + seconds(20))
    assert held.left == seconds(40)
    assert hold_clock(held, START + seconds(25)) == held
    assert next_alarm(let_clock_run(held, START + seconds(50))) == START + seconds(90)


def test_no_absence_keeps_a_clock_beyond_twice_its_length():
    held = hold_clock(start_clock(seconds(60), START), START + seconds(20))
    assert next_alarm(held) == START + seconds(120)
    assert next_alarm(let_clock_run(held, START + seconds(110))) == START + seconds(120)


def test_a_clock_held_after_it_ran_out_has_nothing_left():
    held = hold_clock(start_clock(seconds(60), START), START + seconds(70))
    assert held.left == seconds(0)


def test_the_reason_tells_a_deadline_from_its_cap():
    assert expire(Streaks()).code == expire(Streaks(), capped=True).code
    assert expire(Streaks()).reason != expire(Streaks(), capped=True).reason
