"""Bad input to `PUT /api/v1/jobs`: a 4xx with its code and where it is, and nothing is stored.

The editor's form meets the same texts in tests/jobs/test_editor_malformed.py.
"""

import json
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.django_db

GOOD = {
    "name": "shipper",
    "namespace": "prod",
    "type": "pipeline",
    "selector": {"match_labels": {"role": "gateway"}},
    "rollout": {"strategy": "rolling", "max_parallel": 50, "health_check": {"deadline": "30s"}},
    "config": {
        "input": {"generate": {"interval": "1s", "mapping": 'root = "x"'}},
        "output": {"drop": {}},
    },
}
JSON, YAML = "application/json", "application/yaml"
BOMB = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def changed(*path, to):
    """The good spec with one member set; None takes it away."""
    spec = json.loads(json.dumps(GOOD))
    inner = spec
    for key in path[:-1]:
        inner = inner[key]
    if to is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = to
    return json.dumps(spec)


def text(**replaced):
    """The good spec as JSON with raw text in place of a member, whatever JSON thinks of it."""
    return json.dumps(GOOD).replace('"rolling"', replaced["strategy"])


# What it is: (content type, body, status, code, path or None, line or None).
CASES = {
    "malformed JSON": (JSON, '{"name": "a",\n', 400, "malformed_body", "", 2),
    "malformed YAML": (YAML, "name: a\n  type: [\n", 400, "malformed_body", "", 2),
    "an empty body": (JSON, "", 400, "malformed_body", None, None),
    "a list": (JSON, "[]", 400, "malformed_body", "", 1),
    "a duplicate key in JSON": (JSON, '{"name": "a",\n"name": "b"}', 400, "malformed_body", "/name", 2),
    "a duplicate key in YAML": (YAML, "name: a\nname: b\n", 400, "malformed_body", "/name", 2),
    "an alias bomb": (YAML, BOMB, 400, "malformed_body", None, None),
    "nesting 100,000 deep in JSON": (JSON, '{"a":' + "[" * 100_000, 400, "malformed_body", "", 1),
    "nesting 100,000 deep in YAML": (YAML, "a: " + "[" * 100_000, 400, "malformed_body", "", 1),
    "a raw NUL": (YAML, "name: a\ntype: \0\n", 400, "malformed_body", "", 2),
    "an escaped NUL": (JSON, changed("name", to="a\0b"), 400, "malformed_body", "/name", 1),
    "a lone surrogate": (JSON, '{"name":\n "\\ud800"}', 400, "malformed_body", "/name", 1),
    "bytes that are no UTF-8": (JSON, b'{"name": "\xff\xfe"}', 400, "malformed_body", "", 1),
    "1e400": (JSON, text(strategy="1e400"), 400, "malformed_body", "/rollout/strategy", 1),
    "infinity": (JSON, text(strategy="Infinity"), 400, "malformed_body", "/rollout/strategy", 1),
    "a 5,000-digit number": (JSON, text(strategy="9" * 5000), 400, "malformed_body", "/rollout/strategy", 1),
    "a tag": (YAML, "name: !!python/object/apply:os.system [id]\n", 400, "malformed_body", "", 1),
    "a body over 2 MiB": (JSON, '{"name":"' + "x" * (2 << 20) + '"}', 413, "body_too_large", "", None),
    "a form": ("application/x-www-form-urlencoded", "name=a", 415, "unsupported_media_type", None, None),
    "plain text": ("text/plain", "name: a", 415, "unsupported_media_type", None, None),
    "an unknown field": (JSON, changed("colour", to="red"), 422, "unknown_field", "/colour", 1),
    "an unknown field inside": (
        JSON, changed("rollout", "max_paralel", to=1), 422, "unknown_field", "/rollout/max_paralel", 1,
    ),
    "no name": (JSON, changed("name", to=None), 422, "invalid_spec", "/name", 1),
    "a bad name": (JSON, changed("name", to="-a"), 422, "invalid_value", "/name", 1),
    "an unknown type": (JSON, changed("type", to="pipe"), 422, "unknown_job_type", "/type", 1),
    "a bad selector": (
        JSON, changed("selector", to={"match_expressions": ["a in ()"]}),
        422, "invalid_selector", "/selector/match_expressions/0", 1,
    ),
    "a missing health check": (
        JSON, changed("rollout", "health_check", to=None),
        422, "health_check_required", "/rollout/health_check", 1,
    ),
    "max_parallel of 0": (
        JSON, changed("rollout", "max_parallel", to=0), 422, "invalid_value", "/rollout/max_parallel", 1,
    ),
    "a bad duration": (
        JSON, changed("rollout", "health_check", "deadline", to="soon"),
        422, "invalid_duration", "/rollout/health_check/deadline", 1,
    ),
    "an unknown namespace": (JSON, changed("namespace", to="nowhere"), 422, "unknown_namespace", None, None),
}  # fmt: skip


def put(rest, kind, body, query=""):
    return rest.generic("PUT", f"/api/v1/jobs{query}", body, content_type=kind)


def nothing_is_stored():
    from jobs.models import Event, Job, JobDraft, JobVersion

    return not any(model.objects.exists() for model in (Job, JobVersion, JobDraft, Event))


@pytest.mark.parametrize("query", ["", "?dry_run=1"], ids=["submitted", "tried"])
@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_told_where_it_is_and_nothing_is_stored(rest_as, case, query):
    kind, body, status, code, path, line = CASES[case]
    answer = put(rest_as("otto"), kind, body, query)
    assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
    said = answer.json()
    assert (said["code"], said["status"]) == (code, status)
    assert said["detail"]
    assert said["request_id"]
    places = [(error["path"], error.get("line")) for error in said["errors"]]
    if path is not None:
        assert (path, line) in places, places
    assert nothing_is_stored()


def test_every_problem_of_a_stage_is_told_at_once(rest_as):
    spec = {**GOOD, "colour": "red", "priority": "high", "type": 7}
    said = put(rest_as("otto"), JSON, json.dumps(spec)).json()
    assert {error["path"] for error in said["errors"]} >= {"/colour", "/priority", "/type"}


def test_the_spec_that_the_cases_change_is_good(rest_as):
    answer = put(rest_as("otto"), JSON, json.dumps(GOOD))
    assert answer.status_code == 201, answer.content


@pytest.mark.parametrize("key", ["\0", "a\ud800", "../etc", "x" * 5000, "%00"])
def test_a_bad_name_in_a_path_is_not_found(rest_as, page_as, key):
    path = quote(key, safe="%", errors="surrogatepass")
    rest = rest_as("otto")
    for tail in ("", "/history", "/rollout", "/executions"):
        assert rest.get(f"/api/v1/jobs/{path}{tail}").status_code == 404
    assert rest.get(f"/api/v1/executions/{path}").status_code == 404
    assert page_as("otto").get(f"/jobs/prod/{path}/").status_code == 404


QUERIES = [
    "history?limit=0",
    "history?limit=x",
    "history?limit=%00",
    "history?next_token=x",
    "history?order_by=secret",
    "history?nonsense=1",
    "history?since=-1",
    "history?since=%D9%A1",
    "executions?nodes=a%00b",
    "executions?limit=1001",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_bad_query_is_refused(rest_as, query):
    rest = rest_as("otto")
    put(rest, JSON, json.dumps(GOOD))
    answer = rest.get(f"/api/v1/jobs/shipper/{query}")
    assert 400 <= answer.status_code < 500, answer.content
    assert answer.json()["code"]


@pytest.mark.parametrize("query", ["labels=a%20in%20()", "name=%00", "namespace=%00"])
def test_a_bad_filter_is_refused(rest_as, query):
    answer = rest_as("otto").get(f"/api/v1/jobs?{query}")
    assert answer.status_code == 422, answer.content


@pytest.mark.parametrize("versions", ["99999999999999999999999", "x", "-1", "%D9%A1"])
def test_a_version_that_cannot_be_finds_nothing(rest_as, versions):
    answer = rest_as("otto").get(f"/api/v1/executions?versions={versions}")
    assert answer.status_code in (200, 422), answer.content
    assert answer.status_code == 422 or answer.json()["items"] == []


def test_a_page_s_query_with_a_nul_is_refused(page_as):
    assert page_as("otto").get("/jobs/?q=%00").status_code == 422
