"""REST reads bodies strictly, and says no in problem details whatever went wrong."""

import pytest
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404
from django.test import Client, override_settings
from django.urls import path
from rest_framework import serializers
from rest_framework.exceptions import Throttled
from rest_framework.response import Response
from rest_framework.views import APIView

from access.models import AuditEntry
from access.problems import Refused
from jobs.problems import CODES, Problem, SpecRefused
from jobsite import urls
from jobsite.urls import handler400, handler403, handler404, handler500  # noqa: F401 - read by Django

pytestmark = pytest.mark.django_db
RAISED = {}


class Echo(APIView):
    """Gives back what it was given, or raises what a test wants."""

    def get(self, request, what=""):
        if what:
            raise RAISED[what]
        return Response({"fine": True})

    def post(self, request):
        return Response({"data": request.data, "position": request.document.position("/b")})


@login_not_required
def plain_failure(request):
    raise RuntimeError("a plain view broke")


def plain_refusal(request):
    raise Refused("rollout_paused", "It is paused.", hint="Resume it.")


urlpatterns = [
    path("api/v1/echo/", Echo.as_view()),
    path("api/v1/raise/<str:what>/", Echo.as_view()),
    path("api/v1/broken/", plain_failure),
    path("page/broken/", plain_failure),
    path("page/refused/", plain_refusal),
    *urls.urlpatterns,
]


@pytest.fixture
def rest(rest_as):
    with override_settings(ROOT_URLCONF=__name__):
        client = rest_as("otto")
        client.raise_request_exception = False
        yield client


def is_problem(answer, status, code):
    """Check every member that each refusal has (docs/semantics.md 4.12), and return the body."""
    assert answer["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert (body["type"], body["title"]) == (f"urn:jobsite:problem:{code}", CODES[code][1])
    assert body["detail"]
    assert body["instance"].startswith("/")
    assert body["request_id"] == answer["X-Request-ID"]
    assert isinstance(body["errors"], list)
    return body


# --- Bodies --------------------------------------------------------------------------------------

JSON, YAML = "application/json", "application/yaml"


@pytest.mark.parametrize(
    ("kind", "text", "data"),
    [
        (
            JSON,
            b'{"a": 1, "b": [true, null, 0.5, "\xc3\xa4"]}',
            {"a": 1, "b": [True, None, 0.5, "ä"]},
        ),
        (YAML, b"a: 1\nb: yes\n", {"a": 1, "b": "yes"}),
        ("application/x-yaml", b"b: [1, 2]", {"b": [1, 2]}),
    ],
)
def test_good_bodies_are_read_with_the_place_of_each_member(rest, kind, text, data):
    answer = rest.generic("POST", "/api/v1/echo/", text, content_type=kind)
    assert answer.status_code == 200
    assert answer.json()["data"] == data
    assert len(answer.json()["position"]) == 2


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"{", 1),
        (b"[1]", 1),
        (b'"text"', 1),
        (b'{"a": 1}{"b": 2}', 1),
        (b'{\n"a": "\xff"}', 2),
        (b'{"a": 1,\n"a": 2}', 1),
        (b'{"a": ' + b"[" * 1000 + b"]" * 1000 + b"}", 1),
        (b'{"a": ' * 200 + b"1" + b"}" * 200, 1),
        (b'{"a":\n1e400}', 1),
        (b'{"a": NaN}', 1),
        (b'{"a": -Infinity}', 1),
        (b'{"a": ' + b"9" * 5000 + b"}", 1),
        (b'{"a": 9223372036854775808}', 1),
        (b'{"a": "\\u0000"}', 1),
        (b'{"\\u0000": 1}', 1),
        (b'{"a": "\x00"}', 1),
        (b'{"a": "\\ud800"}', 1),
        (b'{"a": 1,}', 1),
        (b"{'a': 1}", 1),
        (b"{/* no */}", 1),
    ],
)
def test_bad_json_is_400_with_its_place(rest, text, line):
    answer = rest.generic("POST", "/api/v1/echo/", text, content_type=JSON)
    body = is_problem(answer, 400, "malformed_body")
    (error,) = body["errors"]
    assert error["line"] >= line
    assert error["column"] >= 1
    assert error["message"]


@pytest.mark.parametrize(
    "text",
    [
        b"a: 1\na: 2",
        b"a: !!python/object:os.system x",
        b"a: &a [*a]",
        b"a: .inf",
        b"1: 2",
        b"a: 1\n---\nb: 2",
        b"a: [",
        b"a:\n  " + b"[" * 200 + b"]" * 200,
        b'a: "\\0"',
    ],
)
def test_bad_yaml_is_400_with_its_place(rest, text):
    answer = rest.generic("POST", "/api/v1/echo/", text, content_type=YAML)
    body = is_problem(answer, 400, "malformed_body")
    assert body["errors"][0]["line"] >= 1


def test_a_body_above_two_mebibytes_is_413(rest):
    text = b'{"a": "' + b"x" * (2 * 1024 * 1024) + b'"}'
    answer = rest.generic("POST", "/api/v1/echo/", text, content_type=JSON)
    is_problem(answer, 413, "body_too_large")


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/xml", "multipart/form-data; boundary=x"]
)
def test_other_kinds_of_body_are_415(rest, kind):
    answer = rest.generic("POST", "/api/v1/echo/", b"{}", content_type=kind)
    is_problem(answer, 415, "unsupported_media_type")


# --- Refusals ------------------------------------------------------------------------------------


class Form(serializers.Serializer):
    name = serializers.CharField()
    sizes = serializers.ListField(child=serializers.IntegerField())


def form_error():
    form = Form(data={"sizes": [1, "x"]})
    try:
        form.is_valid(raise_exception=True)
    except serializers.ValidationError as error:
        return error


def spec_refused():
    problem = Problem(path="/a", code="unknown_field", message="no", hint="drop it", line=3)
    return SpecRefused("structure", [problem])


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Refused("not_in_canary", "Wave 3 is open.", hint="Resume it."), 409, "not_in_canary"),
        (spec_refused(), 422, "unknown_field"),
        (form_error(), 422, "invalid_value"),
        (Http404("secret reason"), 404, "not_found"),
        (PermissionDenied("no"), 403, "forbidden"),
        (RequestDataTooBig("no"), 413, "body_too_large"),
        (Throttled(wait=7.2), 429, "throttled"),
        (RuntimeError("password=hunter2"), 500, "internal"),
        (Refused("no_such_code", "a typo"), 500, "internal"),
    ],
)
def test_whatever_a_view_raises_becomes_a_problem(rest, error, status, code):
    RAISED["it"] = error
    answer = rest.get("/api/v1/raise/it/")
    is_problem(answer, status, code)
    assert b"hunter2" not in answer.content
    assert b"secret reason" not in answer.content


def test_hints_errors_and_waits_are_told(rest):
    RAISED.update(spec=spec_refused(), form=form_error(), slow=Throttled(wait=7.2))
    spec = rest.get("/api/v1/raise/spec/").json()
    assert spec["hint"] == "drop it"
    assert spec["errors"] == [
        {"path": "/a", "code": "unknown_field", "message": "no", "hint": "drop it", "line": 3}
    ]
    paths = {error["path"] for error in rest.get("/api/v1/raise/form/").json()["errors"]}
    assert paths == {"/name", "/sizes/1"}
    assert rest.get("/api/v1/raise/slow/")["Retry-After"] == "8"


def test_paths_that_lead_nowhere_are_problems_for_machines_and_pages_for_people(rest, page_as):
    for address in ("/api/v1/nowhere", "/api/", "/agent/v1/nowhere"):
        is_problem(rest.get(address), 404, "not_found")
    answer = page_as("otto").get("/nowhere")
    assert answer.status_code == 404
    assert answer["Content-Type"].startswith("text/html")


def test_a_wrong_method_is_405_and_names_the_right_ones(rest):
    answer = rest.delete("/api/v1/echo/")
    is_problem(answer, 405, "method_not_allowed")
    assert "GET" in answer["Allow"]


def test_a_failure_outside_the_framework_is_a_problem_or_a_page(rest):
    is_problem(rest.get("/api/v1/broken/"), 500, "internal")
    answer = Client(raise_request_exception=False).get("/page/broken/")
    assert answer["Content-Type"].startswith("text/html")


def test_a_page_shows_a_refusal_that_its_view_let_through(page_as):
    with override_settings(ROOT_URLCONF=__name__):
        answer = page_as("otto").get("/page/refused/")
    assert answer.status_code == 409
    assert b"It is paused." in answer.content


def test_an_answer_is_json_even_if_html_was_asked_for(rest):
    assert rest.get("/api/v1/echo/", HTTP_ACCEPT="text/html").json() == {"fine": True}


def test_a_missing_permission_is_audited_with_who_asked(rest):
    RAISED["it"] = Refused("forbidden", "The permission job:write is missing.")
    rest.get("/api/v1/raise/it/")
    entry = AuditEntry.objects.get(outcome="denied")
    assert (entry.actor, entry.token_name) == ("otto", "test")
    assert entry.action == "GET /api/v1/raise/<str:what>/"


def test_a_session_needs_its_csrf_token(cast):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(cast.otto)
    with override_settings(ROOT_URLCONF=__name__):
        answer = strict.post("/api/v1/echo/", b"{}", content_type=JSON)
    is_problem(answer, 403, "forbidden")
