"""Selectors as SQL: one condition, its parameters, and never a null (docs/semantics.md 1.4)."""

import pytest

from nodes.selector import (
    ALL,
    ANY,
    EVERYTHING,
    NOTHING,
    Selector,
    parse_requirement,
    parse_target,
    to_sql,
)


def of(*texts, **members):
    return Selector(requirements=tuple(parse_requirement(text) for text in texts), **members)


@pytest.mark.parametrize(
    ("selector", "condition", "params"),
    [
        (EVERYTHING, "(TRUE)", []),
        (NOTHING, "(n.id::text = ANY(%s::text[]))", [[]]),
        (Selector(target=ANY), "(TRUE)", []),
        (Selector(target=ALL), "(TRUE)", []),
        (Selector(match_labels={"a": "b"}), "(n.labels @> %s::jsonb)", ['{"a": "b"}']),
        (of("a=b"), "((n.labels @> %s::jsonb))", ['{"a": "b"}']),
        (of("a!=b"), "(NOT (n.labels @> %s::jsonb))", ['{"a": "b"}']),
        (of("a"), "(jsonb_exists(n.labels, %s::text))", ["a"]),
        (of("!a"), "(NOT jsonb_exists(n.labels, %s::text))", ["a"]),
        (
            of("a in (b,c)"),
            "(COALESCE(n.labels ->> %s::text = ANY(%s::text[]), FALSE))",
            ["a", ["b", "c"]],
        ),
        (
            of("a notin (b,c)"),
            "(NOT COALESCE(n.labels ->> %s::text = ANY(%s::text[]), FALSE))",
            ["a", ["b", "c"]],
        ),
        (
            Selector(target=parse_target("group:web")),
            "(COALESCE(starts_with((n.labels ->> %s::text) || '.', %s), FALSE))",
            ["group", "web."],
        ),
        (
            Selector(target=parse_target("edge")),
            "(%s::text IN (n.id::text, n.name, n.hostname))",
            ["edge"],
        ),
    ],
)
def test_each_form_is_one_condition(selector, condition, params):
    assert to_sql(selector, "n") == (condition, params)


def test_members_are_joined_in_order_with_their_parameters():
    condition, params = to_sql(of("a", "!b", match_ids=("1",), target=parse_target("g:w")), "n")
    assert condition.count(" AND ") == 3
    assert condition.count("%s") == len(params)
    assert params == [["1"], "a", "b", "g", "w."]
