"""Frames between agent and server: every kind survives the wire, nonsense is refused."""

import json
from dataclasses import MISSING, asdict, fields

import pytest

from agent.protocol import (
    FRAMES,
    MAX_FRAME,
    Ack,
    Assignment,
    ProtocolError,
    decode,
    encode,
    enrol_message,
    make_envelope,
    open_envelope,
    pre_authentication,
    session_message,
    to_assignment,
)

ASSIGNMENT = Assignment(
    execution_id="e", job_id="j", job_name="n", job_version=1, job_type="script", namespace="prod",
    node_id="d", desired_seq=1, config={}, env={}, restart_policy="never", execution_timeout=None,
    interval=10.0, validates=False, previous_execution_id=None, not_before="", expires_at="",
    nonce="x",
)  # fmt: skip


@pytest.mark.parametrize("kind", FRAMES.values(), ids=FRAMES)
def test_every_frame_survives_the_wire(kind):
    needed = [f for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    frame = kind(**{f.name: "x" for f in needed})
    assert decode(encode(frame)) == frame
    assert decode(encode(frame).encode()) == frame


def test_a_newer_peer_may_say_more():
    text = json.dumps({"type": "ack", "execution_id": "e", "desired_seq": 1, "colour": "red"})
    assert decode(text) == Ack(execution_id="e", desired_seq=1)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[" * 100_000,
        "[]",
        "{}",
        '{"type": "nonsense"}',
        '{"type": ["ack"]}',
        '{"type": "ack", "desired_seq": 1}',
        " " * (MAX_FRAME + 1),
    ],
    ids=lambda text: text[:24],
)
def test_what_is_no_frame_is_refused(text):
    with pytest.raises(ProtocolError):
        decode(text)


def test_an_assignment_is_read_strictly():
    value = asdict(ASSIGNMENT)
    assert to_assignment(value) == ASSIGNMENT
    with pytest.raises(ProtocolError, match="colour"):
        to_assignment(value | {"colour": "red"})
    del value["nonce"]
    with pytest.raises(ProtocolError, match="nonce"):
        to_assignment(value)


def test_an_envelope_gives_back_what_was_put_in():
    envelope = make_envelope(b"payload", b"signature", "sha256:x")
    assert open_envelope(envelope) == (b"payload", b"signature", "sha256:x")


@pytest.mark.parametrize(
    "envelope", [{}, {"payload": "!", "signature": "", "fingerprint": ""}, {"payload": None}]
)
def test_a_malformed_envelope_is_refused(envelope):
    with pytest.raises(ProtocolError):
        open_envelope(envelope)


def test_what_is_signed_cannot_be_taken_for_anything_else():
    assert pre_authentication(b"ab") != pre_authentication(b"a") + b"b"
    assert pre_authentication(b"ab").startswith(b"DSSEv1 ")
    assert pre_authentication(b"ab").endswith(b" 2 ab")
    messages = {session_message("a", "b"), enrol_message("a", "b", ""), enrol_message("a", "", "b")}
    assert len(messages) == 3
