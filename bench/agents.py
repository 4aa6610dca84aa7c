"""One simulated agent: the real protocol, key, journal and back-off, and nothing that runs."""

import asyncio
import base64
import hashlib
import random
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent.protocol import (
    Ack,
    Assign,
    Committed,
    Desired,
    Facts,
    Heartbeat,
    Hello,
    Refused,
    ResultReport,
    State,
    Welcome,
    WindowReport,
    decode,
    encode,
    session_message,
)
from agent.session import FACTS_EVERY, retry_delay
from bench.wire import dial

SESSION_PATH = "/agent/v1/session"
PATIENCE = 10.0  # as long as the real agent waits for each step of the handshake
ONE_SHOT = frozenset({"script", "query", "update"})
ENDED = frozenset({"completed", "failed", "stopped"})
CAPABILITIES = {
    "inputs": ["generate"],
    "processors": ["mapping"],
    "outputs": ["drop", "stdout"],
    "runtimes": ["shell"],
}
CALM = {
    "cpu_percent": 3.0,
    "memory_percent": 41.0,
    "memory_used_bytes": 841_000_000,
    "memory_capacity_bytes": 2_048_000_000,
    "disk_percent": 12.0,
    "disk_used_bytes": 1_900_000_000,
    "disk_capacity_bytes": 16_000_000_000,
}
CONDITIONS = [
    {"type": name, "status": False, "reason": ""}
    for name in ("MemoryPressure", "HighLoad", "DiskPressure", "JournalFull")
]
HEARTBEAT = encode(Heartbeat(resources=CALM, conditions=CONDITIONS))
FACTS = encode(
    Facts(facts={"architecture": "amd64", "kernel_version": "6.1.0", "cpu_count": 4, "disks": []})
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What a node does with each execution it is given; times in seconds."""

    # Before each report.
    latency: float = 0.0
    # Health windows of a pipeline: how many, how long (None: as assigned), how bad (0 to 1).
    windows: int = 2
    interval: float | None = None
    error_rate: float = 0.0
    # It never comes up; work that runs once ends as failed.
    fails: bool = False
    # After so long in its first session the node hangs: its socket stays, nothing is said any more.
    silent_after: float | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A node whose key this process has: its id, and the number that the key is made of."""

    node_id: str
    number: int


def key_of(number):
    """Give the private key of a simulated node."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"fleet %d" % number).digest())


class SessionLostError(Exception):
    """The session is over; `retry_after` is what the server asked for, in seconds."""

    def __init__(self, why, retry_after=0.0):
        super().__init__(why)
        self.retry_after = retry_after


class Agent:
    """One node: its journal, what runs on it, and its session."""

    __slots__ = (
        "_beats", "_fleet", "_journal", "_next", "_numbers", "_wire", "failures", "member",
        "refused", "running", "script", "seq", "welcomed",
    )  # fmt: skip

    def __init__(self, fleet, member, script):
        self._fleet, self.member, self.script = fleet, member, script
        self._wire = self._beats = None
        self.welcomed = self.failures = self.seq = 0
        self.refused = ""
        self._journal = {}
        # Execution -> [observed state, desired_seq, job type, desired state].
        self.running = {}
        self._next = {}
        self._numbers = Counter()

    @property
    def is_live(self):
        """Say whether the server welcomed this session and it goes on."""
        return self._wire is not None

    # --- The session -------------------------------------------------------------------------

    async def live(self):
        """Connect, work, and connect again as the real agent does, until cancelled."""
        while True:
            least = 0.0
            try:
                await self._connected()
            except SessionLostError as lost:
                least, self.refused = lost.retry_after, str(lost)
            except (OSError, TimeoutError) as error:
                self.refused = type(error).__name__
            finally:
                self._part()
            self.failures += 1
            self._fleet.lost += 1
            await asyncio.sleep(least + retry_delay(self.failures))

    async def _connected(self):
        async with self._fleet.gate:
            async with asyncio.timeout(PATIENCE):
                wire = await dial(self._fleet.port, SESSION_PATH)
            try:
                await self._shake_hands(wire)
            except BaseException:
                wire.cut()
                raise
        try:
            await wire.closed
        finally:
            wire.cut()
        raise SessionLostError("closed")

    async def _shake_hands(self, wire):
        challenge = await self._receive(wire)
        node_id, number = self.member.node_id, self.member.number
        message = session_message(challenge.nonce, node_id)
        hello = Hello(
            node_id=node_id,
            signature=base64.b64encode(key_of(number).sign(message)).decode(),
            boot_id="boot",
            agent_version="1",
            hostname=f"gw-{number}",
            os="linux",
            arch="amd64",
            labels={"role": "gateway", "region": f"r{number % 8}"},
            capabilities=CAPABILITIES,
            running=[
                {"execution_id": key, "observed_state": state, "desired_seq": seq, "attempt": 1}
                for key, (state, seq, *_) in self.running.items()
            ],
        )
        wire.send(encode(hello))
        welcome = await self._receive(wire)
        if not isinstance(welcome, Welcome):
            raise SessionLostError("not welcomed")
        self._begin(wire, welcome)

    async def _receive(self, wire):
        async with asyncio.timeout(PATIENCE):
            frame = decode(await wire.text())
        if isinstance(frame, Refused):
            raise SessionLostError(frame.code, frame.retry_after)
        return frame

    def _begin(self, wire, welcome):
        self._wire, self.failures = wire, 0
        self.welcomed += 1
        self._fleet.welcome(self, welcome)
        self._commit(welcome.last_up_seq)
        self.seq = max(self.seq, welcome.last_up_seq)
        for text in list(self._journal.values()):
            wire.send(text)
        wire.listen(self._take)
        later = random.uniform(0, FACTS_EVERY) if self.welcomed > 1 else 0
        self._later(later, wire.send, FACTS)
        self._beat(welcome.heartbeat_interval)
        if self.script.silent_after is not None and self.welcomed == 1:
            self._fleet.loop.call_later(self.script.silent_after, self._hang, wire)

    def _beat(self, interval):
        self._wire.send(HEARTBEAT)
        self._beats = self._fleet.loop.call_later(interval, self._beat, interval)

    def _hang(self, wire):
        wire.is_mute = True

    def _part(self):
        if self._wire is not None:
            self._wire = None
            self._fleet.part(self)
        if self._beats is not None:
            self._beats.cancel()

    def cut(self):
        """Lose the connection now."""
        if self._wire is not None:
            self._wire.cut()

    # --- What the server says ----------------------------------------------------------------

    def _take(self, text):
        frame = decode(text)
        match frame:
            case Committed():
                self._commit(frame.up_to)
            case Assign():
                self._assigned(frame.envelope)
            case Desired():
                self._desired(frame)
            case Refused():
                self.cut()

    def _commit(self, up_to):
        for seq in [seq for seq in self._journal if seq <= up_to]:
            del self._journal[seq]

    def _assigned(self, envelope):
        assignment = self._fleet.open(envelope)
        key = assignment.execution_id
        self.say(Ack, execution_id=key, desired_seq=assignment.desired_seq)
        if key in self.running:
            self.running[key][1] = assignment.desired_seq
            return
        self.running[key] = ["pending", assignment.desired_seq, assignment.job_type, "running"]
        self._fleet.note_assignment(self, assignment)
        previous = self.running.get(assignment.previous_execution_id)
        if previous is None or previous[0] in ENDED:
            self._start(assignment)
        else:
            self._next[assignment.previous_execution_id] = assignment

    def _desired(self, frame):
        key, one = frame.execution_id, self.running.get(frame.execution_id)
        self.say(Ack, execution_id=key, desired_seq=frame.desired_seq)
        if one is None:
            return
        one[1], one[3] = frame.desired_seq, frame.desired_state
        if frame.desired_state == "stopped" and one[0] not in ENDED:
            self._soon(self._end, key, "stopped")

    # --- What an execution does --------------------------------------------------------------

    def _start(self, assignment):
        self._soon(self._observe, assignment.execution_id, "starting", self._up, assignment)

    def _up(self, assignment):
        key, one_shot = assignment.execution_id, assignment.job_type in ONE_SHOT
        if self.script.fails and not one_shot:
            self._soon(self._end, key, "failed")
            return
        state = "validating" if assignment.validates else "running"
        after = self._finish if one_shot else self._watch
        self._soon(self._observe, key, state, after, assignment)

    def _finish(self, assignment):
        self._soon(
            self._end, assignment.execution_id, "failed" if self.script.fails else "completed"
        )

    def _watch(self, assignment):
        wait = self.script.interval
        wait = assignment.interval if wait is None else wait
        self._later(wait, self._window, assignment.execution_id, wait)

    def _window(self, key, length):
        if self._is_over(key) or self._numbers[key] >= self.script.windows:
            return
        self._numbers[key] += 1
        ended = datetime.fromtimestamp(time.time(), UTC)
        errors = round(100 * self.script.error_rate)
        self.say(
            WindowReport,
            execution_id=key,
            number=self._numbers[key],
            started_at=(ended - timedelta(seconds=length)).isoformat(),
            ended_at=ended.isoformat(),
            messages_in=100,
            messages_ok=100 - errors,
            errors=errors,
        )
        self._later(length, self._window, key, length)

    def _observe(self, key, state, then, assignment):
        if self._is_over(key):
            return
        self._state(key, state)
        then(assignment)

    def _end(self, key, state):
        one = self.running.get(key)
        if one is None or one[0] in ENDED:
            return
        code = "spawn_failed" if state == "failed" else ""
        self._state(key, state, error_code=code)
        if one[2] in ONE_SHOT or state == "failed":
            status = "cancelled" if state == "stopped" else state
            code_of = {"completed": 0, "failed": 1}.get(state)
            self.say(ResultReport, execution_id=key, status=status, exit_code=code_of)
        follower = self._next.pop(key, None)
        if follower is not None:
            self._start(follower)

    def _is_over(self, key):
        state, _, _, desired = self.running[key]
        return state in ENDED or desired == "stopped"

    def _state(self, key, state, **more):
        self.running[key][0] = state
        now = datetime.fromtimestamp(time.time(), UTC).isoformat()
        self.say(State, execution_id=key, observed_state=state, at=now, **more)
        self._fleet.note_state(state)

    def say(self, frame_type, **values):
        """Journal a report that must not be lost, and send it if there is a session."""
        self.seq += 1
        text = self._journal[self.seq] = encode(frame_type(seq=self.seq, **values))
        if self._wire is not None:
            self._wire.send(text)

    def _soon(self, function, *args):
        self._later(self.script.latency, function, *args)

    def _later(self, wait, function, *args):
        if wait <= 0:
            function(*args)
        else:
            self._fleet.loop.call_later(wait, function, *args)
