"""The plan before anything starts: waves with their nodes, as the live planner would open them."""

from hypothesis import given
from hypothesis import strategies as st

from rollouts.planner import Policy, wave_sizes
from rollouts.preview import PreviewNode, preview
from rollouts.states import Strategy

ROLLING = Policy(strategy=Strategy.ROLLING, max_parallel=25)
CANARY = Policy(strategy=Strategy.CANARY, max_parallel=25, canary_count=2)


def fleet(count, rings=None, away=()):
    return [
        PreviewNode(
            node_id=f"{n:03}",
            name=f"edge-{n}",
            ring=rings[n] if rings else 0,
            fit=n not in away,
        )
        for n in range(count)
    ]


def names(plan):
    return [[int(node.node_id) for node in wave.nodes] for wave in plan.waves]


def test_waves_follow_the_order_given():
    plan = preview(fleet(10), ROLLING)
    assert names(plan) == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert [wave.number for wave in plan.waves] == [1, 2, 3, 4]
    assert (plan.total_waves, plan.wave_size, plan.canary_size) == (4, 3, 0)


def test_the_canaries_are_wave_1():
    plan = preview(fleet(20), CANARY)
    assert [len(wave.nodes) for wave in plan.waves] == [2, 5, 5, 5, 3]
    assert [wave.canary for wave in plan.waves] == [True, False, False, False, False]
    assert plan.canary_size == 2


def test_an_immediate_rollout_is_one_wave_with_the_number_0():
    plan = preview(fleet(3), Policy())
    assert names(plan) == [[0, 1, 2]]
    assert plan.waves[0].number == 0


def test_nodes_that_are_current_are_in_no_wave_but_count_for_the_size():
    plan = preview(fleet(8), ROLLING, current={"000", "005"})
    assert names(plan) == [[1, 2], [3, 4], [6, 7]]
    assert [node.node_id for node in plan.current] == ["000", "005"]
    assert plan.total_nodes == 8


def test_a_plan_with_nothing_to_change_has_no_waves():
    plan = preview(fleet(2), CANARY, current={"000", "001"})
    assert (plan.waves, plan.waiting_on) == ((), "")


def test_nodes_that_cannot_take_work_are_named_as_deferred():
    plan = preview(fleet(5, away={0, 3}), ROLLING)
    assert names(plan) == [[1, 2], [4]]
    assert [node.node_id for node in plan.deferred] == ["000", "003"]


def test_without_a_node_fit_for_a_canary_it_says_what_it_would_wait_for():
    plan = preview(fleet(3, away={0, 1, 2}), CANARY)
    assert plan.waves == ()
    assert "no_canary_available" in plan.waiting_on


def test_a_wave_never_mixes_rings_but_the_canaries_may():
    rings = [1, 1, 1, 2, 2, 2, 2, 2]
    wide = Policy(strategy=Strategy.ROLLING, max_parallel=50)
    assert names(preview(fleet(8, rings), wide)) == [[0, 1, 2], [3, 4, 5, 6], [7]]
    four = Policy(strategy=Strategy.CANARY, max_parallel=50, canary_count=4)
    assert names(preview(fleet(8, rings), four)) == [[0, 1, 2, 3], [4, 5, 6, 7]]


POLICIES = st.builds(
    Policy,
    strategy=st.sampled_from(Strategy),
    max_parallel=st.integers(1, 100),
    canary_count=st.one_of(st.none(), st.integers(1, 9)),
)


@given(st.integers(0, 60), POLICIES, st.sets(st.integers(0, 59)), st.sets(st.integers(0, 59)))
def test_every_node_is_in_exactly_one_place(count, policy, current, away):
    plan = preview(fleet(count, away=away - current), policy, {f"{n:03}" for n in current})
    placed = [*plan.current, *plan.deferred, *(node for wave in plan.waves for node in wave.nodes)]
    assert sorted(node.node_id for node in placed) == [f"{n:03}" for n in range(count)]


@given(st.lists(st.integers(1, 3), max_size=40).map(sorted), POLICIES)
def test_the_plan_has_the_sizes_that_the_formulas_give(rings, policy):
    plan = preview(fleet(len(rings), rings), policy)
    counts = tuple(rings.count(ring) for ring in dict.fromkeys(rings))
    sizes = wave_sizes(len(rings), len(rings), policy, counts)
    assert tuple(len(wave.nodes) for wave in plan.waves) == sizes
