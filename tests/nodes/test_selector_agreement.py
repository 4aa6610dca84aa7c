"""A selector in Python and the same selector in PostgreSQL choose the same nodes (docs/semantics.md 1.4)."""

import json

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodes.selector import Operator, Requirement, Selector, Target, TargetKind, to_sql

# Few words, so that hits, misses, absent keys and empty values are all common.
KEYS = st.sampled_from(["a", "b", "in", "x.io/a"])
VALUES = st.sampled_from(["", "v", "v.w", "v.wx", "v_w", "V", "in"])
LABELS = st.dictionaries(KEYS, VALUES, max_size=3)
IDS = [f"00000000-0000-0000-0000-00000000000{n}" for n in range(5)]
NAMES = st.sampled_from(["edge", "Edge", "edge.example", IDS[0]])


@st.composite
def requirements(draw):
    op = draw(st.sampled_from(Operator))
    if op in (Operator.EXISTS, Operator.NOT_EXISTS):
        return Requirement(draw(KEYS), op)
    many = 3 if op in (Operator.IN, Operator.NOT_IN) else 1
    values = draw(st.sets(VALUES, min_size=1, max_size=many))
    return Requirement(draw(KEYS), op, tuple(sorted(values)))


TARGETS = (
    st.sampled_from([None, Target(TargetKind.ANY), Target(TargetKind.ALL)])
    | st.builds(Target, st.just(TargetKind.LABEL), KEYS, st.sampled_from(["v", "v.w", "v_w", "V"]))
    | st.builds(lambda text: Target(TargetKind.NAME, value=text), NAMES | st.sampled_from(IDS))
)
SELECTORS = st.builds(
    Selector,
    match_ids=st.none() | st.lists(st.sampled_from(IDS), max_size=3).map(tuple),
    match_labels=st.dictionaries(KEYS, VALUES, max_size=1),
    requirements=st.lists(requirements(), max_size=2).map(tuple),
    target=TARGETS,
)
NODES = st.lists(st.tuples(NAMES, NAMES, LABELS), min_size=5, max_size=5).map(
    lambda rows: [(IDS[at], *row) for at, row in enumerate(rows)]
)


def chosen_in_sql(selector, nodes):
    condition, params = to_sql(selector, "n")
    rows = ", ".join(["(%s::uuid, %s::text, %s::text, %s::jsonb)"] * len(nodes))
    given_rows = [v for node in nodes for v in (*node[:3], json.dumps(node[3]))]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT id::text, {condition} FROM (VALUES {rows}) AS n(id, name, hostname, labels)",
            [*params, *given_rows],
        )
        found = dict(cursor.fetchall())
    assert None not in found.values()
    return {node_id for node_id, holds in found.items() if holds}


@pytest.mark.django_db
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(SELECTORS, NODES)
def test_python_and_postgresql_choose_the_same_nodes(selector, nodes):
    assert chosen_in_sql(selector, nodes) == {n[0] for n in nodes if selector.matches(*n)}
