"""Joining: tokens, machines that ask to enrol, and the administrator's word about them."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import F
from django.utils import timezone

from access.models import Namespace
from access.problems import Refused
from access.queries import digest_of
from access.services import Actor, record_audit
from nodes.keys import KeyRefused, fingerprint_of, read_public_key
from nodes.models import EnrolmentToken, Node, NodeEvent
from nodes.selector import check_label_key, check_label_value
from nodes.states import ConnectionState, EnrolmentState

LABELS_MAX = 64
TOKEN_PREFIX = "jse_"  # noqa: S105 - what such a secret begins with
TOKEN_TTL = timedelta(hours=1)
TOKEN_TTL_MAX = timedelta(days=30)
TOKEN_USES_MAX = 100_000
_HELD = (EnrolmentState.PENDING, EnrolmentState.ACCEPTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """What a machine says of itself when it asks to join; its signature was verified."""

    machine_id: str
    public_key: str
    hostname: str
    name: str = ""
    os: str = ""
    arch: str = ""
    agent_version: str = ""
    hardware_fingerprint: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    capabilities: Mapping[str, Any] = field(default_factory=dict)


@transaction.atomic
def issue_enrolment_token(
    namespace: str,
    *,
    labels: Mapping[str, str] | None = None,
    auto_accept: bool = False,
    max_uses: int = 1,
    ttl: timedelta = TOKEN_TTL,
    actor_name: str = "",
    actor: Actor | None = None,
) -> str:
    """Make a token and return its text, which is never to be seen again (docs/security.md).

    Raises Refused: unknown_namespace, invalid_value.
    """
    actor = actor or Actor(name=actor_name or "system")
    if not Namespace.objects.filter(pk=namespace).exists():
        raise Refused("unknown_namespace", f"There is no namespace {namespace!r}.")
    check_labels(labels or {})
    if max_uses < 1 or not timedelta(0) < ttl <= TOKEN_TTL_MAX:
        raise Refused("invalid_value", "A token has at least one use and lives up to 30 days.")
    text = TOKEN_PREFIX + secrets.token_urlsafe(32)
    token = EnrolmentToken.objects.create(
        digest=digest_of(text),
        namespace_id=namespace,
        labels=dict(labels or {}),
        auto_accept=auto_accept,
        max_uses=max_uses,
        expires_at=timezone.now() + ttl,
        created_by="" if actor.name == "system" else actor.name[:150],
    )
    details = {"labels": token.labels, "auto_accept": auto_accept, "max_uses": max_uses}
    record_audit(
        actor, "enrolment_token.issue", "enrolment_token", token.pk, namespace, details=details
    )
    return text


@transaction.atomic
def revoke_enrolment_token(token_id: int, actor: Actor) -> None:
    """End a token: no machine can join by it any more. Raises Refused `not_found`."""
    token = EnrolmentToken.objects.filter(pk=token_id).first()
    if token is None:
        raise Refused("not_found", "There is no such enrolment token.")
    details = {"uses": token.uses, "max_uses": token.max_uses}
    record_audit(
        actor,
        "enrolment_token.revoke",
        "enrolment_token",
        token.pk,
        token.namespace_id,
        details=details,
    )
    token.delete()


def enrol_node(token: str, newcomer: Newcomer, now: datetime | None = None) -> Node:
    """Let a machine ask to join, and return its node, pending or accepted.

    The same machine with the same key gets the same node again and needs no token (it asks again
    while it waits). Raises Refused: invalid_value, unauthenticated, conflict, forbidden
    (docs/security.md, docs/semantics.md X84).
    """
    now = now or timezone.now()
    try:
        raw_key = read_public_key(newcomer.public_key)
    except KeyRefused as error:
        raise Refused("invalid_value", str(error)) from error
    try:
        with transaction.atomic():
            known = _known_node(newcomer)
            return known or _create_node(token, newcomer, fingerprint_of(raw_key), now)
    except IntegrityError as error:
        raise Refused("conflict", "This machine is being enrolled already.") from error


def check_labels(labels: Mapping[str, str]) -> None:
    """Check labels that a person set. Raises Refused `invalid_value`."""
    if len(labels) > LABELS_MAX:
        raise Refused("invalid_value", f"A node has at most {LABELS_MAX} labels.")
    for key, value in labels.items():
        if wrong := check_label_key(key) or check_label_value(value):
            raise Refused("invalid_value", wrong)


def usable_labels(labels: object) -> dict[str, str]:
    """Return those labels of a machine's claim that are labels; the rest is left out."""
    if not isinstance(labels, Mapping):
        return {}
    sound = {
        key: value
        for key, value in labels.items()
        if isinstance(key, str)
        and isinstance(value, str)
        and not (check_label_key(key) or check_label_value(value))
    }
    return dict(sorted(sound.items())[:LABELS_MAX])


def _known_node(newcomer: Newcomer) -> Node | None:
    rows = Node.objects.filter(machine_id=newcomer.machine_id).exclude(
        connection_state=ConnectionState.DELETED
    )
    for node in rows.order_by("-created_at"):
        same_key = node.public_key == newcomer.public_key
        if node.enrolment_state == EnrolmentState.REJECTED:
            raise Refused("forbidden", "An administrator turned this machine away.")
        if node.enrolment_state == EnrolmentState.REVOKED and same_key:
            raise Refused("forbidden", "This machine's key was revoked.")
        if node.enrolment_state in _HELD and not same_key:
            raise Refused("conflict", "This machine is enrolled with another key.")
        if node.enrolment_state in _HELD:
            return node
    return None


def _create_node(token: str, newcomer: Newcomer, fingerprint: str, now: datetime) -> Node:
    used = _use_token(token, now)
    reported = usable_labels(newcomer.labels)
    accepted = used.auto_accept
    node = Node.objects.create(
        namespace_id=used.namespace_id,
        name=(newcomer.name or newcomer.hostname)[:128],
        hostname=newcomer.hostname[:253],
        machine_id=newcomer.machine_id,
        os=newcomer.os[:32],
        arch=newcomer.arch[:32],
        agent_version=newcomer.agent_version[:32],
        hardware_fingerprint=newcomer.hardware_fingerprint[:128],
        reported_labels=reported,
        operator_labels=used.labels,
        labels={**reported, **used.labels},
        capabilities=dict(newcomer.capabilities),
        public_key=newcomer.public_key,
        fingerprint=fingerprint,
        enrolment_state=EnrolmentState.ACCEPTED if accepted else EnrolmentState.PENDING,
        enrolled_at=now if accepted else None,
        enrolled_by=used.created_by if accepted else "",
        changed_at=now if accepted else None,
    )
    word = "accepted by its token" if accepted else "waits to be accepted"
    NodeEvent.objects.create(
        node=node, at=now, kind="node.enrolled", message=f"{node.hostname} joined: {word}"
    )
    return node


def _use_token(token: str, now: datetime) -> EnrolmentToken:
    """Take one use; the guard is in the UPDATE, so two machines never share the last one."""
    digest = digest_of(token)
    used = EnrolmentToken.objects.filter(
        digest=digest, expires_at__gt=now, uses__lt=F("max_uses")
    ).update(uses=F("uses") + 1)
    if not used:
        raise Refused("unauthenticated", "The enrolment token is unknown, expired or used up.")
    return EnrolmentToken.objects.get(digest=digest)
