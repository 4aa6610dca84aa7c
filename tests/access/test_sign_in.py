"""Signing in by password or by a link that works once, and being held off after wrong tries."""

import threading
from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.urls import reverse
from django.utils import timezone

from access.models import AuditEntry, SignInLink
from access.services import make_sign_in_link, redeem_sign_in_link
from tests.factories import UserFactory, hashed

pytestmark = pytest.mark.django_db
SIGN_IN = "/sign-in/"


FAST = "django.contrib.auth.hashers.MD5PasswordHasher"


@pytest.fixture(autouse=True)
def _no_tries(stack, settings):
    """Count no tries of other tests, and none for them; hash fast for names that nobody has."""
    settings.PASSWORD_HASHERS = [FAST, *settings.PASSWORD_HASHERS]
    for forget in (cache.clear, hashed.cache_clear):
        forget()
    yield
    # The next test knows neither the tries nor the fast hasher.
    for forget in (cache.clear, hashed.cache_clear):
        forget()


def try_as(client, name, password, **more):
    return client.post(SIGN_IN, {"username": name, "password": password}, **more)


def test_the_right_password_opens_a_session_and_goes_on(client, cast):
    answer = client.post(
        SIGN_IN, {"username": "otto", "password": "correct horse", "next": "/tokens/"}
    )
    assert (answer.status_code, answer["Location"]) == (302, "/tokens/")
    assert client.get("/tokens/").status_code == 200


@pytest.mark.parametrize("goal", ["https://evil.example/", "//evil.example", "javascript:alert(1)"])
def test_nobody_is_sent_to_another_site(client, cast, goal):
    answer = client.post(SIGN_IN, {"username": "otto", "password": "correct horse", "next": goal})
    assert answer["Location"] == reverse("dashboard")


def test_unknown_suspended_and_wrong_look_the_same(client, cast):
    cast.nils.is_active = False
    cast.nils.save()
    tries = [("nobody", "x"), ("otto", "x"), ("nils", "correct horse")]
    answers = [try_as(client, *pair) for pair in tries]
    assert {answer.status_code for answer in answers} == {422}
    shown = {answer.context["form"].non_field_errors().as_text() for answer in answers}
    assert len(shown) == 1


def test_the_sixth_wrong_try_is_not_even_looked_at(client, cast):
    for _ in range(5):
        assert try_as(client, "otto", "wrong").status_code == 422
    held = try_as(client, "Otto", "correct horse")
    assert (held.status_code, held["Retry-After"]) == (429, "300")
    assert b"Too many tries" in held.content
    assert try_as(client, "vera", "correct horse").status_code == 302


def test_other_addresses_are_not_held(client, cast):
    for _ in range(6):
        try_as(client, "otto", "wrong", REMOTE_ADDR="203.0.113.1")
    answer = try_as(client, "otto", "correct horse", REMOTE_ADDR="203.0.113.2")
    assert answer.status_code == 302


def test_the_right_password_forgets_wrong_tries(client, cast):
    for _ in range(2):
        for _ in range(4):
            try_as(client, "otto", "wrong")
        assert try_as(client, "otto", "correct horse").status_code == 302
        client.post("/sign-out/")


def test_one_address_cannot_try_all_accounts(client, cast):
    for number in range(50):
        try_as(client, f"user-{number}", "wrong")
    assert try_as(client, "otto", "correct horse").status_code == 429


def test_tries_are_audited_without_the_password(client, cast):
    try_as(client, "otto", "hunter2")
    entry = AuditEntry.objects.get(action="session.open")
    assert (entry.actor, entry.outcome, entry.source_ip) == ("otto", "denied", "127.0.0.1")
    assert "hunter2" not in repr(vars(entry))


def test_signing_out_needs_a_post(page_as):
    browser = page_as("otto")
    assert browser.get("/sign-out/").status_code == 405
    browser.post("/sign-out/")
    assert browser.get("/tokens/")["Location"] == "/sign-in/?next=/tokens/"


def test_the_admin_pages_use_the_one_sign_in(page_as):
    assert (
        page_as().get("/admin/", follow=True).redirect_chain[-1][0] == "/sign-in/?next=%2Fadmin%2F"
    )
    assert page_as("otto").get("/admin/", follow=True).status_code == 403
    assert page_as("ada").get("/admin/").status_code == 200


# --- Links that work once ------------------------------------------------------------------------


def test_looking_at_a_link_does_not_use_it_up(client, cast):
    path = reverse("access:once", args=[make_sign_in_link(cast.ada)])
    for _ in range(2):
        assert b"Sign in as ada" in client.get(path).content
    assert client.post(path)["Location"] == reverse("dashboard")
    assert client.session["_auth_user_id"] == str(cast.ada.pk)


def test_a_link_works_once(client, cast):
    path = reverse("access:once", args=[make_sign_in_link(cast.ada)])
    client.post(path)
    client.post("/sign-out/")
    assert client.post(path).status_code == 404
    assert client.get(path).status_code == 404
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize("spoil", ["expired", "suspended", "unknown"])
def test_a_spoilt_link_signs_nobody_in(client, cast, spoil):
    link = make_sign_in_link(cast.ada, timedelta(0) if spoil == "expired" else timedelta(hours=1))
    if spoil == "suspended":
        cast.ada.is_active = False
        cast.ada.save()
    path = reverse("access:once", args=["x" * 43 if spoil == "unknown" else link])
    assert client.get(path).status_code == 404
    assert client.post(path).status_code == 404


def test_only_the_digest_of_a_link_is_stored(cast):
    link = make_sign_in_link(cast.ada)
    row = SignInLink.objects.get()
    assert link not in repr(vars(row))
    assert timedelta(hours=23) < row.expires_at - timezone.now() <= timedelta(hours=24)


@pytest.mark.django_db(transaction=True)
def test_of_many_clicks_at_once_one_wins():
    link = make_sign_in_link(UserFactory())
    start, winners = threading.Barrier(6), []

    def click():
        try:
            start.wait(60)
            winners.append(redeem_sign_in_link(link))
        finally:
            connection.close()

    threads = [threading.Thread(target=click) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(winners) == 6
    assert sum(winner is not None for winner in winners) == 1


def test_the_request_log_never_holds_the_secret(client, cast, caplog):
    import logging

    link = make_sign_in_link(cast.ada)
    logger = logging.getLogger("jobsite.request")
    logger.addHandler(caplog.handler)
    try:
        client.get(reverse("access:once", args=[link]))
    finally:
        logger.removeHandler(caplog.handler)
    paths = [record.data["path"] for record in caplog.records if record.name == "jobsite.request"]
    assert paths == ["/sign-in/once/…/"]
