"""What every template keeps to: the content policy, htmx 4's spellings, and fragments' purity."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "templates"
TEMPLATES = sorted(ROOT.rglob("*.html"))

FORBIDDEN = {
    "a style attribute": r"""\sstyle\s*=""",
    "an inline handler": r"""\son[a-z]+\s*=\s*["']""",
    "an inline script": r"<script(?![^>]*\ssrc=)",
    "an inline style sheet": r"<style",
    "a compiled htmx value": r"""hx-on|["']js:|javascript:""",
    "a trigger filter, which is compiled": r"""hx-trigger="[^"]*\[""",
    "a spelling of htmx 2": r"\sws-(connect|send)|hx-ext=|hx-disinherit|hx-request=|morph:|"
    r"htmx:(afterSwap|beforeSwap|afterRequest)|hx-ws=",
}


def found(text):
    """Return the names of what a template must not hold."""
    return [name for name, pattern in FORBIDDEN.items() if re.search(pattern, text)]


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_template_keeps_to_the_content_policy_and_to_htmx_4(file):
    assert found(file.read_text()) == []


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('<p style="color:red">', "a style attribute"),
        ('<p onclick="x()">', "an inline handler"),
        ("<script>x()</script>", "an inline script"),
        ("<style>p{}</style>", "an inline style sheet"),
        ("""<p hx-vals='js:{"a": 1}'>""", "a compiled htmx value"),
        ('<p hx-trigger="click[ctrlKey]">', "a trigger filter, which is compiled"),
        ('<main ws-connect="/ws">', "a spelling of htmx 2"),
    ],
)
def test_each_rule_catches_what_it_names(text, name):
    assert found(text) == [name]


def impure(text):
    """Return what a live fragment may not hold: it is rendered without a request or a person."""
    words = r"csrf|request\.|\buser\.|<(?:input|select|textarea|form|button)\b"
    return re.findall(words, re.sub(r"{#.*?#}", "", text))


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_live_fragment_holds_no_request_no_token_and_no_input(file):
    text = file.read_text()
    if "{% live_root" in text:
        assert impure(text) == []
        assert file.name.startswith("_")


def test_impurity_is_noticed():
    assert impure("<p>{{ view.words }}</p>{# no request. #}") == []
    assert impure("{% csrf_token %}<button>{{ user.name }}") == ["csrf", "<button", "user."]
