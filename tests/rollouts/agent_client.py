"""A small agent that speaks agent.protocol and runs nothing: what tests and benchmarks drive."""

import asyncio
import base64
import json
from datetime import timedelta

import websockets
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from django.utils import timezone

from agent.protocol import (
    Ack,
    Assign,
    Assignment,
    Challenge,
    Committed,
    Desired,
    Heartbeat,
    Hello,
    Refused,
    ResultReport,
    State,
    Welcome,
    WindowReport,
    decode,
    encode,
    open_envelope,
    pre_authentication,
    session_message,
    to_assignment,
)


def new_key():
    """Return a private key and its public half as the wire spells it."""
    private = Ed25519PrivateKey.generate()
    return private, base64.b64encode(private.public_key().public_bytes_raw()).decode()


class SessionRefusedError(Exception):
    """The server said no; `frame` says why."""

    def __init__(self, frame):
        super().__init__(frame.code)
        self.frame = frame


class AgentClient:
    """One session of one node, with the journal that its next session begins with."""

    def __init__(self, url, node_id, private):
        self.url, self.node_id, self.private = url, str(node_id), private
        self.seq = 0
        self.unacknowledged = {}
        self.acknowledged = 0
        self.assignments = {}
        self._returned = set()
        self.desired = {}
        self.inbox = asyncio.Queue()
        self.socket = self.welcome = self._reader = None

    async def connect(self, **hello):
        """Open a session, send again what was not committed, and listen. Returns the welcome."""
        self.socket = await websockets.connect(self.url, max_size=None, proxy=None)
        challenge = decode(await self.socket.recv())
        assert isinstance(challenge, Challenge)
        message = session_message(challenge.nonce, self.node_id)
        values = {
            "signature": base64.b64encode(self.private.sign(message)).decode(),
            "boot_id": "boot",
            "agent_version": "1",
            "hostname": "host",
            "os": "linux",
            "arch": "amd64",
            "running": [
                {"execution_id": key, "desired_seq": seq, "observed_state": "", "attempt": 1}
                for key, seq in self.desired.items()
            ],
        } | hello
        await self.socket.send(encode(Hello(node_id=self.node_id, **values)))
        answer = decode(await self.socket.recv())
        if isinstance(answer, Refused):
            await self.socket.close()
            raise SessionRefusedError(answer)
        assert isinstance(answer, Welcome)
        self.welcome = answer
        self._forget(answer.last_up_seq)
        self.seq = max(self.seq, answer.last_up_seq)
        for frame in list(self.unacknowledged.values()):
            await self.socket.send(encode(frame))
        self._reader = asyncio.create_task(self._read())
        return answer

    async def close(self):
        """End the session as a lost connection does."""
        if self._reader:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self.socket.close()

    async def report(self, frame_type, **values):
        """Send a frame that must not be lost; return its number."""
        self.seq += 1
        frame = frame_type(seq=self.seq, **values)
        self.unacknowledged[self.seq] = frame
        await self.socket.send(encode(frame))
        return self.seq

    async def state(self, execution_id, observed_state, **more):
        """Report where an execution stands."""
        return await self.report(
            State, execution_id=str(execution_id), observed_state=observed_state, **more
        )

    async def window(self, execution_id, number, *, seconds=10, **more):
        """Report what an execution did in an interval that ends now."""
        ended = timezone.now()
        started = ended - timedelta(seconds=seconds)
        values = {"started_at": started.isoformat(), "ended_at": ended.isoformat()} | more
        return await self.report(
            WindowReport, execution_id=str(execution_id), number=number, **values
        )

    async def result(self, execution_id, status, **more):
        """Report how an execution ended."""
        return await self.report(
            ResultReport, execution_id=str(execution_id), status=status, **more
        )

    async def heartbeat(self, **values):
        """Say that this node is there."""
        await self.socket.send(encode(Heartbeat(**values)))

    async def committed(self, seq, deadline=60.0):
        """Wait until everything up to `seq` is in the database."""
        await self.until(lambda: self.acknowledged >= seq, deadline)

    async def assigned(self, deadline=60.0):
        """Return an assignment that came and was not returned yet; wait for one."""
        new = await self.until(lambda: self.assignments.keys() - self._returned, deadline)
        self._returned.add(first := min(new))
        return self.assignments[first]

    def forget_returned(self):
        """Behave as an agent whose journal was lost."""
        self.assignments.clear()
        self._returned.clear()

    async def until(self, predicate, deadline=60.0):
        """Ask after every frame that comes until `predicate` is true."""
        async with asyncio.timeout(deadline):
            while not (answer := predicate()):
                await self.inbox.get()
            return answer

    async def _read(self):
        async for text in self.socket:
            await self._take(decode(text))
            self.inbox.put_nowait(text)
        self.inbox.put_nowait(None)

    async def _take(self, frame):
        match frame:
            case Committed():
                self.acknowledged = max(self.acknowledged, frame.up_to)
                self._forget(frame.up_to)
            case Assign():
                assignment = self.open(frame.envelope)
                self.assignments[assignment.execution_id] = assignment
                await self._acknowledge(assignment.execution_id, assignment.desired_seq)
            case Desired():
                await self._acknowledge(frame.execution_id, frame.desired_seq)

    async def _acknowledge(self, execution_id, desired_seq):
        self.desired[execution_id] = desired_seq
        await self.report(Ack, execution_id=execution_id, desired_seq=desired_seq)

    def open(self, envelope) -> Assignment:
        """Verify an envelope with the key of the welcome and return what it holds."""
        payload, signature, _ = open_envelope(envelope)
        raw = base64.b64decode(self.welcome.control_public_key)
        Ed25519PublicKey.from_public_bytes(raw).verify(signature, pre_authentication(payload))
        return to_assignment(json.loads(payload))

    def _forget(self, up_to):
        for seq in [seq for seq in self.unacknowledged if seq <= up_to]:
            del self.unacknowledged[seq]
