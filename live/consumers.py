"""The one websocket of every live page: check, join, send all fragments, then what changed."""

import asyncio
import contextlib
import logging
import re
import time
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from django.contrib.auth import HASH_SESSION_KEY
from django.utils import timezone

from access.queries import access_epoch, user_of_session
from live.push import UNHEARD, group_name
from live.registry import Noun, noun_named

logger = logging.getLogger(__name__)

# Seconds. At most one render of a group in PAUSE; without any bell one in SAFETY.
PAUSE = 0.25
SAFETY = 10.0
# How often an open page's right to look is asked for, if anyone's rights changed at all.
CHECK = 2.0
EPOCH_AGE = 1.0
# A browser that takes nothing for so long is let go; it comes back by itself.
STALLED = 30.0
MAX_MESSAGE = 4096
MAX_SOCKETS_OF_USER = 40
# Renders take threads and connections that requests need as well.
MAX_RENDERS_AT_ONCE = 2

FORBIDDEN = 4403
TOO_LARGE = 1009
TRY_AGAIN = 1013


@dataclass(frozen=True, slots=True)
class Viewer:
    """Whose browser it is: enough to ask again later whether it may still look."""

    session_key: str
    user_id: int
    proof: str

    def may_look(self, noun: Noun, pk: str) -> bool:
        """Ask the database as it is now, not as it was when the socket was opened."""
        user = user_of_session(self.session_key, self.user_id, self.proof, timezone.now())
        return user is not None and noun.is_readable(user, pk)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A fragment as it is sent, and what it shows: one that shows the same is not sent again."""

    text: str
    shown: str


_REVISION = re.compile(r' data-revision="\d+"')


def render_parts(noun: Noun, pk: str, names: Collection[str]) -> dict[str, Envelope]:
    """Return fragments in their envelopes; one that fails is left out, and the log says why."""
    row, found = noun.load(pk), {}
    for fragment in noun.fragments:
        if fragment.name not in names:
            continue
        try:
            text = fragment.render(row)
        except Exception:
            logger.exception("the fragment %s of %s %s failed", fragment.name, noun.name, pk)
            continue
        target = f"#{noun.name}-{pk}-{fragment.name}"
        text = f'<hx-partial hx-target="{target}" hx-swap="outerMorph">{text}</hx-partial>'
        found[fragment.name] = Envelope(text, _REVISION.sub("", text, count=1))
    return found


class Hub:
    """All live pages of one process: its rooms, and what they share."""

    def __init__(self) -> None:
        self.rooms: dict[tuple[str, str], Room] = {}
        self.sockets_of: Counter[int] = Counter()
        # A group left and joined at once would end up unsubscribed in the channel layer.
        self.subscribing = asyncio.Lock()
        self.rendering = asyncio.Semaphore(MAX_RENDERS_AT_ONCE)
        self._epoch = 0
        self._epoch_at = float("-inf")
        self._reading_epoch = asyncio.Lock()

    def room(self, noun: Noun, pk: str) -> "Room":
        """Return the room of one row's pages, opened if need be."""
        key = (noun.name, pk)
        if key not in self.rooms:
            self.rooms[key] = Room(self, noun, pk)
        return self.rooms[key]

    async def epoch(self) -> int:
        """Return the number of the newest change of rights, at most a second old."""
        async with self._reading_epoch:
            if time.monotonic() - self._epoch_at >= EPOCH_AGE:
                asked_at = time.monotonic()
                self._epoch = await database_sync_to_async(access_epoch, thread_sensitive=False)()
                self._epoch_at = asked_at
            return self._epoch


_hubs: "WeakKeyDictionary[asyncio.AbstractEventLoop, Hub]" = WeakKeyDictionary()


def hub() -> Hub:
    """Return this process's hub: one for each event loop, and a server has one loop."""
    loop = asyncio.get_running_loop()
    if loop not in _hubs:
        _hubs[loop] = Hub()
    return _hubs[loop]


class Room:
    """Everyone in this process who looks at one row: rendered once, sent to all."""

    def __init__(self, owner: Hub, noun: Noun, pk: str) -> None:
        self.hub = owner
        self.noun = noun
        self.pk = pk
        self.sockets: set[LiveConsumer] = set()
        self._texts: dict[str, Envelope] = {}
        self._frames: dict[tuple[str, ...], str] = {}
        self._rung = asyncio.Event()
        self._rendered_at = float("-inf")
        self._running: asyncio.Task[None] | None = None

    def join(self, socket: "LiveConsumer") -> None:
        """Let a socket in; it gets the next render, which it also asks for."""
        self.sockets.add(socket)
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        else:
            self._rung.set()

    def leave(self, socket: "LiveConsumer") -> None:
        """Let a socket go; the last one closes the room."""
        self.sockets.discard(socket)
        if not self.sockets and self.hub.rooms.get((self.noun.name, self.pk)) is self:
            del self.hub.rooms[self.noun.name, self.pk]
            self._rung.set()

    def news_since(
        self, seen: dict[str, str], parts: Collection[str]
    ) -> tuple[str, dict[str, str]]:
        """Return the envelopes that differ from what a socket has, and what it has with them."""
        news = {
            name: envelope.shown
            for name, envelope in self._texts.items()
            if name in parts and seen.get(name) != envelope.shown
        }
        names = tuple(news)
        if names not in self._frames:
            self._frames[names] = "".join(self._texts[name].text for name in names)
        return self._frames[names], seen | news

    async def _run(self) -> None:
        listening = asyncio.create_task(self._listen())
        while self.sockets:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK):
                    await self._rung.wait()
            try:
                await self._look_again()
            except Exception:
                # Nothing is sent that could not be checked; the next round tries again.
                logger.exception("the live pages of %s %s wait", self.noun.name, self.pk)
                await asyncio.sleep(EPOCH_AGE)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    async def _look_again(self) -> None:
        await self._check()
        is_stale = time.monotonic() - self._rendered_at >= SAFETY
        if not self.sockets or not (self._rung.is_set() or is_stale):
            return
        self._rung.clear()
        await self._render()
        await asyncio.sleep(PAUSE)

    async def _check(self) -> None:
        """Close the sockets whose viewers may no longer look (docs/security.md, WebSocket)."""
        epoch = await self.hub.epoch()
        for socket in tuple(self.sockets):
            if socket.epoch != epoch:
                await socket.check(epoch)

    async def _render(self) -> None:
        render = database_sync_to_async(render_parts, thread_sensitive=False)
        wanted = frozenset[str]().union(*(socket.parts for socket in self.sockets))
        async with self.hub.rendering:
            self._texts = await render(self.noun, self.pk, wanted)
        self._frames.clear()
        self._rendered_at = time.monotonic()
        for socket in self.sockets:
            socket.wake.set()

    async def _listen(self) -> None:
        """Turn announcements into rings; while the doorbell is broken the safety render goes on."""
        layer = get_channel_layer()
        assert layer is not None
        group = group_name(self.noun.name, self.pk)
        channel = ""
        try:
            while True:
                try:
                    async with self.hub.subscribing:
                        channel = channel or await layer.new_channel()
                        await layer.group_add(group, channel)
                    # Only what changes from here on will ring: what came before is read now.
                    self._rung.set()
                    while True:
                        await layer.receive(channel)
                        self._rung.set()
                except UNHEARD:
                    self._rung.set()
                    await asyncio.sleep(EPOCH_AGE)
        finally:
            with contextlib.suppress(*UNHEARD):
                async with self.hub.subscribing:
                    await layer.group_discard(group, channel)


def parts_of(noun: Noun, query: bytes) -> frozenset[str]:
    """Return which boxes a page asks for by `?parts=head,waves`: without it, all of them."""
    every = frozenset(fragment.name for fragment in noun.fragments)
    asked = parse_qs(query.decode("latin-1")).get("parts")
    return every & frozenset(asked[0].split(",")) if asked else every


class LiveConsumer(AsyncWebsocketConsumer):
    """One open live page. It holds what its browser has, never a queue of what it missed."""

    # The room listens for all of its sockets, so that a socket needs no channel of its own.
    channel_layer_alias = None  # type: ignore[assignment]

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Channels' own signature
        super().__init__(*args, **kwargs)
        self.wake = asyncio.Event()
        self.epoch = -1
        # The boxes that its page shows: a page of tabs has not all of them.
        self.parts: frozenset[str] = frozenset()
        self.room: Room | None = None
        self.viewer: Viewer | None = None
        self._is_refused = False
        self._sending: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Let signed-in people in who may read the row; everyone else is sent away alike.

        Accepted first in any case: a browser sees no code of a socket that never opened, and
        would come back for ever.
        """
        await self.accept()
        address, user = self.scope["url_route"]["kwargs"], self.scope["user"]
        noun, everyone = noun_named(address["noun"]), hub()
        if noun is None or user is None or not user.is_authenticated:
            await self.close(FORBIDDEN)
            return
        if everyone.sockets_of[user.pk] >= MAX_SOCKETS_OF_USER:
            await self.close(TRY_AGAIN)
            return
        session = self.scope["session"]
        viewer = Viewer(session.session_key or "", user.pk, session.get(HASH_SESSION_KEY, ""))
        # Read before the check: a change in between is then noticed by the next one.
        self.epoch = await everyone.epoch()
        if not await self._may_look(viewer, noun, address["pk"]):
            await self.close(FORBIDDEN)
            return
        self.viewer, self.parts = viewer, parts_of(noun, self.scope["query_string"])
        everyone.sockets_of[user.pk] += 1
        self.room = everyone.room(noun, address["pk"])
        self.room.join(self)
        self._sending = asyncio.create_task(self._send_news(self.room))

    async def check(self, epoch: int) -> None:
        """Ask again whether the viewer may look; if not, the socket is closed, not fed."""
        assert self.room is not None
        assert self.viewer is not None
        if await self._may_look(self.viewer, self.room.noun, self.room.pk):
            self.epoch = epoch
            return
        self._is_refused = True
        self.room.leave(self)
        self.wake.set()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Ignore what browsers say, as pages only listen; a long message ends the socket."""
        if len(text_data or bytes_data or "") > MAX_MESSAGE:
            await self.close(TOO_LARGE)

    async def disconnect(self, code: int) -> None:
        """Leave the room."""
        if self.room is None or self._sending is None or self.viewer is None:
            return
        self.room.leave(self)
        everyone = hub()
        everyone.sockets_of[self.viewer.user_id] -= 1
        everyone.sockets_of += Counter()
        self._sending.cancel()
        await asyncio.gather(self._sending, return_exceptions=True)

    async def _may_look(self, viewer: Viewer, noun: Noun, pk: str) -> bool:
        return await database_sync_to_async(viewer.may_look, thread_sensitive=False)(noun, pk)

    async def _send_news(self, room: Room) -> None:
        """Send what differs from what the browser has: a slow one skips what it did not see."""
        seen: dict[str, str] = {}
        with contextlib.suppress(OSError):
            while True:
                await self.wake.wait()
                self.wake.clear()
                if self._is_refused:
                    await self.close(FORBIDDEN)
                    return
                frame, seen = room.news_since(seen, self.parts)
                if not frame:
                    continue
                try:
                    async with asyncio.timeout(STALLED):
                        await self.send(text_data=frame)
                except TimeoutError:
                    await self.close(TRY_AGAIN)
                    return
