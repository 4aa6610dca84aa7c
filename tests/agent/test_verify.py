"""Nothing runs that the pinned key did not sign, for this node, for now."""

import json
import os
import time
from dataclasses import asdict, replace

import pytest

from agent import keys, protocol
from agent.verify import AssignmentRefusedError, Verifier
from tests.agent.stub import StubServer


@pytest.fixture
def plane():
    return StubServer()


@pytest.fixture
def verifier(plane):
    return Verifier(keys.public_key(plane.seed), plane.node_id)


def signed(plane, payload, seed=None):
    signature = keys.sign(seed or plane.seed, protocol.pre_authentication(payload))
    return protocol.make_envelope(payload, signature, "")


def test_a_signed_assignment_for_this_node_and_now_is_let_through(plane, verifier):
    order = plane.script("true", env={"A": "1"})
    assert verifier.open(plane.envelope(order), time.time()) == order


def test_an_assignment_signed_by_another_key_is_refused_and_names_what_it_claims(plane, verifier):
    order = plane.script("true", desired_seq=7)
    with pytest.raises(AssignmentRefusedError, match="signature is not valid") as caught:
        verifier.open(plane.envelope(order, os.urandom(32)), time.time())
    assert (caught.value.execution_id, caught.value.desired_seq) == (order.execution_id, 7)


def test_a_signature_over_the_bare_payload_is_refused(plane, verifier):
    payload = json.dumps(asdict(plane.script("true"))).encode()
    bare = protocol.make_envelope(payload, keys.sign(plane.seed, payload), "")
    with pytest.raises(AssignmentRefusedError, match="signature"):
        verifier.open(bare, time.time())


@pytest.mark.parametrize("member", ["payload", "signature"])
def test_an_envelope_that_was_changed_on_the_way_is_refused(plane, verifier, member):
    envelope = plane.envelope(plane.script("true"))
    text = envelope[member]
    envelope[member] = text[:8] + ("A" if text[8] != "A" else "B") + text[9:]
    with pytest.raises(AssignmentRefusedError):
        verifier.open(envelope, time.time())


@pytest.mark.parametrize("envelope", [{}, {"payload": "e30="}, {"payload": 1, "signature": ""}])
def test_an_unsigned_or_malformed_envelope_is_refused(verifier, envelope):
    with pytest.raises(AssignmentRefusedError, match="malformed"):
        verifier.open(envelope, time.time())


def test_an_assignment_for_another_node_is_refused(plane, verifier):
    order = plane.script("true", node_id="another")
    with pytest.raises(AssignmentRefusedError, match="another node"):
        verifier.open(plane.envelope(order), time.time())


@pytest.mark.parametrize(
    ("offset", "passes"),
    [(-3600, False), (-40, False), (-20, True), (0, True), (80, True), (100, False)],
)
def test_the_window_of_an_assignment_holds_with_a_small_tolerance(plane, verifier, offset, passes):
    # Valid from one second ago for a minute; half a minute is tolerated on both sides.
    envelope = plane.envelope(plane.script("true"))
    if passes:
        verifier.open(envelope, time.time() + offset)
    else:
        with pytest.raises(AssignmentRefusedError, match=r"expired|not valid yet"):
            verifier.open(envelope, time.time() + offset)


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"desired_seq": "1"},
        {"desired_seq": True},
        {"validates": 1},
        {"env": {"A": 1}},
        {"config": []},
        {"execution_id": None},
        {"expires_at": "soon"},
    ],
)
def test_a_signed_assignment_of_the_wrong_shape_is_refused(plane, verifier, change):
    order = replace(plane.script("true"), **change)
    with pytest.raises(AssignmentRefusedError):
        verifier.open(plane.envelope(order), time.time())


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace('"v": 1,', '"v": 1, "surprise": 1,'),
        lambda text: text.replace('"v": 1,', '"v": 1, "v": 1,'),
        lambda text: text.replace('"v": 1, ', ""),
        lambda text: f"[{text}]",
        lambda text: "not json",
    ],
)
def test_a_signed_payload_is_read_strictly(plane, verifier, spoil):
    text = json.dumps(asdict(plane.script("true")))
    assert spoil(text) != text
    with pytest.raises(AssignmentRefusedError):
        verifier.open(signed(plane, spoil(text).encode()), time.time())


def test_a_weak_control_key_is_never_pinned():
    with pytest.raises(ValueError, match="acceptable"):
        Verifier(bytes.fromhex("01" + "00" * 31), "node")
