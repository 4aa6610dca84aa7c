"""The wire between a node's agent and the control plane: every message, with its version.

One JSON object is one frame. The opening handshake is: server `challenge`, agent `hello`, server
`welcome`. After it, frames that must not be lost carry `seq`, a number of their own direction
that rises by one: the agent keeps its own until the server's `ack` says that they are committed,
and after a reconnect it sends again what `welcome.last_up_seq` does not cover. A frame whose seq
was seen already is dropped. Downward nothing needs keeping: the server sends what *should be*
(`assign`, `desired`) again until the agent's `ack` frame names the `desired_seq` it knows.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar

VERSION = 1
# The longest frame either side accepts, in bytes (docs/semantics.md 4.2: 1 MiB payloads, both outputs).
MAX_FRAME = 4 * 1024 * 1024
ENVELOPE_TYPE = "jobsite.assignment.v1"
SESSION_CONTEXT = b"jobsite.session.v1\n"
ENROL_CONTEXT = b"jobsite.enrol.v1\n"


class ProtocolError(ValueError):
    """A frame that is not JSON, not of a known type, or lacks a member."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What all frames share."""

    kind: ClassVar[str] = ""
    seq: int = 0


# --- Server to agent ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge(Frame):
    """First frame: sign `session_message(nonce, node_id)` to prove the node's key."""

    kind: ClassVar[str] = "challenge"
    nonce: str
    protocol: int = VERSION
    server_time: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome(Frame):
    """The session is open. Times in seconds; `last_up_seq` is the last committed."""

    kind: ClassVar[str] = "welcome"
    node_id: str
    last_up_seq: int
    heartbeat_interval: float
    server_time: str
    control_public_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused(Frame):
    """The session ends: `code` is one of unknown_node, bad_signature, not_accepted, busy."""

    kind: ClassVar[str] = "refused"
    code: str
    message: str
    retry_after: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign(Frame):
    """An execution that should run: a signed Assignment (see `Assignment`)."""

    kind: ClassVar[str] = "assign"
    envelope: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired(Frame):
    """An execution that should be stopped (or, unknown to the server, given up)."""

    kind: ClassVar[str] = "desired"
    execution_id: str
    desired_state: str
    desired_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed(Frame):
    """Everything up to `up_to` is in the database: the agent may forget it."""

    kind: ClassVar[str] = "committed"
    up_to: int


# --- Agent to server ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello(Frame):
    """Who I am, what I can do, and what I believe is running."""

    kind: ClassVar[str] = "hello"
    node_id: str
    signature: str
    boot_id: str
    agent_version: str
    hostname: str
    os: str
    arch: str
    protocol: int = VERSION
    labels: dict[str, str] = field(default_factory=dict)
    capabilities: dict[str, Any] = field(default_factory=dict)
    # Each: execution_id, observed_state, desired_seq, attempt.
    running: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Frame):
    """Still here. Never sequenced: the next one says the same."""

    kind: ClassVar[str] = "heartbeat"
    resources: dict[str, Any] = field(default_factory=dict)
    conditions: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts(Frame):
    """What this machine is (and, when they changed, its labels and capabilities)."""

    kind: ClassVar[str] = "facts"
    facts: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] | None = None
    capabilities: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack(Frame):
    """I have journalled the desired state number `desired_seq` of this execution."""

    kind: ClassVar[str] = "ack"
    execution_id: str
    desired_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class State(Frame):
    """The execution is now in this observed state. `at` is the agent's clock, RFC 3339."""

    kind: ClassVar[str] = "state"
    execution_id: str
    observed_state: str
    attempt: int = 1
    restarts: int = 0
    message: str = ""
    error_code: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowReport(Frame):
    """What the execution did in one interval (docs/semantics.md 1.8); numbered from 1 per execution."""

    kind: ClassVar[str] = "window"
    execution_id: str
    number: int
    started_at: str
    ended_at: str
    messages_in: int = 0
    messages_ok: int = 0
    errors: int = 0
    processor_errors: int = 0
    output_errors: int = 0
    process_alive: bool = True
    restarts: int = 0
    cpu_percent: float | None = None
    rss_bytes: int | None = None
    last_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log(Frame):
    """Lines that the execution wrote; `number` rises by one per execution and chunk."""

    kind: ClassVar[str] = "log"
    execution_id: str
    number: int
    stream: str
    lines: list[str]
    at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultReport(Frame):
    """How the execution ended (docs/semantics.md 4.7)."""

    kind: ClassVar[str] = "result"
    execution_id: str
    status: str
    attempt: int = 1
    output: str = ""
    error: str = ""
    error_code: str = ""
    exit_code: int | None = None
    changed: bool | None = None
    data: Any = None
    truncated: bool = False
    started_at: str = ""
    completed_at: str = ""
    duration_ms: int | None = None


FRAMES: dict[str, type[Frame]] = {
    frame.kind: frame
    for frame in (
        Challenge,
        Welcome,
        Refused,
        Assign,
        Desired,
        Committed,
        Hello,
        Heartbeat,
        Facts,
        Ack,
        State,
        WindowReport,
        Log,
        ResultReport,
    )
}


def _members(kind: type[Frame]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the names of a frame's members, and those that must be there."""
    known = fields(kind)
    required = (f for f in known if f.default is MISSING and f.default_factory is MISSING)
    return tuple(f.name for f in known), frozenset(f.name for f in required)


_MEMBERS = {kind: _members(kind) for kind in FRAMES.values()}
_JSON = json.JSONEncoder(separators=(",", ":"))


def encode(frame: Frame) -> str:
    """Return the frame as one JSON text."""
    names, _ = _MEMBERS[type(frame)]
    return _JSON.encode({"type": frame.kind, **{name: getattr(frame, name) for name in names}})


def decode(text: str | bytes) -> Frame:
    """Read a frame; unknown members are ignored, so that a newer peer may say more.

    Raises ProtocolError.
    """
    if len(text) > MAX_FRAME:
        raise ProtocolError(f"frame of {len(text)} bytes is above {MAX_FRAME}")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError("frame is not JSON") from error
    if not isinstance(value, dict):
        raise ProtocolError("frame is not an object")
    kind = FRAMES.get(str(value.get("type")))
    if kind is None:
        raise ProtocolError(f"unknown frame type {value.get('type')!r}")
    names, required = _MEMBERS[kind]
    if missing := required - value.keys():
        raise ProtocolError(f"{kind.kind} lacks {', '.join(sorted(missing))}")
    return kind(**{name: value[name] for name in names if name in value})


# --- What is signed ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """The signed content of an `assign` frame. Durations in seconds, times RFC 3339 UTC."""

    v: int = VERSION
    execution_id: str
    job_id: str
    job_name: str
    job_version: int
    job_type: str
    namespace: str
    node_id: str
    desired_seq: int
    config: dict[str, Any]
    env: dict[str, str]
    restart_policy: str
    # None: no limit.
    execution_timeout: float | None
    # Length of a health window; `validates` says whether it passes through `validating`.
    interval: float
    validates: bool
    # Start only once this execution (if this node knows it) has ended.
    previous_execution_id: str | None
    not_before: str
    expires_at: str
    nonce: str


def to_assignment(value: Mapping[str, Any]) -> Assignment:
    """Read the payload of a verified envelope, strictly. Raises ProtocolError."""
    names = {f.name for f in fields(Assignment)}
    if value.keys() != names:
        odd = sorted(value.keys() ^ names)
        raise ProtocolError(f"assignment has wrong members: {', '.join(odd)}")
    return Assignment(**value)


def pre_authentication(payload: bytes) -> bytes:
    """Return the bytes that an assignment's signature covers (DSSE's PAE)."""
    kind = ENVELOPE_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def make_envelope(payload: bytes, signature: bytes, fingerprint: str) -> dict[str, str]:
    """Return the envelope of an `assign` frame."""
    return {
        "payload": base64.b64encode(payload).decode(),
        "signature": base64.b64encode(signature).decode(),
        "fingerprint": fingerprint,
    }


def open_envelope(envelope: Mapping[str, Any]) -> tuple[bytes, bytes, str]:
    """Return payload, signature and fingerprint; nothing is verified. Raises ProtocolError."""
    try:
        return (
            base64.b64decode(envelope["payload"], validate=True),
            base64.b64decode(envelope["signature"], validate=True),
            str(envelope["fingerprint"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError("envelope is malformed") from error


def session_message(nonce: str, node_id: str) -> bytes:
    """Return the bytes that an agent signs to open a session."""
    return SESSION_CONTEXT + f"{nonce}\n{node_id}".encode()


def enrol_message(machine_id: str, public_key: str, nonce: str) -> bytes:
    """Return the bytes that an agent signs, with the key it presents, to enrol."""
    return ENROL_CONTEXT + f"{machine_id}\n{public_key}\n{nonce}".encode()
