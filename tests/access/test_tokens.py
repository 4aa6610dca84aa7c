"""API tokens: made once, stored as a digest, cut down to scopes, revoked at once."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.utils import timezone

from access import queries
from access.models import ApiToken, AuditEntry
from access.problems import Refused
from access.services import issue_token, mark_token_used

pytestmark = pytest.mark.django_db
NOWHERE = "/api/schema"


def test_a_token_opens_the_api_and_is_stored_as_a_digest_only(cast, rest_as):
    token, text = issue_token(cast.otto, "ci", timedelta(days=1))
    assert text.startswith("jst_")
    assert len(text) == 4 + 64
    assert text not in repr(vars(ApiToken.objects.get(pk=token.pk)))
    assert rest_as("otto").get(NOWHERE).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer jst_",
        "Bearer jst_" + "0" * 64,
        "Bearer something else",
        "Bearer jst_\xff",
        "bearer jst_" + "0" * 64,
    ],
)
def test_a_bad_token_is_401_and_says_how_to_come_back(client, header):
    answer = client.get(NOWHERE, HTTP_AUTHORIZATION=header)
    assert (answer.status_code, answer["WWW-Authenticate"]) == (401, 'Bearer realm="jobsite"')
    assert answer.json()["code"] == "unauthenticated"


def test_no_token_at_all_is_401_too(client):
    assert client.get(NOWHERE).status_code == 401


@pytest.mark.parametrize("end", ["expired", "revoked", "suspended"])
def test_an_ended_token_is_refused_at_once(cast, client, end):
    token, text = issue_token(cast.otto, "ci", timedelta(hours=1))
    header = {"HTTP_AUTHORIZATION": f"Bearer {text}"}
    assert client.get(NOWHERE, **header).status_code == 200
    if end == "expired":
        ApiToken.objects.update(expiry=timezone.now())
    elif end == "revoked":
        token.delete()
    else:
        cast.otto.is_active = False
        cast.otto.save()
    assert client.get(NOWHERE, **header).status_code == 401


def test_scopes_cut_a_token_down_and_never_add(cast):
    cast.otto.token_scopes = frozenset({"job:read", "audit:read"})
    assert queries.permissions_in(cast.otto, "prod") == {"job:read"}
    cast.ada.token_scopes = frozenset({"job:read"})
    assert not queries.may_everywhere(cast.ada, "job:write")


def test_an_unknown_scope_is_refused(cast):
    with pytest.raises(Refused) as refused:
        issue_token(cast.otto, "ci", None, ["job:fly"])
    assert refused.value.code == "invalid_value"


def test_last_use_is_kept_to_the_minute(cast, django_assert_num_queries):
    token, _ = issue_token(cast.otto, "ci", timedelta(days=1))
    mark_token_used(token)
    token.refresh_from_db()
    with django_assert_num_queries(0):
        mark_token_used(token)
    token.last_used_at -= timedelta(seconds=61)
    with django_assert_num_queries(1):
        mark_token_used(token)


def test_a_token_may_not_ride_on_a_session_without_csrf(cast):
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    strict.force_login(cast.otto)
    assert strict.post("/tokens/", {"name": "x", "days": "7", "reach": "all"}).status_code == 403
    assert not ApiToken.objects.exists()


# --- The page ------------------------------------------------------------------------------------


def test_the_page_shows_a_new_token_once(page_as, cast):
    browser = page_as("vera")
    answer = browser.post("/tokens/", {"name": "laptop", "days": "30", "reach": "read"})
    issued = answer.context["issued"]
    assert issued.encode() in answer.content
    assert issued.encode() not in browser.get("/tokens/").content
    token = ApiToken.objects.get()
    assert (token.name, token.user) == ("laptop", cast.vera)
    assert "job:read" in token.scopes
    assert "job:write" not in token.scopes


def test_the_page_refuses_a_token_without_a_name(page_as):
    assert page_as("vera").post("/tokens/", {"days": "30", "reach": "all"}).status_code == 422


def test_only_ones_own_tokens_are_listed_and_revoked(page_as, cast):
    token, _ = issue_token(cast.otto, "of otto", timedelta(days=1))
    address = f"/tokens/{token.digest[:32]}/revoke/"
    assert b"of otto" not in page_as("vera").get("/tokens/").content
    assert page_as("vera").post(address).status_code == 404
    assert page_as("otto").post(f"/tokens/{token.digest[:8]}/revoke/").status_code == 404
    assert ApiToken.objects.exists()
    assert page_as("otto").post(address).status_code == 302
    assert not ApiToken.objects.exists()
    assert AuditEntry.objects.filter(action="token.revoke", actor="otto").count() == 1


# --- The commands --------------------------------------------------------------------------------


def test_the_command_prints_the_token_alone(cast, capsys):
    call_command("create_token", user="otto", name="cli", scopes="job:read, node:read")
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    token = queries.find_api_token(text.strip(), timezone.now())
    assert (token.user, token.scopes) == (cast.otto, ["job:read", "node:read"])


@pytest.mark.parametrize(
    "wrong", [{"user": "nobody"}, {"scopes": "job:fly"}, {"ttl_days": 0}, {"ttl_days": 9999}]
)
def test_the_command_says_what_is_wrong(cast, wrong):
    with pytest.raises(CommandError):
        call_command("create_token", **{"user": "otto", "name": "cli", **wrong})


def test_bootstrap_makes_a_way_in_each_time_it_runs(client, capsys):
    import json

    call_command("bootstrap", "--json")
    first = json.loads(capsys.readouterr().out)
    call_command("bootstrap", "--json")
    second = json.loads(capsys.readouterr().out)
    assert first["user"] == "admin"
    assert first["enrol_token"] != second["enrol_token"]
    for facts in (first, second):
        assert client.post(facts["sign_in_url_path"]).status_code == 302
        client.post("/sign-out/")
    assert queries.ApiToken.objects.count() == 0
