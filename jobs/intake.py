"""Reads a spec on its way in: who may send it, what is wrong with it, whose signatures it bears.

REST, the browser's editor and the dry run come through here, so all three say the same.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.utils import timezone

from access.models import Namespace, UsedNonce
from access.problems import Refused
from access.queries import Person, may, readable_namespaces
from access.roles import permissions_to_submit
from jobs.document import Document
from jobs.problems import Problem
from jobs.signatures import (
    SignaturePolicy,
    TrustedSigner,
    VerifiedSignature,
    check_signatures,
)
from jobs.spec import JobSpec, parse_spec, peek_spec
from nodes.operations import OPERATIONS

NONCE_LIFE = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """A spec that may be submitted: valid, allowed, its signatures checked."""

    spec: JobSpec
    warnings: tuple[Problem, ...]
    signatures: tuple[VerifiedSignature, ...]


def read_spec(user: Person, document: Document, *, at: str = "", compat: bool = False) -> Intake:
    """Check a submitted spec in the order of docs/semantics.md 4.8 and C10.

    Namespace and permission come first, so that a stranger learns nothing about the rest.
    Raises Refused (`unknown_namespace`, `forbidden`) and SpecRefused.
    """
    value = _part(document.value, at)
    check_permission(user, value)
    verified: tuple[VerifiedSignature, ...] = ()

    def check() -> None:
        nonlocal verified
        verified = _check_signatures(value)

    parsed = parse_spec(document, compat=compat, at=at, after_structure=check)
    return Intake(spec=parsed.spec, warnings=parsed.warnings, signatures=verified)


def check_permission(user: Person, value: Mapping[str, Any]) -> None:
    """Refuse a spec that the user may not submit, told from its head alone.

    A namespace that the user may not see is as unknown as one that does not exist (law 10).
    """
    head = peek_spec(value)
    if head.namespace not in readable_namespaces(user):
        raise Refused(
            "unknown_namespace",
            f"There is no namespace {head.namespace[:63]!r} that you may use.",
            hint="Name one of yours, or ask an administrator for a role in it.",
        )
    operations = [OPERATIONS[name] for name in head.operations if name in OPERATIONS]
    for permission in sorted(
        permissions_to_submit(head.type, [operation.permission for operation in operations])
    ):
        if not may(user, permission, head.namespace):
            raise Refused(
                "forbidden",
                f"A {head.type} job needs {permission} in namespace {head.namespace}.",
            )


def _part(value: Mapping[str, Any], at: str) -> Mapping[str, Any]:
    part: Any = value
    for key in at.split("/")[1:]:
        part = part.get(key) if isinstance(part, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def _check_signatures(value: Mapping[str, Any]) -> tuple[VerifiedSignature, ...]:
    """Check the signatures of a spec as submitted against its namespace's signers."""
    namespace = Namespace.objects.prefetch_related("signers").get(name=peek_spec(value).namespace)
    if not value.get("signatures") and not namespace.require_signatures:
        return ()
    now = timezone.now()
    policy = SignaturePolicy(
        require_signatures=namespace.require_signatures,
        min_signatures=namespace.min_signatures,
        signers=tuple(
            TrustedSigner(
                public_key=base64.b64decode(signer.public_key),
                types=frozenset(signer.job_types),
                runners=frozenset(signer.runners),
                retired_at=signer.retired_at,
            )
            for signer in namespace.signers.all()
        ),
    )

    def is_used(key: bytes, nonce: str) -> bool:
        return UsedNonce.objects.filter(
            public_key=base64.b64encode(key).decode(), nonce=nonce, used_at__gt=now - NONCE_LIFE
        ).exists()

    return check_signatures(value, policy, now=now, is_used=is_used)
