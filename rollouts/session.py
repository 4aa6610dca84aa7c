"""One agent's session: the handshake, what it sends, and what is sent to it."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.utils import timezone

from agent.protocol import (
    MAX_FRAME,
    Challenge,
    Frame,
    Hello,
    ProtocolError,
    Refused,
    decode,
    encode,
)
from rollouts.admission import Admission, Knock

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

    async def accept(self) -> None:
        """Open the socket. Raises Closed."""
        await self._send({"type": "websocket.accept"})

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
    session: Session, ask: Callable[[Knock], Awaitable[Admission | Refused]]
) -> Admission:
    """Challenge the agent and let it in, or raise Rejected, Closed or TimeoutError.

    `ask` asks for admission; it answers a crowd together.
    """
    nonce = secrets.token_urlsafe(32)
    await session.say(Challenge(nonce=nonce, server_time=timezone.now().isoformat()))
    async with asyncio.timeout(HELLO_TIMEOUT):
        hello = await session.read()
    if not isinstance(hello, Hello):
        raise Rejected(Refused(code="bad_signature", message="expected hello"))
    answer = await ask(Knock(hello=hello, nonce=nonce))
    if isinstance(answer, Refused):
        raise Rejected(answer)
    return answer


def _bare(text: str | bytes) -> Frame | None:
    try:
        seq = json.loads(text).get("seq") if len(text) <= MAX_FRAME else None
    except (ValueError, AttributeError, RecursionError):
        return None
    if isinstance(seq, int) and not isinstance(seq, bool) and 0 < seq < 2**63:
        return Frame(seq=seq)
    return None
