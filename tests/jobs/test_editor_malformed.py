"""Malformed texts in the editor: a clear message with its line, never a 500, nothing stored."""

import pytest

from jobs.models import Job, JobVersion
from tests.jobs.texts import pipeline

pytestmark = pytest.mark.django_db
BOMB = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}, *{before}, *{before}, *{before}, *{before}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
TEXTS = {
    "malformed YAML": ("name: [a\n", "not YAML", 2),
    "a tab as indentation": ("name: a\nconfig:\n\tinput: {}\n", "not YAML", 3),
    "an unknown field": (pipeline() + "colour: red\n", "colour", 22),
    "a misspelt field": (pipeline().replace("max_parallel", "max_paralel"), "max_paralel", 10),
    "a bad selector": (
        pipeline().replace(
            "  match_labels:\n    role: gateway\n", '  match_expressions: ["role in ("]\n'
        ),
        "expected , or ) in the list",
        6,
    ),
    "a missing health check": (
        pipeline().replace("  health_check:\n    deadline: 5m\n    interval: 10s\n", ""),
        "health",
        8,
    ),
    "a key given twice": (pipeline().replace("type:", "name:"), "given twice", 4),
    "an alias bomb": (BOMB, "too large", 9),
    "an alias inside itself": ("a: &a [*a]\n", "alias", 1),
    "deep nesting": ("a: " + "[" * 100 + "]" * 100, "levels deep", 1),
    "deep nesting in JSON": ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", "levels deep", 1),
    "a NUL": ("name: a\nnamespace: p\0rod\n", "NUL", 2),
    "an escaped NUL": ('name: a\nnamespace: "\\0"\n', "NUL", 2),
    "a lone surrogate in JSON": ('{"name":\n"\\ud800"}', "surrogate", 1),
    "a number without end": (pipeline().replace("50", "1e400"), "finite", 10),
    "a whole number of 5,000 digits": (
        pipeline().replace("50", "9" * 5000),
        "64 bits",
        10,
    ),
    "infinity": (pipeline().replace("50", ".inf"), "finite", 10),
    "NaN in JSON": ('{"name": NaN}', "NaN", 1),
    "a tag": ("name: !!python/object:os.system x\n", "tags", 1),
    "two documents": ("name: a\n---\nname: b\n", "second one", 2),
    "a list": ("- a\n- b\n", "mapping", 1),
    "a mere word": ("word", "mapping", 1),
    "nothing": ("", "mapping", 1),
    "a key that is no text": ("? [a]\n: b\n", "not a text", 1),
    "a type that is none": (pipeline().replace("pipeline", "pipe"), "type", 4),
    "a name that is none": (pipeline("Log Shipper"), "name", 2),
    "a number where a text belongs": (pipeline().replace("gateway", "7"), "role", 7),
    "a duration that is none": (pipeline().replace("10s", "soon"), "interval", 14),
}


def lines_of(text):
    return [int(part.split('"')[0]) for part in text.split('data-problem-line="')[1:]]


@pytest.mark.parametrize("key", TEXTS)
@pytest.mark.parametrize("door", ["plan", "start"])
def test_a_malformed_text_is_refused_with_its_line_and_nothing_is_stored(cast, page_as, key, door):
    text, says, line = TEXTS[key]
    otto = page_as("otto")
    if door == "plan":
        answer = otto.post("/jobs/plan/", {"spec": text}, headers={"HX-Request": "true"})
        assert answer.status_code == 200
    else:
        answer = otto.post("/jobs/new/", {"spec": text})
        assert answer.status_code in (400, 403, 409, 413, 422)
    shown = answer.content.decode()
    problems = shown.split('class="problem is-bad"', 1)[1].split("</section>")[0]
    assert says in problems.replace("&#x27;", "'").replace("&quot;", '"')
    assert line in lines_of(shown)
    assert "Start rollout on" not in shown
    assert not Job.objects.exists()
    assert not JobVersion.objects.exists()


@pytest.mark.parametrize("key", TEXTS)
def test_the_text_of_a_refused_start_is_still_there(cast, page_as, key):
    text = TEXTS[key][0]
    shown = page_as("otto").post("/jobs/new/", {"spec": text}).content.decode()
    area = shown.split("<textarea", 1)[1].split(">", 1)[1].split("</textarea>")[0]
    plain = area.replace("&quot;", '"').replace("&#x27;", "'").replace("&lt;", "<")
    assert plain.replace("&gt;", ">").replace("&amp;", "&").removeprefix("\n") == text


def test_a_text_that_is_no_utf_8_is_not_a_fault_of_the_server(cast, page_as):
    body = b"spec=name%3A+%ff%ED%A0%80"
    answer = page_as("otto").post(
        "/jobs/new/", body, content_type="application/x-www-form-urlencoded"
    )
    assert answer.status_code == 422
    assert not Job.objects.exists()


def test_a_text_over_the_limit_is_refused(cast, page_as):
    answer = page_as("otto").post("/jobs/plan/", {"spec": "#" * (2 * 1024 * 1024 + 1)})
    assert answer.status_code == 400
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"base": "x" * 100},
        {"base": "nonsense"},
        {"base": "a.99999999999999999999"},
        {"job": "nonsense"},
        {"job": "00000000-0000-0000-0000-000000000000"},
        {"seen": "\0"},
        {"reason": "x" * 2000},
        {"reason": "\0"},
        {"force": "perhaps"},
        {"accept": "x.1"},
    ],
)
def test_fields_that_the_page_cannot_send_are_refused_or_harmless(cast, page_as, fields):
    otto = page_as("otto")
    for address in ("/jobs/new/", "/jobs/plan/", "/jobs/discard-draft/", "/jobs/file/"):
        assert otto.post(address, {"spec": "not: a: job", **fields}).status_code < 500
    assert not Job.objects.exists()


def test_every_problem_of_a_stage_is_shown_at_once_in_the_order_of_lines(cast, page_as):
    text = pipeline().replace("max_parallel: 50", "max_parallel: 500") + "colour: red\n"
    text = text.replace("interval: 10s", "intervall: 10s")
    shown = page_as("otto").post("/jobs/new/", {"spec": text}).content.decode()
    assert lines_of(shown) == sorted(lines_of(shown))
    assert len(lines_of(shown)) > 1


def test_a_doubt_is_shown_and_does_not_stop_anybody(cast, page_as):
    text = pipeline().replace("  health_check:", "  max_failed_nodes: 0\n  health_check:")
    answer = page_as("otto").post("/jobs/plan/", {"spec": text}, headers={"HX-Request": "true"})
    shown = answer.content.decode()
    assert 'data-problem-level="warn"' in shown
    assert 'aria-keyshortcuts="Control+Shift+Enter"' in shown
    assert page_as("otto").post("/jobs/new/", {"spec": text}).status_code == 303
