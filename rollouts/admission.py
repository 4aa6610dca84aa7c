"""Lets agents in: who they are, what they have, and what greets them, for a whole crowd at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from agent.protocol import VERSION, Frame, Hello, Refused, Welcome, session_message
from nodes.keys import control_key, is_signed_by
from nodes.presence import record_presence
from nodes.queries import find_nodes_for_sessions
from nodes.services import Greeting, connect_nodes
from nodes.states import EnrolmentState
from rollouts.delivery import Inventory, meet_nodes
from rollouts.reports import BadReport, clean_json

_NO_NODE = Refused(code="unknown_node", message="no such node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Knock:
    """A hello, and the challenge that it answers."""

    hello: Hello
    nonce: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A session that may begin: the frames that greet it."""

    node_id: UUID
    welcome: Welcome
    frames: list[Frame]


def admit_all(
    knocks: Sequence[Knock], gateway: str, now: datetime | None = None
) -> list[Admission | Refused]:
    """Check hellos against their nodes' keys and open their sessions; the answers in their order.

    The number of statements is fixed (law 5). When a node knocks several times at once the last
    one is let in: the others have been given up by then.
    """
    now = now or timezone.now()
    claimed = [_claimed_node(knock.hello) for knock in knocks]
    known = find_nodes_for_sessions({pk for pk in claimed if isinstance(pk, UUID)})
    answers: list[Admission | Refused] = []
    proven: dict[UUID, int] = {}
    for place, (knock, node_id) in enumerate(zip(knocks, claimed, strict=True)):
        refusal = node_id if isinstance(node_id, Refused) else _refusal(knock, node_id, known)
        answers.append(refusal or Refused(code="busy", message="a newer session was opened"))
        if refusal is None and isinstance(node_id, UUID):
            proven[node_id] = place
    if proven:
        hellos = {node_id: knocks[place].hello for node_id, place in proven.items()}
        for node_id, answer in _open(hellos, gateway, now).items():
            answers[proven[node_id]] = answer
    return answers


def _open(
    hellos: dict[UUID, Hello], gateway: str, now: datetime
) -> dict[UUID, Admission | Refused]:
    greetings = {node_id: greeting_of_hello(hello) for node_id, hello in hellos.items()}
    arrivals = connect_nodes(greetings, now)
    record_presence(dict.fromkeys(arrivals, now), gateway, claim=True)
    frames = meet_nodes(
        {
            node_id: Inventory(
                known=known_seqs(hellos[node_id].running), away_since=arrival.away_since
            )
            for node_id, arrival in arrivals.items()
        },
        now,
    )
    answers: dict[UUID, Admission | Refused] = dict.fromkeys(
        hellos, Refused(code="not_accepted", message="the node is trusted no more")
    )
    for node_id, arrival in arrivals.items():
        welcome = Welcome(
            node_id=str(node_id),
            last_up_seq=arrival.last_up_seq,
            heartbeat_interval=settings.HEARTBEAT_INTERVAL.total_seconds(),
            server_time=timezone.now().isoformat(),
            control_public_key=control_key().public_key,
        )
        answers[node_id] = Admission(node_id=node_id, welcome=welcome, frames=frames[node_id])
    return answers


def _claimed_node(hello: Hello) -> UUID | Refused:
    if hello.protocol != VERSION:
        return Refused(code="not_accepted", message=f"protocol {VERSION} is needed")
    try:
        return UUID(str(hello.node_id))
    except ValueError:
        return _NO_NODE


def _refusal(knock: Knock, node_id: UUID, known: dict[UUID, tuple[str, str]]) -> Refused | None:
    """Say why a node gets no session, None if it gets one."""
    if node_id not in known:
        return _NO_NODE
    public_key, state = known[node_id]
    message = session_message(knock.nonce, str(node_id))
    if not is_signed_by(public_key, knock.hello.signature, message):
        return Refused(code="bad_signature", message="the signature is not this node's")
    if state != EnrolmentState.ACCEPTED:
        return Refused(code="not_accepted", message=f"the node is {state}", retry_after=10.0)
    return None


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


def greeting_of_hello(hello: Hello) -> Greeting:
    """Return what a hello says of its machine; what cannot be stored is as if it were not said."""
    try:
        labels, capabilities = clean_json(hello.labels), clean_json(hello.capabilities)
    except BadReport:
        labels, capabilities = None, None
    return greeting_of(hello, labels=labels, capabilities=capabilities)


def greeting_of(
    frame: Any,  # noqa: ANN401 - hello or facts
    *,
    labels: object,
    capabilities: object,
    facts: object = None,
) -> Greeting:
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
        facts=facts if isinstance(facts, dict) else None,
    )
