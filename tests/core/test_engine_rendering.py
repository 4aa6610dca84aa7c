"""A rendered document says the same as the original, and every line knows where it came from."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.engine.rendering import render

yaml = pytest.importorskip("yaml")

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.text("abc: #'\"\\{}[]&*!|>%@`-?,é\t\n ", max_size=12)
)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "b c", "yes", "1", "x-y", "~/"]), inner, max_size=4)
    ),
    max_leaves=20,
)


def without_trailing_blanks(node):
    if isinstance(node, dict):
        return {key: without_trailing_blanks(value) for key, value in node.items()}
    if isinstance(node, list):
        return [without_trailing_blanks(value) for value in node]
    return "\n".join(x.rstrip() for x in node.split("\n")) if isinstance(node, str) else node


def at(document, path):
    for part in path.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        document = document[int(key)] if isinstance(document, list) else document[key]
    return document


@given(DOCUMENTS)
@example("a:\n ")
@example("a:\n \n")
def test_the_text_reads_back_as_the_document(document):
    text, _ = render(document)
    assert without_trailing_blanks(yaml.safe_load(text)) == without_trailing_blanks(document)


@given(DOCUMENTS)
def test_every_line_points_into_the_document(document):
    text, lines = render(document)
    assert text.count("\n") == len(lines)
    for line in lines:
        value = at(document, line.path)
        assert (line.inner == 0) or line.inner <= value.count("\n") + 1


def test_each_line_of_a_mapping_knows_its_number():
    text, lines = render({"try": [{"mapping": "root = this\nroot.a = 1\n"}]}, "/p")
    assert text == "try:\n  - mapping: |\n      root = this\n      root.a = 1\n"
    assert [(line.path, line.inner) for line in lines] == [
        ("/p/try", 0),
        ("/p/try/0/mapping", 0),
        ("/p/try/0/mapping", 1),
        ("/p/try/0/mapping", 2),
    ]
