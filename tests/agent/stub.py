"""A small control plane in a thread: real websockets on loopback, speaking agent.protocol."""

import asyncio
import base64
import json
import os
import re
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from http import HTTPStatus

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from agent import keys, protocol
from agent.reports import timestamp
from tests.waiting import wait_until


class StubServer:
    """One port for enrolment and sessions. Commits what it gets, unless told otherwise."""

    def __init__(self):
        self.seed = os.urandom(32)
        self.public = base64.b64encode(keys.public_key(self.seed)).decode()
        self.node_id = str(uuid.uuid4())
        self.enrolments = []
        # Answers to enrolments, used up one by one; the last one stays.
        self.enrolment_answers = [(200, {})]
        self.hellos = []
        # Every sequenced frame in the order of its arrival, those sent again too.
        self.received = []
        self.unnumbered = []
        self.frames = []
        self.last_up_seq = 0
        self.commits = True
        self.refusal = None
        self.shown_key = None
        self.server_time = None
        self.port = 0
        self._sockets = set()
        self._loop = None
        self._front = None
        self._sessions = None
        self._doors = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    # --- Starting and stopping -----------------------------------------------------------------

    def start(self):
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def stop(self):
        self._call(self._stop_listening())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def go_offline(self):
        """Close every session and the port."""
        self._call(self._stop_listening())

    def come_back(self):
        self._call(self._listen())

    def cut(self):
        """Drop every session without a goodbye; the port stays open."""
        self._call(self._cut())

    def _run(self):
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._listen())
        self._ready.set()
        self._loop.run_forever()
        self._loop.close()

    def _call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self):
        self._sessions = await serve(
            self._session, "127.0.0.1", 0, max_size=protocol.MAX_FRAME, close_timeout=0.5
        )
        self._front = await asyncio.start_server(self._door, "127.0.0.1", self.port)
        self.port = self._front.sockets[0].getsockname()[1]

    async def _stop_listening(self):
        if self._front is not None:
            self._front.close()
            await self._cut()
            self._sessions.close()
            await self._sessions.wait_closed()
            self._front = None

    async def _cut(self):
        for writer in list(self._doors):
            writer.transport.abort()

    async def _door(self, reader, writer):
        """Answer an enrolment here, hand a session on to the websocket server."""
        self._doors.add(writer)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            if head.startswith(b"POST /agent/v1/enroll "):
                await self._answer_enrolment(head, reader, writer)
            elif head.startswith(b"GET /agent/v1/session "):
                await self._pass_on(head, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._doors.discard(writer)
            writer.close()

    async def _answer_enrolment(self, head, reader, writer):
        length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])
        status, answer = self.enrol(json.loads(await reader.readexactly(length)))
        body = json.dumps(answer).encode()
        start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"
        writer.write(f"{start}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()

    async def _pass_on(self, head, reader, writer):
        port = self._sessions.sockets[0].getsockname()[1]
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        inner_writer.write(head)
        ways = [
            asyncio.create_task(_copy(reader, inner_writer)),
            asyncio.create_task(_copy(inner_reader, writer)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        inner_writer.transport.abort()

    # --- Enrolment -----------------------------------------------------------------------------

    def enrol(self, body):
        self.enrolments.append(body)
        message = protocol.enrol_message(body["machine_id"], body["public_key"], body["nonce"])
        signature = base64.b64decode(body["signature"])
        self.node_key = base64.b64decode(body["public_key"])
        if not keys.verify(self.node_key, signature, message):
            return 403, {"detail": "bad signature"}
        status, extra = self.enrolment_answers[0]
        if len(self.enrolment_answers) > 1:
            self.enrolment_answers.pop(0)
        states = {200: "accepted", 202: "pending"}
        answer = {"node_id": self.node_id, "control_public_key": self.public}
        if status in states:
            return status, {"state": states[status], **answer, **extra}
        return status, {"title": HTTPStatus(status).phrase, "status": status, **extra}

    # --- Sessions ------------------------------------------------------------------------------

    async def _session(self, socket):
        try:
            nonce = os.urandom(16).hex()
            await socket.send(protocol.encode(protocol.Challenge(nonce=nonce)))
            hello = protocol.decode(await socket.recv())
            if self.refusal is not None:
                await socket.send(protocol.encode(self.refusal))
                return
            message = protocol.session_message(nonce, hello.node_id)
            assert keys.verify(self.node_key, base64.b64decode(hello.signature), message)
            self.hellos.append(hello)
            welcome = protocol.Welcome(
                node_id=hello.node_id,
                last_up_seq=self.last_up_seq,
                heartbeat_interval=0.2,
                server_time=self.server_time or timestamp(),
                control_public_key=self.shown_key or self.public,
            )
            await socket.send(protocol.encode(welcome))
            self._sockets.add(socket)
            await self._take(socket)
        except ConnectionClosed:
            pass
        finally:
            self._sockets.discard(socket)

    async def _take(self, socket):
        async for message in socket:
            frame = protocol.decode(message)
            if frame.seq == 0:
                self.unnumbered.append(frame)
                continue
            self.received.append(frame)
            if frame.seq <= self.last_up_seq:
                continue
            if not self.commits:
                continue
            self.last_up_seq = frame.seq
            self.frames.append(frame)
            await socket.send(protocol.encode(protocol.Committed(up_to=frame.seq)))

    def send(self, frame):
        """Send a frame to the node, waiting until it is connected."""
        self.send_text(protocol.encode(frame))

    def send_text(self, text):
        wait_until(lambda: self._sockets, message="the agent is not connected")
        self._call(self._send(text))

    async def _send(self, text):
        """Send to everyone who is there; an agent may die of it, or just have died."""
        for socket in list(self._sockets):
            with suppress(ConnectionClosed):
                await socket.send(text)

    @property
    def is_connected(self):
        return bool(self._sockets)

    # --- Assignments ---------------------------------------------------------------------------

    def assignment(self, **fields):
        now = time.time()
        values = {
            "execution_id": str(uuid.uuid4()),
            "job_id": str(uuid.uuid4()),
            "job_name": "hello",
            "job_version": 1,
            "job_type": "script",
            "namespace": "prod",
            "node_id": self.node_id,
            "desired_seq": 1,
            "config": {"runner": "shell", "payload": "echo hello"},
            "env": {},
            "restart_policy": "never",
            "execution_timeout": 60.0,
            "interval": 10.0,
            "validates": False,
            "previous_execution_id": None,
            "not_before": timestamp(now - 1),
            "expires_at": timestamp(now + 60),
            "nonce": os.urandom(16).hex(),
            **fields,
        }
        return protocol.Assignment(**values)

    def script(self, payload, **fields):
        return self.assignment(config={"runner": "shell", "payload": payload}, **fields)

    def envelope(self, assignment, seed=None):
        payload = json.dumps(asdict(assignment)).encode()
        signature = keys.sign(seed or self.seed, protocol.pre_authentication(payload))
        return protocol.make_envelope(payload, signature, "sha256:test")

    def assign(self, assignment):
        self.send(protocol.Assign(envelope=self.envelope(assignment)))
        return assignment

    def desire(self, execution_id, desired_seq, desired_state="stopped"):
        self.send(
            protocol.Desired(
                execution_id=execution_id, desired_state=desired_state, desired_seq=desired_seq
            )
        )

    # --- What came in --------------------------------------------------------------------------

    def of(self, execution_id, kind):
        """Return the committed frames of one kind about one execution."""
        return [
            frame
            for frame in list(self.frames)
            if isinstance(frame, kind) and frame.execution_id == execution_id
        ]

    def states(self, execution_id):
        return [frame.observed_state for frame in self.of(execution_id, protocol.State)]

    def log_lines(self, execution_id, stream="stdout"):
        frames = self.of(execution_id, protocol.Log)
        return [line for frame in frames if frame.stream == stream for line in frame.lines]

    def result(self, execution_id, deadline=60.0):
        """Wait for the one result of an execution."""
        wait_until(
            lambda: self.of(execution_id, protocol.ResultReport),
            deadline,
            f"no result of {execution_id}",
        )
        (result,) = self.of(execution_id, protocol.ResultReport)
        return result

    def await_state(self, execution_id, state, deadline=60.0):
        wait_until(
            lambda: state in self.states(execution_id),
            deadline,
            f"{execution_id} was never {state}",
        )


def resent(assignment, **fields):
    """Return the assignment as the control plane would sign it anew."""
    return replace(assignment, nonce=os.urandom(16).hex(), **fields)


async def _copy(reader, writer):
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()


@contextmanager
def stub_server():
    server = StubServer().start()
    try:
        yield server
    finally:
        server.stop()
