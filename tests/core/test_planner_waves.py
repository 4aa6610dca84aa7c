"""The sizes of waves: the tables of docs/semantics.md 1.7, rings, and exact integers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollouts.planner import Policy, canary_size, wave_size, wave_sizes
from rollouts.states import Strategy


def rolling(percent):
    return Policy(strategy=Strategy.ROLLING, max_parallel=percent)


def canary(percent, **size):
    return Policy(strategy=Strategy.CANARY, max_parallel=percent, **size)


TABLE = [
    (100, rolling(10), (10,) * 10),
    (25, rolling(10), (3,) * 8 + (1,)),
    (10, rolling(50), (5, 5)),
    (7, rolling(10), (1,) * 7),
    (10, rolling(25), (3, 3, 3, 1)),
    (3, rolling(50), (2, 1)),
    (15, rolling(33), (5, 5, 5)),
    (1, rolling(10), (1,)),
    (20, canary(25, canary_count=2), (2, 5, 5, 5, 3)),
    (100, canary(20, canary_percent=5), (5, 20, 20, 20, 20, 15)),
    (4, canary(50, canary_count=9), (4,)),
    (10, canary(50), (1, 5, 4)),
    (12, Policy(), (12,)),
    (0, rolling(10), ()),
    (0, Policy(), ()),
]


@pytest.mark.parametrize(("nodes", "policy", "sizes"), TABLE)
def test_the_wave_table(nodes, policy, sizes):
    assert wave_sizes(nodes, nodes, policy) == sizes


def test_waves_are_made_of_what_must_change_and_sized_by_all_nodes():
    assert wave_sizes(20, 7, rolling(20)) == (4, 3)
    assert wave_sizes(20, 1, canary(20, canary_count=3)) == (1,)
    assert wave_sizes(20, 0, rolling(20)) == ()


def test_rings_are_never_mixed_and_each_rounds_up_for_itself():
    assert wave_sizes(10, 10, rolling(30), rings=(4, 6)) == (3, 1, 3, 3)
    assert wave_sizes(10, 10, rolling(30), rings=(1, 0, 9)) == (1, 3, 3, 3)


def test_canaries_are_the_first_of_the_order_whatever_their_ring():
    assert wave_sizes(10, 10, canary(30, canary_count=3), rings=(2, 8)) == (3, 3, 3, 1)
    assert wave_sizes(10, 10, canary(30, canary_count=1), rings=(2, 8)) == (1, 1, 3, 3, 2)


@given(st.integers(1, 200_000), st.integers(1, 100))
def test_the_number_of_waves_is_bounded_by_the_percentage_whatever_the_fleet(nodes, percent):
    size = wave_size(nodes, percent)
    assert size >= 1
    assert (size - 1) * 100 < nodes * percent or size == 1
    assert size * 100 >= nodes * percent
    assert len(wave_sizes(nodes, nodes, rolling(percent))) <= -(-100 // percent)


@given(st.integers(1, 500), st.data())
def test_waves_add_up_to_what_must_change(nodes, data):
    to_change = data.draw(st.integers(0, nodes))
    policy = data.draw(
        st.sampled_from([rolling(17), canary(9, canary_count=3), canary(50, canary_percent=7)])
    )
    sizes = wave_sizes(nodes, to_change, policy)
    assert sum(sizes) == to_change
    assert all(0 < size <= wave_size(nodes, policy.max_parallel) for size in sizes[1:])


@given(st.integers(1, 1000), st.integers(1, 100))
def test_a_canary_percentage_is_rounded_up_and_never_more_than_the_fleet(nodes, percent):
    size = canary_size(nodes, canary(10, canary_percent=percent))
    assert 1 <= size <= nodes
    assert size * 100 >= nodes * percent


def test_only_a_canary_rollout_has_canaries():
    assert canary_size(10, rolling(10)) == 0
    assert canary_size(10, Policy(canary_count=3)) == 0
