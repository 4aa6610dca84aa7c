"""One process's side of all its agents: group commit of their frames, delivery, presence."""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django import db
from django.conf import settings
from django.utils import timezone

from agent.protocol import Committed, Facts, Frame, Heartbeat, Refused
from live.push import group_name, hush
from nodes.presence import Vitals, is_notable, record_presence, record_vitals, tick_ingest_clock
from nodes.services import Greeting, record_all_facts
from rollouts.admission import Admission, Knock, admit_all, greeting_of
from rollouts.crowd import Crowd
from rollouts.delivery import BATCH, Order, undelivered
from rollouts.ingest import Incoming, Taken, ingest
from rollouts.reports import BadReport, clean_json
from rollouts.retention import expire_rows
from rollouts.session import (
    LATER,
    POLICY,
    Closed,
    Receive,
    Rejected,
    Send,
    Session,
    shake_hands,
)
from rollouts.sweeper import decide, look

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

GROUP_MAX = 1000
GROUP_PAUSE = 0.025
# Frames that may wait here; above it the sockets are not read, and agents keep what they have.
BACKLOG_MAX = 20_000
POLL = 1.0
# Each has its own, so that a herd that comes back delays neither reports nor presence.
THREADS = {"ingest": 1, "admit": 1, "talk": 1, "look": 1, "decide": 1, "expire": 1, "hush": 1}
# Agents that are let in, or whose facts are stored, by one transaction; and those that may be
# between the opened socket and the welcome: a herd waits before it costs anything.
CROWD_MAX = 250
AT_THE_DOOR = 1000
RESEND = 5.0
# Before what is due is looked for again where something was.
SOON = 0.1
# Between two tries to commit while the database is away: it is asked soon after it is back.
LONGEST_WAIT = 0.5
VITALS_EVERY = 10.0
EXPIRE_EVERY = 300.0
DOWN = (db.DatabaseError, db.InterfaceError, OSError)


class Gateway:
    """The sessions of this process and the loops that serve them; one for each event loop."""

    def __init__(self) -> None:
        self.name = f"{socket.gethostname()[:32]}-{os.getpid()}-{secrets.token_hex(4)}"
        self.sessions: dict[UUID, Session] = {}
        self._incoming: deque[Incoming] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._bell = asyncio.Event()
        self._looked = asyncio.Event()
        self._seen: dict[UUID, datetime] = {}
        self._vitals: dict[UUID, Vitals] = {}
        self._written: dict[UUID, Vitals] = {}
        self._threads = {
            name: ThreadPoolExecutor(count, thread_name_prefix=f"gateway-{name}")
            for name, count in THREADS.items()
        }
        self._knocks = Crowd(self._admit, CROWD_MAX, _will_pass)
        self._told = Crowd(self._store_facts, CROWD_MAX, _will_pass)
        self._door = asyncio.Semaphore(AT_THE_DOOR)
        self._tasks: list[asyncio.Task[None]] = []

    # --- Beginning and end -----------------------------------------------------------------

    def start(self) -> None:
        """Start the loops, once."""
        if self._tasks:
            return
        loops: tuple[tuple[str, Coroutine[Any, Any, None]], ...] = (
            ("commit", self._commit_loop()),
            ("admit", self._knocks.run()),
            ("facts", self._told.run()),
            ("deliver", self._deliver_loop()),
            ("doorbell", self._doorbell_loop()),
            ("presence", self._every(POLL, self._flush_presence)),
            ("vitals", self._every(VITALS_EVERY, self._flush_vitals)),
            ("hush", self._every(POLL, self._hush)),
            ("expire", self._every(EXPIRE_EVERY, self._expire)),
            ("look", self._every(settings.SWEEP_INTERVAL.total_seconds(), self._look)),
            ("decide", self._decide_loop()),
        )
        self._tasks = [asyncio.create_task(loop, name=f"gateway-{name}") for name, loop in loops]

    async def stop(self) -> None:
        """End the sessions and the loops; what was not committed stays with the agents."""
        for session in list(self.sessions.values()):
            session.end()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for threads in self._threads.values():
            await asyncio.to_thread(threads.shutdown)

    # --- Sessions --------------------------------------------------------------------------

    async def serve(self, receive: Receive, send: Send) -> None:
        """Serve one agent from the asked-for socket to its end."""
        session = Session(receive, send)
        try:
            async with self._door:
                await session.accept()
                admission = await shake_hands(session, self._knocks.ask)
        except Rejected as refusal:
            await self._turn_away(session, refusal.frame)
            return
        except (Closed, TimeoutError):
            with contextlib.suppress(Closed, RuntimeError):
                await send({"type": "websocket.close", "code": POLICY})
            return
        except DOWN:
            logger.warning("an agent was asked to come later: no database")
            busy = Refused(code="busy", message="The control plane is not ready.")
            await self._turn_away(session, busy)
            return
        await self._converse(session, admission)

    async def _admit(self, knocks: list[Knock]) -> list[Admission | Refused]:
        return await self._run("admit", partial(admit_all, knocks, self.name))

    async def _turn_away(self, session: Session, frame: Refused) -> None:
        with contextlib.suppress(Closed):
            await session.say(frame)
            await session.send({"type": "websocket.close", "code": LATER})

    async def _converse(self, session: Session, admission: Admission) -> None:
        node_id = session.node_id = admission.node_id
        session.put(admission.welcome)
        for frame in admission.frames:
            session.put(frame)
        older = self.sessions.get(node_id)
        if older is not None:
            older.end()
        self.sessions[node_id] = session
        self._seen[node_id] = timezone.now()
        self._bell.set()
        reader = asyncio.create_task(self._read(session, node_id))
        writer = asyncio.create_task(session.write_outbox())
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            session.is_over = True
            if self.sessions.get(node_id) is session:
                del self.sessions[node_id]
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    async def _read(self, session: Session, node_id: UUID) -> None:
        while not session.is_over:
            frame = await session.read()
            self._seen[node_id] = timezone.now()
            match frame:
                case None:
                    continue
                case Heartbeat():
                    self._take_vitals(node_id, frame)
                case Facts():
                    await self._take_facts(node_id, frame)
            if frame.seq:
                await self._room.wait()
                self._put(Incoming(node_id=node_id, frame=frame))

    def _take_vitals(self, node_id: UUID, frame: Heartbeat) -> None:
        with contextlib.suppress(BadReport):
            resources, conditions = clean_json(frame.resources), clean_json(frame.conditions)
            if isinstance(resources, dict) and isinstance(conditions, list):
                self._vitals[node_id] = Vitals(resources=resources, conditions=conditions)

    async def _take_facts(self, node_id: UUID, frame: Facts) -> None:
        try:
            greeting = greeting_of(
                frame,
                labels=clean_json(frame.labels),
                capabilities=clean_json(frame.capabilities),
                facts=clean_json(frame.facts),
            )
            await self._told.ask((node_id, greeting))
        except BadReport:
            logger.warning("node %s sent facts that cannot be stored", node_id)
        except DOWN:
            logger.warning("facts of node %s were not stored: no database", node_id)

    async def _store_facts(self, told: list[tuple[UUID, Greeting]]) -> list[None]:
        await self._run("talk", partial(record_all_facts, dict(told), timezone.now()))
        return [None] * len(told)

    # --- Group commit ----------------------------------------------------------------------

    def _put(self, item: Incoming) -> None:
        self._incoming.append(item)
        self._arrived.set()
        if len(self._incoming) >= BACKLOG_MAX:
            self._room.clear()

    async def _commit_loop(self) -> None:
        """Commit what has come, at once when idle and in groups under load."""
        while True:
            await self._arrived.wait()
            began = asyncio.get_running_loop().time()
            batch = [self._incoming.popleft() for _ in range(min(GROUP_MAX, len(self._incoming)))]
            await self._commit(batch)
            if not self._incoming:
                self._arrived.clear()
            if len(self._incoming) < BACKLOG_MAX // 2:
                self._room.set()
            if len(self._incoming) < GROUP_MAX:
                spent = asyncio.get_running_loop().time() - began
                # As long as it took, so that few frames are not held up for a group that is not.
                await asyncio.sleep(max(0.0, min(spent, GROUP_PAUSE - spent)))

    async def _commit(self, batch: list[Incoming]) -> None:
        wait = 0.1
        while True:
            try:
                self._confirm(await self._run("ingest", partial(ingest, batch)))
            except Exception as error:
                if _will_pass(error):
                    logger.warning("%s reports wait for the database: %s", len(batch), error)
                    await asyncio.sleep(wait)
                    wait = min(LONGEST_WAIT, wait * 2)
                    continue
                if len(batch) == 1:
                    # Only its number is kept, so that its sender does not send it for ever.
                    item = batch[0]
                    logger.exception("node %s: a %s was dropped", item.node_id, item.frame.kind)
                    batch = [Incoming(node_id=item.node_id, frame=Frame(seq=item.frame.seq))]
                    continue
                for item in batch:
                    await self._commit([item])
            return

    def _confirm(self, taken: Taken) -> None:
        for node_id, up_to in taken.up_to.items():
            session = self.sessions.get(node_id)
            if session is not None:
                session.put(Committed(up_to=up_to))

    # --- Delivery --------------------------------------------------------------------------

    async def _deliver_loop(self) -> None:
        """Tell nodes what should be: when the doorbell rings, a node comes, or a second passed."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._bell.wait(), POLL)
            self._bell.clear()
            began = asyncio.get_running_loop().time()
            try:
                while await self._deliver() >= BATCH:
                    pass
                # While a herd comes the bell rings all the time: rest as long as it took.
                await asyncio.sleep(asyncio.get_running_loop().time() - began)
            except DOWN as error:
                logger.warning("nothing can be delivered: %s", error)
                await asyncio.sleep(POLL)
            except Exception:
                logger.exception("delivery failed")
                await asyncio.sleep(POLL)

    async def _deliver(self) -> int:
        if not self.sessions:
            return 0
        skip = self._told_lately()
        orders = await self._run(
            "talk", partial(undelivered, list(self.sessions), timezone.now(), skip=skip)
        )
        self._tell(orders)
        return len(orders)

    def _tell(self, orders: Iterable[Order]) -> None:
        told_at = asyncio.get_running_loop().time()
        for order in orders:
            session = self.sessions.get(order.node_id)
            if session is not None:
                session.told[order.execution_id, order.desired_seq] = told_at
                session.put(order.frame)

    def _told_lately(self) -> set[tuple[UUID, int]]:
        since = asyncio.get_running_loop().time() - RESEND
        lately: set[tuple[UUID, int]] = set()
        for session in self.sessions.values():
            if session.told:
                session.told = {key: at for key, at in session.told.items() if at > since}
                lately |= session.told.keys()
        return lately

    async def _doorbell_loop(self) -> None:
        """Hear the doorbell; while it is away, the poll does (law 1)."""
        while True:
            try:
                layer = get_channel_layer()
                assert layer is not None  # named in the settings
                channel = await layer.new_channel()
                await layer.group_add(group_name("gateway", "all"), channel)
                while True:
                    await layer.receive(channel)
                    self._bell.set()
            except Exception as error:
                logger.warning("the doorbell is away: %s", error)
                await asyncio.sleep(POLL)

    # --- What happens every so often -------------------------------------------------------

    async def _every(self, period: float, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except DOWN as error:
                logger.warning("%s waits for the database: %s", step.__name__, error)
            except Exception:
                logger.exception("%s failed", step.__name__)
            await asyncio.sleep(period)

    async def _flush_presence(self) -> None:
        """Write who was heard, and that anybody could be heard; end sessions that are over."""
        seen, self._seen = self._seen, {}
        try:
            held = await self._run("talk", partial(record_presence, seen, self.name))
            await self._run("talk", partial(tick_ingest_clock, timezone.now()))
        except Exception:
            self._seen = seen | self._seen
            raise
        for node_id in seen.keys() - held:
            session = self.sessions.get(node_id)
            if session is not None:
                session.end()

    async def _flush_vitals(self) -> None:
        said, self._vitals = self._vitals, {}
        news = {pk: new for pk, new in said.items() if is_notable(self._written.get(pk), new)}
        await self._run("talk", partial(record_vitals, news))
        self._written = {
            pk: vitals for pk, vitals in (self._written | news).items() if pk in self.sessions
        }

    async def _look(self) -> None:
        await self._run("look", look)
        self._looked.set()

    async def _decide_loop(self) -> None:
        """Decide what is due after each look, and soon again as long as there is something.

        Then no worker may be left, and waves must not wait for this process's looking as well.
        """
        interval = settings.SWEEP_INTERVAL.total_seconds()
        pause = 0.0
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._looked.wait(), pause)
            self._looked.clear()
            pause = interval
            try:
                if await self._run("decide", decide):
                    self._bell.set()
                    pause = min(interval, SOON)
            except DOWN as error:
                logger.warning("what is due waits for the database: %s", error)
            except Exception:
                logger.exception("what is due could not be decided")

    async def _hush(self) -> None:
        """Keep few bells waiting, on a thread of its own: a doorbell that hangs holds nothing up."""
        await self._run("hush", hush)

    async def _expire(self) -> None:
        """Drop what retention no longer keeps, should there be no beat that rings for it."""
        await self._run("expire", expire_rows)

    # --- The database, off the event loop --------------------------------------------------

    async def _run(self, thread: str, function: Callable[[], Answer]) -> Answer:
        def call() -> Answer:
            db.close_old_connections()
            try:
                return function()
            finally:
                db.close_old_connections()

        bridge = sync_to_async(call, thread_sensitive=False, executor=self._threads[thread])
        return await bridge()


def _will_pass(error: Exception) -> bool:
    """Say whether the same batch may do later: it is the database's fault, not a frame's."""
    return isinstance(error, DOWN) and not isinstance(error, db.DataError | db.IntegrityError)
