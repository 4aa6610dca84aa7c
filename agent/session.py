"""Talking to the control plane: the session, numbered frames, back-off, life offline."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
import socket
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from agent import facts, processes
from agent.config import VERSION, Config
from agent.enrolment import Identity
from agent.journal import Journal
from agent.protocol import (
    MAX_FRAME,
    Assign,
    Challenge,
    Committed,
    Desired,
    Facts,
    Frame,
    Heartbeat,
    Hello,
    ProtocolError,
    Refused,
    Welcome,
    decode,
    encode,
    session_message,
)
from agent.protocol import VERSION as PROTOCOL
from agent.supervisor import Supervisor

log = logging.getLogger("jobsite.agent.session")

LONGEST_DELAY = 60.0
# A web process that was killed is back soon, or its neighbour takes over: be quick at first.
QUICK_TRIES, QUICK_DELAYS = 3, (0.2, 1.0)
FACTS_EVERY = 60.0
_OPEN_TIMEOUT = 10.0
_PING_EVERY = 20.0


class SessionEndedError(Exception):
    """The session cannot go on; `retry_after` is the least wait in seconds."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


def retry_delay(failures: int) -> float:
    """Return the wait after so many failures in a row: quick at first, then jittered over all."""
    if failures <= QUICK_TRIES:
        return random.uniform(*QUICK_DELAYS)  # noqa: S311 - jitter
    limit = min(LONGEST_DELAY, 2.0 ** min(failures - QUICK_TRIES, 10))
    return random.uniform(QUICK_DELAYS[0], limit)  # noqa: S311 - jitter


class ServerClock:
    """The control plane's time: taken at each welcome, carried on by a clock that never steps."""

    def __init__(self) -> None:
        self._ahead = time.time() - _boot_clock()

    def set(self, server_time: str) -> None:
        """Take the time over from a welcome (RFC 3339)."""
        self._ahead = datetime.fromisoformat(server_time).timestamp() - _boot_clock()

    def now(self) -> float:
        """Return the control plane's time (Unix, seconds)."""
        return self._ahead + _boot_clock()


def _boot_clock() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Session:
    """Keeps a session with the control plane for as long as the agent runs."""

    def __init__(
        self,
        config: Config,
        identity: Identity,
        journal: Journal,
        supervisor: Supervisor,
        capabilities: Mapping[str, Any],
    ) -> None:
        self._config = config
        self._identity = identity
        self._journal = journal
        self._supervisor = supervisor
        self._clock = ServerClock()
        self._gauge = facts.Gauge(config.data_dir)
        self._capabilities = dict(capabilities)
        self._boot = processes.boot_id()
        self._failures = 0
        self._has_told_facts = False

    async def run(self) -> None:
        """Connect, work, and connect again, until cancelled."""
        while True:
            least = 0.0
            try:
                await self._connected()
            except SessionEndedError as error:
                log.warning("%s", error)
                least = error.retry_after
            except (OSError, WebSocketException, ProtocolError, TimeoutError) as error:
                log.warning("no session: %s", str(error) or type(error).__name__)
            self._failures += 1
            await asyncio.sleep(least + retry_delay(self._failures))

    async def _connected(self) -> None:
        async with connect(
            self._config.session_url,
            open_timeout=_OPEN_TIMEOUT,
            close_timeout=2,
            ping_interval=_PING_EVERY,
            ping_timeout=_PING_EVERY,
            max_size=MAX_FRAME,
            max_queue=64,
            compression=None,
            user_agent_header=f"jobsite-agent/{VERSION}",
        ) as socket_:
            welcome = await self._shake_hands(socket_)
            self._failures = 0
            log.info("connected to %s as %s", self._config.server, welcome.node_id)
            await self._work(socket_, welcome)

    async def _shake_hands(self, socket_: ClientConnection) -> Welcome:
        challenge = await self._receive(socket_)
        if not isinstance(challenge, Challenge) or challenge.protocol != PROTOCOL:
            raise SessionEndedError(f"the control plane does not speak version {PROTOCOL}", 30)
        await socket_.send(encode(self._hello(challenge.nonce)))
        welcome = await self._receive(socket_)
        if not isinstance(welcome, Welcome):
            raise SessionEndedError("the control plane did not welcome this node")
        shown = welcome.control_public_key
        if _decoded(shown) != self._identity.control_key:
            raise SessionEndedError("the control plane's key is not the one that was pinned", 30)
        if welcome.server_time:
            self._clock.set(welcome.server_time)
        self._journal.committed(welcome.last_up_seq)
        return welcome

    async def _receive(self, socket_: ClientConnection) -> Frame:
        async with asyncio.timeout(_OPEN_TIMEOUT):
            frame = decode(await socket_.recv())
        if isinstance(frame, Refused):
            raise SessionEndedError(f"refused ({frame.code}): {frame.message}", frame.retry_after)
        return frame

    def _hello(self, nonce: str) -> Hello:
        identity = self._identity
        return Hello(
            node_id=identity.node_id,
            signature=identity.key.sign(session_message(nonce, identity.node_id)),
            boot_id=self._boot,
            agent_version=VERSION,
            hostname=socket.gethostname(),
            os="linux",
            arch=facts.architecture(),
            labels=self._config.labels,
            capabilities=self._capabilities,
            running=self._supervisor.inventory(),
        )

    async def _work(self, socket_: ClientConnection, welcome: Welcome) -> None:
        duties = [
            asyncio.create_task(duty)
            for duty in (
                self._listen(socket_),
                self._report(socket_, welcome.last_up_seq),
                self._beat(socket_, welcome.heartbeat_interval),
                self._tell_facts(socket_),
            )
        ]
        try:
            done, _ = await asyncio.wait(duties, return_when=asyncio.FIRST_COMPLETED)
            for duty in done:
                duty.result()
        finally:
            for duty in duties:
                duty.cancel()
            await asyncio.gather(*duties, return_exceptions=True)

    async def _listen(self, socket_: ClientConnection) -> None:
        last = 0
        async for message in socket_:
            frame = decode(message)
            if 0 < frame.seq <= last:
                continue
            last = max(last, frame.seq)
            if isinstance(frame, Assign):
                self._supervisor.assign(frame.envelope, self._clock.now())
            elif isinstance(frame, Desired):
                self._supervisor.desire(frame)
            elif isinstance(frame, Committed):
                self._journal.committed(frame.up_to)
            elif isinstance(frame, Refused):
                raise SessionEndedError(f"{frame.code}: {frame.message}", frame.retry_after)
        raise SessionEndedError("the control plane closed the session")

    async def _report(self, socket_: ClientConnection, sent: int) -> None:
        """Send what is journalled, in order; what is not on the disk yet is not said yet."""
        while True:
            self._journal.changed.clear()
            while frames := self._journal.pending(sent):
                await self._journal.sync()
                for number, text in frames:
                    await socket_.send(text)
                    sent = number
            await self._journal.changed.wait()

    async def _beat(self, socket_: ClientConnection, interval: float) -> None:
        while True:
            resources = self._gauge.resources()
            full = not self._journal.recover_space()
            conditions = facts.conditions(resources, journal_full=full)
            await socket_.send(encode(Heartbeat(resources=resources, conditions=conditions)))
            await asyncio.sleep(interval)

    async def _tell_facts(self, socket_: ClientConnection) -> None:
        told: dict[str, Any] = {}
        if self._has_told_facts:
            # A fleet that comes back at once does not tell at once what is known already.
            await asyncio.sleep(random.uniform(0, FACTS_EVERY))  # noqa: S311 - jitter
        while True:
            found = facts.gather()
            if _lasting(found) != _lasting(told):
                await socket_.send(encode(Facts(facts=found)))
                told, self._has_told_facts = found, True
            await asyncio.sleep(FACTS_EVERY)


def _lasting(found: dict[str, Any]) -> str:
    """Return the facts without those that every look changes."""
    passing = {"memory", "load_average", "disks", "uptime"}
    return json.dumps({key: found[key] for key in found.keys() - passing}, sort_keys=True)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""
