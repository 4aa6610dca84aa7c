"""Live pages are for those who may read the row, for as long as they may."""

import pytest
from django.contrib.sessions.models import Session
from django.test import Client

from access.models import CustomRole, RoleBinding
from access.queries import access_epoch
from access.services import revoke_role
from live import consumers
from live.push import announce
from tests.live.browsers import OWN_SITE, browser, closing_code, in_thread

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        (None, "space/prod"),
        ("nils", "space/prod"),
        ("vera", "space/lab"),
        ("ada", "space/nowhere"),
        ("ada", "nothing/prod"),
    ],
)
async def test_who_may_not_read_the_row_is_sent_away(cast, space, name, address):
    async with browser(address, name and cast.named(name)) as socket:
        assert await closing_code(socket) == consumers.FORBIDDEN


@pytest.mark.parametrize(
    "origin", [b"http://evil.example", b"null", b"http://localhost.evil.example"]
)
async def test_another_site_cannot_open_a_socket_with_ones_cookie(cast, space, origin):
    with pytest.raises(AssertionError):
        async with browser("space/prod", cast.vera, origin):
            pass
    async with browser("space/prod", cast.vera, OWN_SITE) as socket:
        assert await socket.receive_from(timeout=5)


def lose_role(cast):
    revoke_role(cast.vera, "read", "prod")


def lose_role_in_sets(cast):
    RoleBinding.objects.filter(user=cast.vera).delete()


def lose_meaning_of_role(cast):
    CustomRole.objects.create(name="read", permissions=[])


def sign_out(cast):
    Session.objects.all().delete()


def be_suspended(cast):
    cast.vera.is_active = False
    cast.vera.save()


def change_password(cast):
    cast.vera.set_password("another one")
    cast.vera.save()


def be_deleted(cast):
    cast.vera.delete()


@pytest.mark.parametrize(
    "loss",
    [
        lose_role,
        lose_role_in_sets,
        lose_meaning_of_role,
        sign_out,
        be_suspended,
        change_password,
        be_deleted,
    ],
)
async def test_losing_the_right_closes_the_page_within_five_seconds(cast, space, loss):
    async with browser("space/prod", cast.vera) as socket:
        await socket.receive_from(timeout=5)
        await in_thread(loss)(cast)
        assert await closing_code(socket, deadline=5) == consumers.FORBIDDEN


async def test_nothing_is_pushed_to_those_who_lost_the_right_before(cast, space, monkeypatch):
    monkeypatch.setattr(consumers, "EPOCH_AGE", 0)
    async with (
        browser("space/prod", cast.vera) as loser,
        browser("space/prod", cast.otto) as keeper,
    ):
        for socket in (loser, keeper):
            await socket.receive_from(timeout=5)
        await in_thread(lose_role)(cast)
        await in_thread(rename_and_announce)()
        event = await loser.receive_output(timeout=5)
        assert (event["type"], event["code"]) == ("websocket.close", consumers.FORBIDDEN)
        assert "secret" in await keeper.receive_from(timeout=5)


def rename_and_announce():
    from access.models import Namespace

    Namespace.objects.filter(pk="prod").update(description="secret")
    announce("space", "prod", 2)


def test_the_epoch_rises_only_when_rights_may_have_shrunk(cast):
    before = access_epoch()
    browser = Client()
    browser.post("/sign-in/", {"username": "vera", "password": "correct horse"})
    assert browser.session["_auth_user_id"] == str(cast.vera.pk)
    cast.vera.first_name = "Vera"
    cast.vera.save()
    assert access_epoch() == before
    lose_role(cast)
    assert access_epoch() > before


async def test_a_long_message_ends_the_socket_and_a_short_one_is_ignored(cast, space):
    async with browser("space/prod", cast.vera) as socket:
        await socket.receive_from(timeout=5)
        await socket.send_to(text_data="x" * 4096)
        assert await socket.receive_nothing(timeout=0.3)
        await socket.send_to(text_data="x" * 4097)
        assert await closing_code(socket) == consumers.TOO_LARGE


async def test_one_person_cannot_hold_any_number_of_sockets(cast, space, monkeypatch):
    monkeypatch.setattr(consumers, "MAX_SOCKETS_OF_USER", 2)
    async with browser("space/prod", cast.vera), browser("space/prod", cast.vera):
        async with browser("space/prod", cast.vera) as third:
            assert await closing_code(third) == consumers.TRY_AGAIN
        async with browser("space/prod", cast.otto) as other:
            assert await other.receive_from(timeout=5)
    async with browser("space/prod", cast.vera) as again:
        assert await again.receive_from(timeout=5)


# --- The fragment's address ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "address", "status"),
    [
        ("vera", "space/prod/about", 200),
        ("vera", "space/prod/nothing", 404),
        ("vera", "space/lab/about", 404),
        ("nils", "space/prod/about", 404),
        ("ada", "nothing/prod/about", 404),
        (None, "space/prod/about", 302),
    ],
)
def test_a_fragment_is_there_for_those_who_may_read_the_row(page_as, space, name, address, status):
    assert page_as(name).get(f"/live/{address}/").status_code == status


def test_a_fragment_that_is_unchanged_is_not_sent_again(page_as, space):
    browser = page_as("vera")
    first = browser.get("/live/space/prod/about/")
    assert "no-cache" in first["Cache-Control"]
    assert "private" in first["Cache-Control"]
    again = browser.get("/live/space/prod/about/", HTTP_IF_NONE_MATCH=first["ETag"])
    assert (again.status_code, again.content) == (304, b"")
