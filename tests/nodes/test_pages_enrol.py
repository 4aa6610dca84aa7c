"""The page on which enrolment tokens are made, shown once, and ended."""

import re

import pytest

from access.models import AuditEntry
from agent.config import arguments, load
from nodes.models import EnrolmentToken
from nodes.services import issue_enrolment_token

pytestmark = pytest.mark.django_db
FORM = {"namespace": "prod", "lifetime": "86400", "uses": "3", "labels": "region=fra"}


def test_a_token_is_made_and_shown_once_with_its_command(page_as):
    browser = page_as("ada")
    text = browser.post("/nodes/enrol/", FORM).content.decode()
    found = re.search(
        r"<code>(python3 agent\.pyz run --server http\S+ .*--token (jse_\S+))</code>", text
    )
    assert found
    assert load(arguments().parse_args(found[1].split()[2:])).token == found[2]
    token = EnrolmentToken.objects.get()
    assert (token.labels, token.max_uses, token.auto_accept) == ({"region": "fra"}, 3, False)
    assert token.created_by == "ada"
    assert found[2] not in browser.get("/nodes/enrol/").content.decode()
    assert AuditEntry.objects.get(action="enrolment_token.issue").actor == "ada"


def test_what_is_wrong_stays_in_the_form(page_as):
    browser = page_as("ada")
    for wrong in ({"uses": "0"}, {"namespace": "nowhere"}, {"labels": "not a key=1"}):
        assert browser.post("/nodes/enrol/", FORM | wrong).status_code == 422
    assert not EnrolmentToken.objects.exists()


def test_those_who_may_not_change_nodes_see_tokens_and_make_none(page_as):
    issue_enrolment_token("prod", labels={"zone": "x"})
    token = EnrolmentToken.objects.get()
    for name in ("otto", "vera"):
        browser = page_as(name)
        text = browser.get("/nodes/enrol/").content.decode()
        assert "0 of 1" in text
        assert "Needs the permission agent:write." in text
        assert browser.post("/nodes/enrol/", FORM).status_code == 403
        assert browser.post(f"/nodes/enrol/{token.pk}/revoke/").status_code == 403
    assert page_as("nils").post(f"/nodes/enrol/{token.pk}/revoke/").status_code == 404
    assert "0 of 1" not in page_as("nils").get("/nodes/enrol/").content.decode()
    assert page_as().get("/nodes/enrol/").status_code == 302


def test_a_revoked_token_is_gone(page_as):
    issue_enrolment_token("prod")
    token = EnrolmentToken.objects.get()
    browser = page_as("ada")
    assert browser.post(f"/nodes/enrol/{token.pk}/revoke/").status_code == 303
    assert not EnrolmentToken.objects.exists()
    assert AuditEntry.objects.get(action="enrolment_token.revoke").namespace == "prod"
    assert "No token works now" in browser.get("/nodes/enrol/").content.decode()
