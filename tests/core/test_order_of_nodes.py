"""The order in which nodes are taken: by id, spread over a label, in rings (docs/semantics.md X93)."""

from hypothesis import given
from hypothesis import strategies as st

from rollouts.order import Candidate, Order, OrderBy, order_nodes, ring_of

FLEET = {
    "a1": {"zone": "east"},
    "a2": {"zone": "east"},
    "a3": {"zone": "west"},
    "a4": {},
    "a5": {"zone": "east"},
    "a6": {"zone": "west"},
}


def candidates(fleet=FLEET):
    return [Candidate(node_id=name, labels=labels) for name, labels in reversed(fleet.items())]


def names(order):
    return [place.node_id for place in order_nodes(candidates(), order)]


def test_by_id_is_the_default_and_sorts_ids():
    assert names(Order()) == ["a1", "a2", "a3", "a4", "a5", "a6"]
    assert Candidate(node_id="x").labels == {}


def test_spread_takes_one_node_of_each_value_in_turn():
    order = Order(by=OrderBy.SPREAD, label="zone")
    assert names(order) == ["a4", "a1", "a3", "a2", "a6", "a5"]


def test_rings_come_in_the_order_of_their_values_and_the_rest_last():
    order = Order(by=OrderBy.RINGS, label="zone", values=("west", "east"))
    assert names(order) == ["a3", "a6", "a1", "a2", "a5", "a4"]
    assert [place.ring for place in order_nodes(candidates(), order)] == [1, 1, 2, 2, 2, 3]


def test_only_rings_have_rings():
    assert ring_of({"zone": "east"}, Order(by=OrderBy.SPREAD, label="zone")) == 0
    assert {place.ring for place in order_nodes(candidates(), Order())} == {0}


def test_an_empty_fleet_has_an_empty_order():
    assert order_nodes([], Order()) == ()


ORDERS = st.builds(
    Order,
    by=st.sampled_from(OrderBy),
    label=st.just("zone"),
    values=st.lists(st.sampled_from(["east", "west", ""]), unique=True).map(tuple),
)
FLEETS = st.dictionaries(
    st.text("abc", min_size=1, max_size=3),
    st.one_of(st.just({}), st.sampled_from(["east", "west", ""]).map(lambda z: {"zone": z})),
    max_size=12,
)


@given(FLEETS, ORDERS, st.randoms(use_true_random=False))
def test_the_order_is_independent_of_the_order_of_the_input(fleet, order, random):
    given_in = candidates(fleet)
    shuffled = list(given_in)
    random.shuffle(shuffled)
    assert order_nodes(given_in, order) == order_nodes(shuffled, order)


@given(FLEETS, ORDERS)
def test_every_node_has_exactly_one_place_and_rings_never_go_back(fleet, order):
    places = order_nodes(candidates(fleet), order)
    assert sorted(place.node_id for place in places) == sorted(fleet)
    assert [place.position for place in places] == list(range(1, len(fleet) + 1))
    rings = [place.ring for place in places]
    assert rings == sorted(rings)


@given(FLEETS)
def test_spread_never_takes_a_value_twice_before_every_other_that_is_left_once(fleet):
    places = order_nodes(candidates(fleet), Order(by=OrderBy.SPREAD, label="zone"))
    values = [fleet[place.node_id].get("zone", "") for place in places]
    for end in range(len(values) + 1):
        taken = {value: values[:end].count(value) for value in set(values)}
        left = {value for value in taken if values[end:].count(value)}
        assert not left or max(taken.values()) - min(taken[v] for v in left) <= 1
