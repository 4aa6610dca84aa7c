"""What the socket sends is what the fragment's address answers, and only when it changed."""

import asyncio
import itertools

import pytest
from django.test import Client

from access.models import Namespace
from live import consumers
from live.consumers import hub
from live.push import announce
from tests.live.browsers import browser, in_thread

pytestmark = pytest.mark.django_db(transaction=True)
QUIET = 0.6  # longer than the pause between two renders


def envelope(name, text):
    return f'<hx-partial hx-target="#space-prod-{name}" hx-swap="outerMorph">{text}</hx-partial>'


def page_texts(user):
    client = Client()
    client.force_login(user)
    return {
        name: client.get(f"/live/space/prod/{name}/").content.decode()
        for name in ("about", "rules")
    }


def change(**facts):
    Namespace.objects.filter(pk="prod").update(**facts)


def change_and_announce(**facts):
    change(**facts)
    announce("space", "prod", 2)


async def test_on_connect_every_box_is_sent_as_its_address_answers_it(cast, space):
    texts = await in_thread(page_texts)(cast.vera)
    async with browser("space/prod", cast.vera) as socket:
        sent = await socket.receive_from(timeout=5)
    assert sent == "".join(envelope(name, text) for name, text in texts.items())


async def test_an_announcement_pushes_only_what_changed(cast, space):
    async with browser("space/prod", cast.vera) as socket:
        await socket.receive_from(timeout=5)
        await in_thread(change_and_announce)(description="now <b>bold</b>")
        pushed = await socket.receive_from(timeout=5)
        texts = await in_thread(page_texts)(cast.vera)
        assert pushed == envelope("about", texts["about"])
        assert "now &lt;b&gt;bold" in pushed
        await in_thread(announce)("space", "prod", 3)
        assert await socket.receive_nothing(timeout=QUIET)


async def test_a_page_that_names_its_boxes_is_sent_no_others(cast, space, renders):
    async with browser("space/prod", cast.vera, query="?parts=rules,nonsense") as socket:
        sent = await socket.receive_from(timeout=5)
        assert "space-prod-rules" in sent
        assert "space-prod-about" not in sent
        assert set(renders) == {"prod"}
        rendered = len(renders)
        await in_thread(change_and_announce)(description="shown in the other box alone")
        assert await socket.receive_nothing(timeout=QUIET)
        assert len(renders) == rendered + 1


async def test_a_box_that_shows_the_same_is_not_sent_for_its_revision_alone(cast, space):
    from dataclasses import replace

    from live.registry import register

    about, rules = space.fragments
    revisions = itertools.count(1)

    def fresh(pk):
        row = about.query(pk)
        row.revision = next(revisions)
        return row

    register("space", replace(space, fragments=(replace(about, query=fresh), rules)))
    async with browser("space/prod", cast.vera) as socket:
        await socket.receive_from(timeout=5)
        await in_thread(announce)("space", "prod", 3)
        assert await socket.receive_nothing(timeout=QUIET)
        assert next(revisions) > 2


async def test_a_lost_announcement_is_made_good_by_the_next_safety_render(cast, space, monkeypatch):
    monkeypatch.setattr(consumers, "SAFETY", 0.5)
    monkeypatch.setattr(consumers, "CHECK", 0.1)
    async with browser("space/prod", cast.vera) as socket:
        await socket.receive_from(timeout=5)
        await in_thread(change)(description="told to nobody")
        assert "told to nobody" in await socket.receive_from(timeout=5)


async def test_many_announcements_and_sockets_share_few_renders(cast, space, renders):
    async with (
        browser("space/prod", cast.vera) as first,
        browser("space/prod", cast.otto) as second,
        browser("space/prod", cast.ada) as third,
    ):
        sockets = (first, second, third)
        for socket in sockets:
            await socket.receive_from(timeout=5)
        before = len(renders)
        for number in range(40):
            await in_thread(change_and_announce)(description=f"change {number}")
        frames = []
        for socket in sockets:
            frame = ""
            while "change 39" not in frame:
                frame = await socket.receive_from(timeout=5)
            frames.append(frame)
        assert len(set(frames)) == 1
        # Two boxes a render; forty changes one by one would be eighty, and thrice that alone.
        assert 2 <= len(renders) - before <= 24


async def test_a_slow_browser_skips_what_it_was_too_slow_for(cast, space, monkeypatch):
    gate, sent = asyncio.Event(), []
    really_send = consumers.LiveConsumer.send

    async def send_slowly(self, text_data=None, bytes_data=None, close=False):
        sent.append(text_data)
        if len(sent) == 2:
            await gate.wait()
        await really_send(self, text_data=text_data)

    monkeypatch.setattr(consumers.LiveConsumer, "send", send_slowly)
    async with browser("space/prod", cast.vera) as socket:
        await socket.receive_from(timeout=5)
        for number in range(5):
            await in_thread(change_and_announce)(description=f"change {number}")
            await asyncio.sleep(consumers.PAUSE * 1.5)
        gate.set()
        await socket.receive_from(timeout=5)
        assert "change 4" in await socket.receive_from(timeout=5)
        assert len(sent) == 3


async def test_a_browser_that_takes_nothing_is_let_go(cast, space, monkeypatch):
    monkeypatch.setattr(consumers, "STALLED", 0.1)

    async def send_never(self, text_data=None, bytes_data=None, close=False):
        await asyncio.Event().wait()

    monkeypatch.setattr(consumers.LiveConsumer, "send", send_never)
    async with browser("space/prod", cast.vera) as socket:
        event = await socket.receive_output(timeout=5)
        assert (event["type"], event["code"]) == ("websocket.close", consumers.TRY_AGAIN)


async def test_a_box_that_fails_leaves_the_others_alone(cast, space, caplog):
    from dataclasses import replace

    from live.registry import register

    def fails(pk):
        raise ZeroDivisionError

    about, rules = space.fragments
    register("space", replace(space, fragments=(replace(about, query=fails), rules)))
    async with browser("space/prod", cast.vera) as socket:
        sent = await socket.receive_from(timeout=5)
    assert "space-prod-rules" in sent
    assert "space-prod-about" not in sent
    assert "the fragment about of space prod failed" in caplog.text


async def test_the_last_browser_closes_the_room(cast, space):
    async with browser("space/prod", cast.vera) as first:
        async with browser("space/prod", cast.otto):
            await first.receive_from(timeout=5)
            assert set(hub().rooms) == {("space", "prod")}
        assert set(hub().rooms) == {("space", "prod")}
    assert not hub().rooms
    assert not hub().sockets_of


async def test_the_server_goes_on_after_a_failing_round(cast, space, monkeypatch, caplog):
    monkeypatch.setattr(consumers, "EPOCH_AGE", 0.05)
    monkeypatch.setattr(consumers, "CHECK", 0.05)
    async with browser("space/prod", cast.vera) as socket:
        await socket.receive_from(timeout=5)
        reads = []

        def fails_twice():
            reads.append(1)
            if len(reads) <= 2:
                raise OSError("the database is away")
            return 1

        monkeypatch.setattr(consumers, "access_epoch", fails_twice)
        await in_thread(change_and_announce)(description="after the failure")
        assert "after the failure" in await socket.receive_from(timeout=5)
    assert "the live pages of space prod wait" in caplog.text
