"""Becoming a node: machine id, enrolment, and the pinned key of the control plane."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import random
import socket
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import facts, keys
from agent.config import VERSION, Config
from agent.protocol import enrol_message

log = logging.getLogger("jobsite.agent.enrolment")

FIRST_DELAY, LONGEST_DELAY = 1.0, 30.0
_TIMEOUT = 20.0
_ANSWER_LIMIT = 1 << 16
# Answers that another try cannot change.
_FINAL = frozenset({400, 401, 409, 422})


class EnrolmentError(Exception):
    """This machine cannot become a node with what it was given."""


class KeyChangedError(EnrolmentError):
    """The control plane shows another key than the one that was pinned."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this node is, and whom it obeys."""

    node_id: str
    key: keys.NodeKey
    control_key: bytes


def machine_id(folder: Path) -> str:
    """Return the id of this machine; made once for each data folder, as agents may share one."""
    path = folder / "machine-id"
    if not path.exists():
        keys.write_private(path, uuid.uuid4().hex.encode())
    return path.read_text().strip()


async def identify(config: Config) -> Identity:
    """Return who this node is; the first time, enrol and wait until accepted.

    Raises EnrolmentError when waiting longer is of no use.
    """
    key = keys.NodeKey.load(config.data_dir / "node.key")
    known = config.data_dir / "node.json"
    pinned = config.data_dir / "control.pub"
    if known.exists() and pinned.exists():
        node_id = str(json.loads(known.read_text())["node_id"])
        return Identity(node_id, key, base64.b64decode(pinned.read_text()))
    answer = await _enrol(config, key)
    control_key = base64.b64decode(str(answer["control_public_key"]))
    _pin(pinned, control_key)
    keys.write_private(known, json.dumps({"node_id": answer["node_id"]}).encode())
    log.info("enrolled as node %s", answer["node_id"])
    return Identity(str(answer["node_id"]), key, control_key)


def _pin(path: Path, control_key: bytes) -> None:
    if not keys.acceptable_key(control_key):
        raise EnrolmentError("the control plane's key is not an acceptable Ed25519 key")
    if path.exists() and base64.b64decode(path.read_text()) != control_key:
        raise KeyChangedError(
            "the control plane's key is not the one that was pinned; if that is meant, "
            f"remove {path}"
        )
    keys.write_private(path, base64.b64encode(control_key))


async def _enrol(config: Config, key: keys.NodeKey) -> dict[str, Any]:
    delay = FIRST_DELAY
    told = ""
    while True:
        status, answer = await asyncio.to_thread(_post, config.enrol_url, _request(config, key))
        if status == 200 and answer.get("state") == "accepted":
            return answer
        text = _explain(status, answer, with_token=bool(config.token))
        if text != told:
            log.warning("%s", text)
            told = text
        await asyncio.sleep(random.uniform(delay / 2, delay))  # noqa: S311 - jitter
        delay = min(LONGEST_DELAY, delay * 1.5)


def _explain(status: int, answer: dict[str, Any], *, with_token: bool) -> str:
    """Say why there is no answer yet. Raises EnrolmentError when there will be none."""
    detail = str(answer.get("detail") or answer.get("title") or answer.get("error") or "")
    bad_token = status == 403 and with_token and "token" in (detail + str(answer)).lower()
    if status in _FINAL or bad_token:
        raise EnrolmentError(f"the control plane refused this node ({status}): {detail}")
    if status == 202:
        return "waiting for an administrator to accept this node"
    return f"no enrolment yet ({status or 'no connection'}): {detail}"


def _request(config: Config, key: keys.NodeKey) -> dict[str, Any]:
    nonce = os.urandom(16).hex()
    machine = machine_id(config.data_dir)
    return {
        "machine_id": machine,
        "hostname": socket.gethostname(),
        "name": config.name,
        "public_key": key.public,
        "token": config.token,
        "nonce": nonce,
        "signature": key.sign(enrol_message(machine, key.public, nonce)),
        "labels": config.labels,
        "os": "linux",
        "arch": facts.architecture(),
        "agent_version": VERSION,
    }


def _post(url: str, value: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Return the status (0 without an answer) and the body of a POST with JSON."""
    request = urllib.request.Request(  # noqa: S310 - config.py lets http and https through only
        url,
        json.dumps(value).encode(),
        {"Content-Type": "application/json", "User-Agent": f"jobsite-agent/{VERSION}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
            return answer.status, _body(answer.read(_ANSWER_LIMIT))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, _body(error.read(_ANSWER_LIMIT))
    except (OSError, ValueError) as error:
        return 0, {"error": str(error)}


def _body(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
