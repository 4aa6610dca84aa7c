"""The judge of the soak: a leak is told from noise, from a step and from a sawtooth."""

import random

import pytest

from bench.soak.judge import Limit, Series, floors_of, judge, slope_of

MEMORY = Limit(per_thousand=100, noise=512)


def series(values, work_each=50.0, units_per_day=100_000):
    """Values in KiB, one for each `work_each` units of work."""
    return Series(
        name="web",
        unit="KiB",
        work="requests",
        units_per_day=units_per_day,
        points=tuple((k * work_each, value) for k, value in enumerate(values)),
    )


def noisy(values, spread=200):
    rng = random.Random(7)
    return [value + rng.uniform(-spread, spread) for value in values]


def test_the_slope_is_that_of_least_squares():
    assert slope_of([(0, 1), (1, 3), (2, 5)]) == pytest.approx(2)
    assert slope_of([(0, 0), (1, 2), (2, 1), (3, 3)]) == pytest.approx(0.8)


def test_the_floors_are_the_lowest_points_of_eight_stretches():
    points = [(k, 10 + k % 5) for k in range(40)]
    assert floors_of(points) == [(k, 10) for k in range(0, 40, 5)]


def test_what_stays_the_same_is_flat():
    assert judge(series(noisy([50_000] * 100)), MEMORY).is_flat


def test_a_leak_below_the_noise_of_each_point_is_found():
    # 10 KiB for each point of 50 units: 200 KiB per 1,000, under noise of 200 KiB either way.
    verdict = judge(series(noisy([50_000 + 10 * k for k in range(100)])), MEMORY)
    assert not verdict.is_flat
    assert verdict.per_thousand == pytest.approx(200, rel=0.15)


def test_the_words_of_a_leak_say_what_grows_how_fast_and_what_a_day_would_bring():
    verdict = judge(series([50_000 + 10 * k for k in range(100)]), MEMORY)
    assert verdict.words == (
        "GROWS web: 50,000 to 50,990 KiB over 4,950 requests, "
        "+200.0 KiB per 1,000 (limit 100), +20,000 KiB a day"
    )


def test_growth_below_the_limit_is_flat_and_still_projected():
    verdict = judge(series([50_000 + 4 * k for k in range(200)]), MEMORY)
    assert verdict.is_flat
    assert verdict.per_day == pytest.approx(8_000)


@pytest.mark.parametrize("at", [20, 50, 80])
def test_one_step_is_no_leak(at):
    assert judge(
        series(noisy([50_000 + (3_000 if k >= at else 0) for k in range(100)])), MEMORY
    ).is_flat


def test_a_sawtooth_of_processes_that_are_replaced_is_no_leak():
    assert judge(series([50_000 + 300 * (k % 10) for k in range(100)]), MEMORY).is_flat


def test_a_sawtooth_whose_foot_rises_is_a_leak():
    values = [50_000 + 300 * (k % 10) + 20 * k for k in range(100)]
    assert not judge(series(values), MEMORY).is_flat


def test_a_rise_within_the_noise_says_nothing():
    values = [50_000 + 20 * k for k in range(25)]
    assert judge(series(values), MEMORY).is_flat
    assert not judge(series(values), Limit(per_thousand=100, noise=100)).is_flat


def test_shrinking_is_flat():
    assert judge(series([50_000 - 30 * k for k in range(100)]), MEMORY).is_flat


def test_too_few_points_and_no_work_prove_nothing():
    with pytest.raises(ValueError, match="points say nothing"):
        judge(series([1, 2, 3]), MEMORY)
    with pytest.raises(ValueError, match="no requests in this time"):
        judge(series([1] * 30, work_each=0.0), MEMORY)
