"""The choice of a namespace follows a person from page to page, and counts are read when shown."""

import pytest
from django.test import RequestFactory

from access import context

pytestmark = pytest.mark.django_db


def request_of(user, query="", session=None):
    request = RequestFactory().get(f"/?{query}")
    request.user, request.session = user, {} if session is None else session
    return request


@pytest.mark.parametrize(
    ("name", "query", "kept", "chosen"),
    [
        ("ada", "", "", ""),
        ("ada", "namespace=lab", "", "lab"),
        ("ada", "", "lab", "lab"),
        ("ada", "namespace=", "lab", ""),
        ("ada", "namespace=nowhere", "lab", "lab"),
        ("otto", "namespace=lab", "", ""),
        ("otto", "", "lab", ""),
    ],
)
def test_only_a_readable_namespace_can_be_chosen(cast, name, query, kept, chosen):
    request = request_of(cast.named(name), query, {"namespace": kept} if kept else {})
    assert context.current_namespace(request) == chosen


def test_the_choice_is_posted_too_and_comes_back_to_the_page(page_as):
    browser = page_as("otto")
    answer = browser.post("/namespace/", {"namespace": "prod", "next": "/tokens/"})
    assert answer["Location"] == "/tokens/"
    assert browser.session["namespace"] == "prod"
    assert browser.post("/namespace/", {"namespace": "lab"}).status_code == 404


def test_a_page_narrows_to_the_choice_or_shows_all_that_is_readable(cast):
    assert context.shown_namespaces(request_of(cast.ada)) == ("lab", "prod")
    assert context.shown_namespaces(request_of(cast.ada, "namespace=lab")) == ("lab",)
    assert context.shown_namespaces(request_of(cast.nils)) == ()


def test_counts_are_read_once_and_only_when_asked_for(cast, monkeypatch):
    asked = []
    monkeypatch.setattr(context, "_counts", {})
    context.register_count("job_count", lambda user, names: asked.append(names) or 7)
    nav = context.navigation(request_of(cast.otto))["nav"]
    assert not asked
    assert (nav["job_count"], nav["job_count"]) == (7, 7)
    assert asked == [("prod",)]
    with pytest.raises(KeyError):
        nav["node_count"]


def test_strangers_get_no_navigation(rf):
    from django.contrib.auth.models import AnonymousUser

    assert context.navigation(request_of(AnonymousUser())) == {}
    assert context.navigation(rf.get("/")) == {}
