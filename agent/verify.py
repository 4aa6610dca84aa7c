"""Signatures and envelopes: nothing runs that this module has not let through."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from types import NoneType
from typing import Any

from agent import keys
from agent.protocol import (
    VERSION,
    Assignment,
    ProtocolError,
    open_envelope,
    pre_authentication,
    to_assignment,
)

# How far the window of an assignment may be off, in seconds.
TOLERANCE = 30.0
_NUMBER = (int, float)
_TYPES: dict[str, tuple[type, ...]] = {
    "v": (int,),
    "job_version": (int,),
    "desired_seq": (int,),
    "config": (dict,),
    "env": (dict,),
    "execution_timeout": (*_NUMBER, NoneType),
    "interval": _NUMBER,
    "validates": (bool,),
    "previous_execution_id": (str, NoneType),
}


class AssignmentRefusedError(ValueError):
    """An assignment that must not run; the ids are what it claims of itself, unproven."""

    def __init__(self, reason: str, execution_id: str = "", desired_seq: int = 0) -> None:
        super().__init__(reason)
        self.execution_id = execution_id
        self.desired_seq = desired_seq


class Verifier:
    """Lets assignments through that the pinned key signed, for this node, for now."""

    def __init__(self, control_key: bytes, node_id: str) -> None:
        if not keys.acceptable_key(control_key):
            raise ValueError("the control plane's key is not an acceptable Ed25519 key")
        self._key = control_key
        self._node_id = node_id

    def open(self, envelope: Mapping[str, Any], now: float) -> Assignment:
        """Return the assignment in the envelope; `now` is the control plane's time (Unix, seconds).

        The signature is checked over the bytes as they came, before anything is read from them
        (docs/security.md). Raises AssignmentRefusedError.
        """
        try:
            payload, signature, _ = open_envelope(envelope)
        except ProtocolError as error:
            raise AssignmentRefusedError(str(error)) from error
        if not keys.verify(self._key, signature, pre_authentication(payload)):
            raise AssignmentRefusedError("the signature is not valid", *_claims(payload))
        try:
            assignment = _parse(payload)
            self._check(assignment, now)
        except (ProtocolError, ValueError) as error:
            raise AssignmentRefusedError(str(error), *_claims(payload)) from error
        return assignment

    def _check(self, assignment: Assignment, now: float) -> None:
        if assignment.v != VERSION:
            raise ProtocolError(f"the assignment has version {assignment.v}")
        if assignment.node_id != self._node_id:
            raise ProtocolError("the assignment is for another node")
        if now < datetime.fromisoformat(assignment.not_before).timestamp() - TOLERANCE:
            raise ProtocolError("the assignment is not valid yet")
        if now > datetime.fromisoformat(assignment.expires_at).timestamp() + TOLERANCE:
            raise ProtocolError("the assignment has expired")


def _parse(payload: bytes) -> Assignment:
    value = json.loads(payload, object_pairs_hook=_unique)
    if not isinstance(value, dict):
        raise ProtocolError("the assignment is not an object")
    assignment = to_assignment(value)
    for name, member in value.items():
        allowed = _TYPES.get(name, (str,))
        odd_boolean = isinstance(member, bool) and bool not in allowed
        if odd_boolean or not isinstance(member, allowed):
            raise ProtocolError(f"{name} has a wrong type")
    if not all(isinstance(text, str) for text in assignment.env.values()):
        raise ProtocolError("env holds a value that is not text")
    return assignment


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ProtocolError("the assignment names a member twice")
    return members


def _claims(payload: bytes) -> tuple[str, int]:
    try:
        value = json.loads(payload)
        return str(value["execution_id"]), int(value["desired_seq"])
    except (ValueError, KeyError, TypeError):
        return "", 0
