"""Documents: JSON and YAML 1.2 core in, plain values with positions out (docs/semantics.md 4.8)."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.document import MAX_VALUES, Document, parse_document
from jobs.problems import SpecRefused, pointer


def refusal(data, **options):
    with pytest.raises(SpecRefused) as refused:
        parse_document(data, **options)
    return refused.value


def test_json_and_yaml_of_the_same_document_agree():
    value = {"a": [1, 2.5, None, True], "b": {"c/d": "x", "e~f": {}}, "g": []}
    block = "a:\n- 1\n- 2.5\n-\n- true\nb:\n  c/d: x\n  e~f: {}\ng: []\n"
    assert parse_document(json.dumps(value)).value == value
    assert parse_document(block).value == value
    assert parse_document(block.encode()).value == value


def test_every_path_has_the_line_and_column_of_its_key():
    text = '{\n  "a": [1,\n {"b": {"x": "]}"}}, []],\n  "c/d": {}\n}'
    as_json = parse_document(text)
    as_yaml = parse_document(text, kind="yaml")
    assert dict(as_json.lines) == dict(as_yaml.lines)
    assert dict(as_json.lines) == {
        "": (1, 1),
        "/a": (2, 3),
        "/a/0": (2, 9),
        "/a/1": (3, 2),
        "/a/1/b": (3, 3),
        "/a/1/b/x": (3, 9),
        "/a/2": (3, 22),
        "/c~1d": (4, 3),
    }


def test_an_unknown_path_has_the_position_of_the_nearest_one_around_it():
    document = parse_document("a:\n  b: 1\n")
    assert document.position("/a/missing/too") == (1, 1)
    assert document.position("/a/b") == (2, 3)
    assert Document(value={}, lines={}, text="").position("/a") is None


@pytest.mark.parametrize(
    ("plain", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("22:30", "22:30"),
        ("2025-01-01", "2025-01-01"),
        ("0755", "0755"),
        ("1_000", "1_000"),
        ("=", "="),
        ("<<", "<<"),
        ("~", None),
        ("", None),
        ("Null", None),
        ("TRUE", True),
        ("False", False),
        ("0", 0),
        ("-12", -12),
        ("+5", 5),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("-0.0", 0.0),
        ("'1'", "1"),
        ('"true"', "true"),
        ("9223372036854775807", 2**63 - 1),
        ("!", "!"),
    ],
)
def test_plain_scalars_follow_the_core_schema(plain, value):
    if plain == "!":
        assert refusal("a: ! b").code == "malformed_body"
        return
    found = parse_document(f"a: {plain}\n").value["a"]
    assert (found, type(found)) == (value, type(value))


def test_aliases_repeat_what_they_name():
    text = "a: &x {k: v}\nb: *x\n? &k key\n: [&s one, *s, *k]\n*s : 1\n"
    expected = {"a": {"k": "v"}, "b": {"k": "v"}, "key": ["one", "one", "key"], "one": 1}
    assert parse_document(text).value == expected


MALFORMED = [
    # both kinds of text
    (b"\xff\xfe", 1, 1),
    (b"a: b\nc: \xff", 2, 4),
    ("a: \ud800", 1, 4),
    ("a: b\nc: \0", 2, 4),
    ("", 1, 1),
    ("[]", 1, 1),
    ("just text", 1, 1),
    # JSON
    ('{"a": 1,\n "a": 2}', 2, 2),
    ('{"a": 1, "a": 2, "a": 3}', 1, 18),
    ('{"a": 1', 1, 8),
    ('{"a": NaN}', 1, 2),
    ('{"a": -Infinity}', 1, 2),
    ('{"a": 1e400}', 1, 2),
    ('{"a": [1, 9223372036854775808]}', 1, 11),
    ('{"a": ' + "9" * 5000 + "}", 1, 2),
    ('{"a": "\\u0000"}', 1, 2),
    ('{"a": "\\ud800"}', 1, 2),
    ('{"\\ud800": 1}', 1, 1),
    ('{"a": "\n"}', 1, 8),
    ('{"a": 01}', 1, 8),
    ("{a: b}", 1, 2),
    ('{"a": 1} {}', 1, 10),
    # YAML
    ("a: 1\na: 2\n", 2, 1),
    ("a: b: c", 1, 5),
    ("a: [", 2, 1),
    ("a: 1\n---\nb: 2\n", 2, 1),
    ("a: !!str b", 1, 4),
    ("a: !thing [b]", 1, 4),
    ("a: ! {}", 1, 4),
    ("1: b", 1, 1),
    ("true: b", 1, 1),
    ("[a]: b", 1, 2),
    ("? {a: b}\n: c", 1, 3),
    ("a: .inf", 1, 1),
    ("a: -.INF", 1, 1),
    ("a: .nan", 1, 1),
    ("a: 1e400", 1, 1),
    ("a: 0xFFFFFFFFFFFFFFFFF", 1, 1),
    ("a: *b", 1, 4),
    ("a: &x [*x]", 1, 8),
    ("a: \x01", 1, 4),
    ('a: "\\ud800"', 1, 7),
    ('a: "\\0"', 1, 1),
    ("%YAML 9.9\n---\na: 1", 1, 1),
]


@pytest.mark.parametrize(("data", "line", "column"), MALFORMED)
def test_a_malformed_document_is_refused_with_line_and_column(data, line, column):
    refused = refusal(data)
    assert (refused.stage, refused.status, refused.code) == ("parse", 400, "malformed_body")
    assert len(refused.problems) == 1
    assert refused.problems[0].message
    assert (refused.problems[0].line, refused.problems[0].column) == (line, column)


def test_a_body_over_the_limit_is_too_large():
    refused = refusal("a: " + "b" * 100, max_bytes=50)
    assert (refused.status, refused.code) == (413, "body_too_large")


DEEP = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "[" * DEEP,
        '{"a":' * DEEP,
        "[" * DEEP + "]" * DEEP,
        "a: " + "[" * DEEP,
        "a: " + "{a: " * DEEP,
        "a:\n  " + "- " * DEEP + "x",
        "? " * DEEP + "x",
        "".join(" " * level + "a:\n" for level in range(1000)),
        '{"a": "' + '\\"' * DEEP * 5,
        '{"a": ' + '"' * DEEP,
        "a: " + "*a " * 10,
    ],
)
def test_a_hostile_document_is_refused_quickly(text):
    started = time.process_time()
    assert refusal(text).code == "malformed_body"
    assert time.process_time() - started < 0.5


def test_nesting_is_allowed_up_to_its_limit():
    assert parse_document('{"a":' * 31 + "1" + "}" * 31)
    assert parse_document("a: " + "[" * 31 + "]" * 31)
    assert "32 levels" in str(refusal('{"a":' * 33 + "1" + "}" * 33))
    assert "32 levels" in str(refusal("a: " + "[" * 32 + "]" * 32))


def test_aliases_may_not_deepen_a_document():
    lines = ["a0: &a0 x"]
    lines += [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 40)]
    assert "32 levels" in str(refusal("\n".join(lines)))


def test_aliases_are_counted():
    few = "a: &a x\nb: [" + "*a, " * 100 + "]"
    assert len(parse_document(few).value["b"]) == 100
    assert "100 aliases" in str(refusal("a: &a x\nb: [" + "*a, " * 101 + "]"))


def test_an_alias_bomb_is_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    assert "aliases" in str(refusal("\n".join(lines)))


def test_aliases_of_a_long_text_are_refused():
    text = "a: &a " + "x" * 1000 + "\nb: [" + "*a, " * 10 + "]"
    assert "too large" in str(refusal(text, max_bytes=5000))


def test_more_values_than_a_job_can_need_are_refused():
    assert "too large" in str(refusal('{"a": [' + "1," * MAX_VALUES + "1]}"))


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
)
TREES = st.recursive(
    PLAIN,
    lambda leaf: st.lists(leaf, max_size=3) | st.dictionaries(st.text("ab/~", max_size=3), leaf),
)


def paths_of(value, path=""):
    yield path
    if isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from paths_of(child, path + pointer(key))


@given(st.dictionaries(st.text('ab/~\n"', max_size=3), TREES), st.sampled_from([None, 1]))
def test_any_json_document_comes_back_with_every_path_located(value, indent):
    document = parse_document(json.dumps(value, indent=indent))
    assert document.value == value
    assert set(document.lines) == set(paths_of(value))


FRAGMENTS = st.sampled_from(
    [
        *"{}[]:,-?&*!|>'\"%@`#\n \\~<0a\ud800\t\r\x85\u2028\x07\ufeff",
        *(
            "- ",
            ": ",
            "a: ",
            "&a ",
            "*a",
            "---\n",
            "...",
            "!!",
            "\\ud800",
            "\\u0000",
            "1e999",
            ".inf",
        ),
        *('"a"', '{"a":'),
    ]
)


@given(
    st.binary(max_size=200) | st.lists(FRAGMENTS, max_size=40).map("".join),
    st.sampled_from([None, "json", "yaml"]),
)
def test_any_input_is_a_document_or_a_refusal(data, kind):
    try:
        document = parse_document(data, kind=kind)
    except SpecRefused as refused:
        problem = refused.problems[0]
    else:
        json.dumps(document.value, allow_nan=False, ensure_ascii=False).encode()
        return
    assert problem.line >= 1
    assert problem.column >= 1
