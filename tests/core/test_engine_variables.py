"""`${NAME}` in a pipeline is replaced as the engine itself would, and never silently by nothing."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engine.variables import REFERENCE, MissingVariablesError, substitute

ENV = {"NAME": "web", "N": "5", "RATIO": "0.25", "ON": "true", "EMPTY": "", "TWO": "a\nb"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${NAME}", "web"),
        ("x-${NAME}-y-${NAME}", "x-web-y-web"),
        ("${EMPTY:fallback}", "fallback"),
        ("${UNSET:}", ""),
        ("${UNSET:a:b/c}", "a:b/c"),
        ("${UNSET:${NAME}}", "web"),
        ("${{NAME}}", "${{NAME}}"),
        ("a ${{NAME}} ${NAME}", "a ${{NAME}} web"),
        ("${! json() }", "${! json() }"),
        ("$NAME", "$NAME"),
        ("${N}", 5),
        ("${UNSET:100}", 100),
        ("${RATIO}", 0.25),
        ("${ON}", True),
        ("every ${N}s", "every 5s"),
        ("${TWO}", "a\nb"),
        ('root = "${TWO}"', 'root = "a\\nb"'),
    ],
)
def test_a_reference_is_replaced(text, expected):
    assert substitute({"a": [text]}, ENV) == {"a": [expected]}


@pytest.mark.parametrize("value", ["007", "1.10", "1e5", "+1", "1_000", "-0.0", "True", "9" * 30])
def test_a_value_that_only_looks_like_a_number_stays_text(value):
    assert substitute("${X}", {"X": value}) == value


def test_all_variables_without_value_are_named_with_their_place():
    with pytest.raises(MissingVariablesError, match="A, B") as caught:
        substitute({"input": {"file": {"paths": ["${A}", "${B}", "${A}"]}}, "x": "${EMPTY:1}"}, {})
    assert caught.value.names == {"A": "/input/file/paths/0", "B": "/input/file/paths/1"}


def test_a_reference_inside_a_value_is_escaped_for_the_engine():
    assert substitute("${X}", {"X": "see ${HOME:/root}"}) == "see ${{HOME:/root}}"


@given(st.dictionaries(st.text("AB_", min_size=1, max_size=3), st.text(), min_size=1))
def test_what_comes_out_never_reads_as_a_reference_again(env):
    text = " ".join(f"${{{name}:-}}" for name in env)
    assert not REFERENCE.search(str(substitute(text, env)))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text("ab{}$: \n"),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner),
    )
)
def test_a_document_without_references_is_left_as_it_is(document):
    if not REFERENCE.search(json.dumps(document)):
        assert substitute(document, {}) == document
