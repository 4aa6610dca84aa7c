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
from jobs.object_queries import bytes_named, missing_objects, naming_param
from jobs.problems import Problem, SpecRefused, pointer
from jobs.signatures import (
    SignaturePolicy,
    TrustedSigner,
    VerifiedSignature,
    check_signatures,
)
from jobs.spec import JobSpec, parse_spec, peek_spec, steps_of
from nodes.operations import OPERATIONS, Operation

NONCE_LIFE = timedelta(hours=24)
# What a job may bring to a node at once, so that its assignment fits into a frame.
OBJECT_BYTES = 2 * 1024 * 1024


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
    _check_objects(parsed.spec, document, at)
    return Intake(spec=parsed.spec, warnings=parsed.warnings, signatures=verified)


def _check_objects(spec: JobSpec, document: Document, at: str) -> None:
    """Refuse operations that name a file object which is not there."""
    if not spec.operation_names:
        return
    steps = steps_of(spec.to_json())
    named = [(str(step["operation"]), step.get("params") or {}) for step in steps]
    problems = []
    for index, name in missing_objects(spec.namespace, named):
        inside = ("operations", index) if spec.type == "config" else ()
        path = pointer("config", *inside, "params", naming_param(named[index][0]))
        line, column = document.position(at + path) or (None, None)
        problems.append(
            Problem(
                path=path,
                code="invalid_value",
                message=f"there is no file object {name[:255]} in namespace {spec.namespace}",
                hint="Upload it first: POST /api/v1/files.",
                line=line,
                column=column,
            )
        )
    if not problems and bytes_named(spec.namespace, named) > OBJECT_BYTES:
        message = f"its file objects have more than {OBJECT_BYTES} bytes together"
        hint = "Make several jobs of it."
        problems = [Problem(path="/config", code="invalid_value", message=message, hint=hint)]
    if problems:
        raise SpecRefused("content", problems)


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
    asked = [_asked(user, operation, head.namespace) for operation in operations]
    for permission in sorted(permissions_to_submit(head.type, asked)):
        if not may(user, permission, head.namespace):
            raise Refused(
                "forbidden",
                f"A {head.type} job needs {permission} in namespace {head.namespace}.",
            )


def _asked(user: Person, operation: Operation, namespace: str) -> str:
    """Return the permission that an operation asks of a user: its own, or one taken in its place."""
    has_other = operation.also and may(user, operation.also, namespace)
    return operation.also if has_other else operation.permission


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
