"""The order of nodes in SQL is the order of `rollouts.order`, whatever their labels (X93)."""

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs.spec import JobSpec
from nodes.models import Node
from rollouts.models import RolloutTarget
from rollouts.order import Candidate, Order, OrderBy, order_nodes
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db
NUMBERS = itertools.count()
VALUES = ["lab", "shop", "Shop", "", "x-é"]
ORDERS = st.one_of(
    st.just(Order()),
    st.just(Order(by=OrderBy.SPREAD, label="ring")),
    st.builds(
        lambda values: Order(by=OrderBy.RINGS, label="ring", values=tuple(values)),
        st.lists(st.sampled_from(VALUES[:3]), min_size=1, max_size=3, unique=True),
    ),
)
LABELS = st.lists(st.none() | st.sampled_from(VALUES[:4]), min_size=6, max_size=6)


@settings(
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(order=ORDERS, labels=LABELS)
def test_targets_stand_in_the_order_that_the_pure_function_gives(cast, order, labels):
    Node.objects.all().delete()
    nodes = fleet.make_nodes(len(labels))
    for node, value in zip(nodes, labels, strict=True):
        more = {} if value is None else {"ring": value}
        Node.objects.filter(pk=node.pk).update(labels={**node.labels, **more})
    spec = fleet.spec_of(strategy="rolling", max_parallel=100).to_json()
    block = {"by": order.by.value, "label": order.label, "values": list(order.values)}
    spec["name"] = f"order-{next(NUMBERS)}"
    spec["rollout"]["order"] = {k: v for k, v in block.items() if v}
    rollout = fleet.start(JobSpec.model_validate(spec))
    targets = RolloutTarget.objects.filter(rollout=rollout).order_by("position")
    expected = order_nodes(
        [Candidate(node_id=str(n.pk), labels=n.labels) for n in Node.objects.all()], order
    )
    assert [(str(t.node_id), t.position, t.ring) for t in targets] == [
        (place.node_id, place.position, place.ring) for place in expected
    ]
