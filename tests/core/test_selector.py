"""Selectors: the grammar, its truth table, printing and matching (docs/semantics.md 1.4, 2.2, 4.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodes.selector import (
    ALL,
    ANY,
    EVERYTHING,
    NOTHING,
    Operator,
    Requirement,
    Selector,
    SelectorError,
    Target,
    TargetKind,
    check_label_key,
    check_label_value,
    parse_label_filter,
    parse_requirement,
    parse_requirements,
    parse_target,
    print_label_filter,
)

PREMIUM = {"region": "us-east", "tier": "premium"}
BASIC = {"tier": "basic", "debug": "1"}
BARE: dict[str, str] = {}
GPU = {"gpu": ""}


@pytest.mark.parametrize(
    ("text", "premium", "basic", "bare", "gpu"),
    [
        ("region=us-east", True, False, False, False),
        ("region==us-east", True, False, False, False),
        ("region!=us-east", False, True, True, True),
        ("tier in (premium,standard)", True, False, False, False),
        ("tier notin (premium,standard)", False, True, True, True),
        ("gpu", False, False, False, True),
        ("!debug", True, False, True, True),
        ("environment!=prod", True, True, True, True),
        ("gpu=", False, False, False, True),
        ("gpu!=", True, True, True, False),
        ("gpu in (,)", False, False, False, True),
        ("tier in (basic,)", False, True, False, False),
    ],
)
def test_the_truth_table_of_requirements_holds(text, premium, basic, bare, gpu):
    requirement = parse_requirement(text)
    found = [requirement.matches(labels) for labels in (PREMIUM, BASIC, BARE, GPU)]
    assert found == [premium, basic, bare, gpu]


@pytest.mark.parametrize(
    ("text", "requirement"),
    [
        (" region\t=\r\n us-east ", Requirement("region", Operator.EQUALS, ("us-east",))),
        ("! debug", Requirement("debug", Operator.NOT_EXISTS)),
        ("tier in(b , a, b)", Requirement("tier", Operator.IN, ("a", "b"))),
        ("in in (in,notin)", Requirement("in", Operator.IN, ("in", "notin"))),
        ("notin", Requirement("notin", Operator.EXISTS)),
        ("in=in", Requirement("in", Operator.EQUALS, ("in",))),
        ("example.com/tier=a", Requirement("example.com/tier", Operator.EQUALS, ("a",))),
        ("k in (a,)", Requirement("k", Operator.IN, ("", "a"))),
        ("1", Requirement("1", Operator.EXISTS)),
    ],
)
def test_white_space_keywords_and_prefixes_are_read(text, requirement):
    assert parse_requirement(text) == requirement


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 1),
        ("   ", 4),
        ("=a", 1),
        ("!", 2),
        ("!a=b", 3),
        ("a b", 3),
        ("a inn (b)", 3),
        ("a IN (b)", 3),
        ("a in b", 6),
        ("a in ()", 7),
        ("a in ( )", 8),
        ("a in (b", 8),
        ("a in (b c)", 9),
        ("a in", 5),
        ("a=b,c=d", 4),
        ("a=b=c", 4),
        ("a=b c", 5),
        ("a>1", 1),
        ("a<1", 1),
        ("-a", 1),
        ("a-", 1),
        ("a_/b", 1),
        ("A.com/b", 1),
        ("a/b/c", 1),
        ("/b", 1),
        ("a/", 1),
        ("k=-a", 3),
        ("k=a/b", 3),
        ("k=é", 3),
        ("k=" + "a" * 64, 3),
        ("a" * 64, 1),
        ("a" * 254 + "/b", 1),
        ("k in (a,-)", 9),
        ("k\x0b=a", 1),
    ],
)
def test_a_bad_requirement_names_the_column(text, column):
    with pytest.raises(SelectorError) as refused:
        parse_requirement(text)
    assert refused.value.column == column
    assert refused.value.message


def test_the_longest_names_are_accepted():
    assert check_label_key("a" * 63) == ""
    assert check_label_key("a" * 253 + "/" + "b" * 63) == ""
    assert check_label_value("a" * 63) == ""
    assert check_label_value("") == ""
    assert "63" in check_label_value("a" * 64)
    assert check_label_value("a\n") != ""


def test_a_list_of_requirements_is_read_in_order():
    texts = ["a=b", "!c"]
    assert [str(r) for r in parse_requirements(texts)] == texts


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("", ""),
        ("  ", ""),
        ("a=b,!c,tier in (x,y)", "a=b,!c,tier in (x,y)"),
        (" a , b == c ", "a,b=c"),
        ("a=,b", "a=,b"),
    ],
)
def test_a_filter_is_a_comma_list(text, printed):
    assert print_label_filter(parse_label_filter(text)) == printed


@pytest.mark.parametrize(("text", "column"), [("a,", 3), (",a", 1), ("a=b c", 5), ("a,,b", 3)])
def test_a_bad_filter_names_the_column(text, column):
    with pytest.raises(SelectorError) as refused:
        parse_label_filter(text)
    assert refused.value.column == column


NAMES = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,8}[A-Za-z0-9])?", fullmatch=True)
KEYS = NAMES | st.sampled_from(["in", "notin", "example.com/tier"])
VALUES = NAMES | st.sampled_from(["", "in"])


@st.composite
def requirements(draw):
    op = draw(st.sampled_from(Operator))
    if op in (Operator.EXISTS, Operator.NOT_EXISTS):
        values = set()
    elif op in (Operator.EQUALS, Operator.NOT_EQUALS):
        values = {draw(VALUES)}
    else:
        values = draw(st.sets(VALUES, min_size=1, max_size=4))
    return Requirement(draw(KEYS), op, tuple(sorted(values)))


@given(requirements())
def test_a_printed_requirement_reads_back_as_itself(requirement):
    assert parse_requirement(str(requirement)) == requirement


@given(st.lists(requirements(), max_size=4))
def test_a_printed_filter_reads_back_as_itself(several):
    assert parse_label_filter(print_label_filter(several)) == tuple(several)


@given(st.text(alphabet="ab=!(), innot<>/-\t", max_size=30))
def test_any_text_is_a_requirement_or_an_error_inside_it(text):
    column = 1
    try:
        parse_requirement(text)
    except SelectorError as error:
        column = error.column
    assert 1 <= column <= len(text) + 1


@given(requirements(), st.dictionaries(KEYS, VALUES, max_size=4))
def test_each_negative_form_is_the_opposite_of_its_positive(requirement, labels):
    opposite = {
        Operator.EQUALS: Operator.NOT_EQUALS,
        Operator.IN: Operator.NOT_IN,
        Operator.EXISTS: Operator.NOT_EXISTS,
    }
    if requirement.op in opposite:
        other = Requirement(requirement.key, opposite[requirement.op], requirement.values)
        assert requirement.matches(labels) is not other.matches(labels)


NODE = ("id-1", "edge-1", "edge-1.example", {"group": "web.dev.us-east"})


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("group:web", True),
        ("group:web.dev", True),
        ("group:web.dev.us-east", True),
        ("role:web", False),
        ("group:web.dev.us-east.a", False),
        ("group:web.de", False),
        ("group:dev", False),
        ("group:WEB", False),
        ("group:", False),
        (":web", False),
        ("id-1", True),
        ("edge-1", True),
        ("edge-1.example", True),
        ("EDGE-1", False),
        ("_any", True),
        ("_all", True),
    ],
)
def test_the_truth_table_of_targets_holds(text, matches):
    assert parse_target(text).matches(*NODE) is matches


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("_any", ANY),
        ("_all", ALL),
        ("group:web.dev", Target(TargetKind.LABEL, "group", "web.dev")),
        ("group:", Target(TargetKind.NAME, value="group:")),
        (":web", Target(TargetKind.NAME, value=":web")),
        ("ex.com:80", Target(TargetKind.NAME, value="ex.com:80")),
        ("_other", Target(TargetKind.NAME, value="_other")),
    ],
)
def test_a_target_is_read_and_printed(text, target):
    assert parse_target(text) == target
    assert str(target) == text


@pytest.mark.parametrize(
    ("text", "column"), [("", 1), ("group:web.", 7), ("g:a b", 3), ("g:a:b", 3), ("a\0", 2)]
)
def test_a_bad_target_names_the_column(text, column):
    with pytest.raises(SelectorError) as refused:
        parse_target(text)
    assert refused.value.column == column


def test_an_id_that_was_named_wins_over_a_name_that_equals_it():
    assert parse_target("n1").narrow(["n0", "n1"]) == ("n1",)
    assert parse_target("edge").narrow(["n0", "n1"]) == ("n0", "n1")
    assert ALL.narrow(["n0"]) == ("n0",)


def test_every_member_of_a_selector_must_hold():
    selector = Selector(
        match_ids=("id-1",),
        match_labels={"group": "web.dev.us-east"},
        requirements=(parse_requirement("!debug"),),
        target=parse_target("group:web"),
    )
    assert selector.matches(*NODE)
    assert not selector.matches("id-2", *NODE[1:])
    assert not selector.matches(*NODE[:3], {"group": "web"})
    assert not selector.matches(*NODE[:3], {"group": "web.dev.us-east", "debug": ""})
    assert not Selector(target=parse_target("group:db")).matches(*NODE)


def test_match_labels_is_not_hierarchical():
    assert not Selector(match_labels={"group": "web"}).matches(*NODE)


def test_everything_matches_and_nothing_does_not():
    assert EVERYTHING.matches(*NODE)
    assert not NOTHING.matches(*NODE)


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        (EVERYTHING, "every node"),
        (NOTHING, "id in ()"),
        (Selector(target=ANY), "any one of: every node"),
        (Selector(target=ALL), "every node"),
        (Selector(target=parse_target("group:web")), "target group:web"),
        (
            Selector(
                match_ids=("b", "a"),
                match_labels={"z": "1", "a": "2"},
                requirements=(parse_requirement("k in (x,y)"),),
            ),
            "id in (a,b) and a=2 and z=1 and k in (x,y)",
        ),
    ],
)
def test_a_selector_says_which_nodes_are_meant(selector, text):
    assert selector.describe() == text
