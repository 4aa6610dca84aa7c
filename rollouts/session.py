"""One agent's session: the handshake, what it sends, and what is sent to it."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from access.problems import Refused as ServiceRefused
from agent.protocol import (
    MAX_FRAME,
    VERSION,
    Challenge,
    Frame,
    Hello,
    ProtocolError,
    Refused,
    Welcome,
    decode,
    encode,
    session_message,
)
from nodes.keys import control_key, is_signed_by
from nodes.presence import record_presence
from nodes.queries import get_node_for_session
from nodes.services import Greeting, connect_node
from nodes.states import EnrolmentState
from rollouts.delivery import meet_node

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

HELLO_TIMEOUT = 10.0
OUTBOX = 2000
# Close codes of RFC 6455: policy violation, try again later.
POLICY, LATER = 1008, 1013


class Closed(Exception):  # noqa: N818 - what happened to the socket
    """The agent's side of the socket is gone."""


class Rejected(Exception):  # noqa: N818 - what happened to the session
    """The session was refused; the frame says why."""

    def __init__(self, frame: Refused) -> None:
        super().__init__(frame.code)
        self.frame = frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A session that may begin: the frames that greet it."""

    node_id: UUID
    welcome: Welcome
    frames: list[Frame]


@dataclass(eq=False, slots=True)
class Session:
    """A socket with its outbox; a slow agent never holds up the others."""

    receive: Receive
    send: Send
    node_id: UUID | None = None
    outbox: asyncio.Queue[str | None] = field(default_factory=lambda: asyncio.Queue(OUTBOX))
    # (execution, desired_seq) that were told, and when (the loop's clock).
    told: dict[tuple[UUID, int], float] = field(default_factory=dict)
    is_over: bool = False

    def put(self, frame: Frame) -> None:
        """Send a frame soon; an agent that does not read is cut off."""
        if self.is_over:
            return
        try:
            self.outbox.put_nowait(encode(frame))
        except asyncio.QueueFull:
            self.end()

    def end(self) -> None:
        """Close the session soon."""
        self.is_over = True
        if self.outbox.full():
            self.outbox.get_nowait()
        self.outbox.put_nowait(None)

    async def read(self) -> Frame | None:
        """Return the next frame; None for one that makes no sense and has no number.

        A numbered frame that makes no sense comes back as a bare frame, so that it can be
        acknowledged and its sender does not send it for ever. Raises Closed.
        """
        message = await self.receive()
        if message["type"] != "websocket.receive":
            raise Closed
        text = message.get("text") or message.get("bytes") or ""
        try:
            return decode(text)
        except (ProtocolError, TypeError):
            return _bare(text)

    async def say(self, frame: Frame) -> None:
        """Send a frame now. Raises Closed."""
        await self._send({"type": "websocket.send", "text": encode(frame)})

    async def write_outbox(self) -> None:
        """Send what is put, until the session ends."""
        while (text := await self.outbox.get()) is not None:
            await self._send({"type": "websocket.send", "text": text})
        await self._send({"type": "websocket.close", "code": LATER})

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        try:
            await self.send(message)
        except (OSError, RuntimeError) as error:
            raise Closed from error


async def shake_hands(
    session: Session,
    run: Callable[[Callable[[], Admission]], Awaitable[Admission]],
    gateway: str,
) -> Admission:
    """Challenge the agent and let it in, or raise Rejected, Closed or TimeoutError.

    `run` calls a function that uses the database, off the event loop.
    """
    nonce = secrets.token_urlsafe(32)
    await session.say(Challenge(nonce=nonce, server_time=timezone.now().isoformat()))
    async with asyncio.timeout(HELLO_TIMEOUT):
        hello = await session.read()
    if not isinstance(hello, Hello):
        raise Rejected(Refused(code="bad_signature", message="expected hello"))
    return await run(partial(admit, hello, nonce, gateway))


def admit(hello: Hello, nonce: str, gateway: str, now: datetime | None = None) -> Admission:
    """Check an agent's hello against its node's key and open its session. Raises Rejected."""
    now = now or timezone.now()
    node_id = _proven_node(hello, nonce)
    try:
        arrival = connect_node(node_id, _greeting(hello), now)
    except ServiceRefused as error:
        code = "unknown_node" if error.code == "not_found" else "not_accepted"
        raise Rejected(Refused(code=code, message=error.detail)) from error
    record_presence({node_id: now}, gateway, claim=True)
    frames = meet_node(node_id, known_seqs(hello.running), arrival.away_since, now)
    welcome = Welcome(
        node_id=str(node_id),
        last_up_seq=arrival.last_up_seq,
        heartbeat_interval=settings.HEARTBEAT_INTERVAL.total_seconds(),
        server_time=timezone.now().isoformat(),
        control_public_key=control_key().public_key,
    )
    return Admission(node_id=node_id, welcome=welcome, frames=frames)


def known_seqs(running: object) -> dict[str, int]:
    """Read which executions an agent has, and the desired state that it knows of each."""
    known: dict[str, int] = {}
    for item in running if isinstance(running, list) else []:
        if not isinstance(item, dict):
            continue
        seq = item.get("desired_seq")
        try:
            key = str(UUID(str(item.get("execution_id"))))
        except ValueError:
            continue
        known[key] = seq if isinstance(seq, int) and 0 <= seq < 2**31 - 1 else 0
    return known


def greeting_of(frame: Any, *, labels: object, capabilities: object) -> Greeting:  # noqa: ANN401 - hello or facts
    """Return what a frame says of its machine, in the words of the node's service."""

    def text(name: str) -> str:
        value = getattr(frame, name, "")
        return value.replace("\x00", "") if isinstance(value, str) else ""

    return Greeting(
        hostname=text("hostname"),
        os=text("os"),
        arch=text("arch"),
        agent_version=text("agent_version"),
        labels=labels if isinstance(labels, dict) else None,
        capabilities=capabilities if isinstance(capabilities, dict) else None,
    )


def _greeting(hello: Hello) -> Greeting:
    return greeting_of(hello, labels=hello.labels, capabilities=hello.capabilities)


def _proven_node(hello: Hello, nonce: str) -> UUID:
    if hello.protocol != VERSION:
        raise Rejected(Refused(code="not_accepted", message=f"protocol {VERSION} is needed"))
    try:
        node_id = UUID(str(hello.node_id))
    except ValueError as error:
        raise Rejected(Refused(code="unknown_node", message="no such node")) from error
    node = get_node_for_session(node_id)
    if node is None:
        raise Rejected(Refused(code="unknown_node", message="no such node"))
    if not is_signed_by(node.public_key, hello.signature, session_message(nonce, str(node_id))):
        raise Rejected(Refused(code="bad_signature", message="the signature is not this node's"))
    if node.enrolment_state != EnrolmentState.ACCEPTED:
        message = f"the node is {node.enrolment_state}"
        raise Rejected(Refused(code="not_accepted", message=message, retry_after=10.0))
    return node_id


def _bare(text: str | bytes) -> Frame | None:
    try:
        seq = json.loads(text).get("seq") if len(text) <= MAX_FRAME else None
    except (ValueError, AttributeError, RecursionError):
        return None
    if isinstance(seq, int) and not isinstance(seq, bool) and 0 < seq < 2**63:
        return Frame(seq=seq)
    return None
