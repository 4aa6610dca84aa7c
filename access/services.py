"""Grant and revoke roles, issue and revoke tokens and sign-in links, record audit entries."""

import contextlib
import logging
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import Group, User
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, Q
from django.utils import timezone
from redis.exceptions import RedisError

from access.models import ApiToken, AuditEntry, CustomRole, Namespace, RoleBinding, SignInLink
from access.problems import Refused
from access.queries import digest_of, forget_grants
from access.roles import PERMISSIONS, ROLE_PERMISSIONS

FIRST_LINK_TTL = timedelta(hours=24)
LAST_USED_PRECISION = timedelta(minutes=1)
SIGN_IN_WINDOW = timedelta(minutes=5)
TRIES_OF_ACCOUNT = 5
TRIES_OF_ADDRESS = 50

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who asks for a change, as the audit log names them; the default is the product itself."""

    name: str = "system"
    user_id: int | None = None
    token_name: str = ""
    source_ip: str | None = None
    request_id: str = ""


SYSTEM = Actor()


def record_audit(
    actor: Actor,
    action: str,
    object_kind: str = "",
    object_id: object = "",
    namespace: str = "",
    *,
    outcome: str = "done",
    reason: str = "",
    details: Mapping[str, Any] | None = None,
) -> None:
    """Write who asked for what, in the transaction of the change itself (docs/semantics.md 2.8)."""
    AuditEntry.objects.create(
        actor=actor.name[:150],
        token_name=actor.token_name[:128],
        action=action[:64],
        object_kind=object_kind[:32],
        object_id=str(object_id)[:128],
        namespace=namespace[:63],
        outcome=outcome,
        reason=reason[:1024],
        details=dict(details or {}),
        source_ip=actor.source_ip,
        request_id=actor.request_id[:64],
    )


# --- API tokens ----------------------------------------------------------------------------------


@transaction.atomic
def issue_token(
    user: User,
    name: str,
    ttl: timedelta | None,
    scopes: Iterable[str] = (),
    *,
    actor: Actor | None = None,
) -> tuple[ApiToken, str]:
    """Make a token and return it with its text, which is never to be seen again.

    `scopes` cut it down to these permissions; none means all that its user holds at each use.
    Raises Refused `invalid_value` for an unknown permission.
    """
    wanted = sorted(set(scopes))
    if unknown := [scope for scope in wanted if scope not in PERMISSIONS]:
        raise Refused("invalid_value", f"There is no permission {unknown[0]}.")
    token, text = ApiToken.objects.create(user=user, expiry=ttl, name=name, scopes=wanted)
    record_audit(
        actor or Actor(name=user.get_username(), user_id=user.pk),
        "token.issue",
        "token",
        token.token_key,
        details={"name": name, "owner": user.get_username(), "scopes": wanted},
    )
    return token, text


@transaction.atomic
def revoke_token(user: User, token_id: str, *, actor: Actor) -> None:
    """Delete one of a person's own tokens, named by the first 32 digits of its digest.

    Raises Refused `not_found` when the person has no such token.
    """
    token = ApiToken.objects.filter(user=user, digest__startswith=token_id).first()
    if token is None or len(token_id) != 32:
        raise Refused("not_found", "You have no such token.")
    record_audit(actor, "token.revoke", "token", token.token_key, details={"name": token.name})
    token.delete()


def mark_token_used(token: ApiToken) -> None:
    """Keep when a token was last used, to the minute: reading an API must not write each time."""
    now = timezone.now()
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - LAST_USED_PRECISION)
    if token.last_used_at is None or token.last_used_at < now - LAST_USED_PRECISION:
        ApiToken.objects.filter(stale, digest=token.digest).update(last_used_at=now)


# --- Sign-in links -------------------------------------------------------------------------------


def make_sign_in_link(user: User, ttl: timedelta = FIRST_LINK_TTL) -> str:
    """Make a link that signs one person in once, and return its secret: 256 random bits."""
    secret = secrets.token_urlsafe(32)
    SignInLink.objects.create(digest=digest_of(secret), user=user, expires_at=timezone.now() + ttl)
    return secret


@transaction.atomic
def redeem_sign_in_link(secret: str, *, source_ip: str | None = None) -> User | None:
    """Use a link up and return whom it signs in; None when it is used, expired or unknown."""
    now = timezone.now()
    links = SignInLink.objects.filter(digest=digest_of(secret))
    # One statement on one table: of two clicks at once only one finds the row unused.
    if links.filter(used_at=None, expires_at__gt=now).update(used_at=now) != 1:
        return None
    user = links.select_related("user").get().user
    if not user.is_active:
        return None
    actor = Actor(name=user.get_username(), user_id=user.pk, source_ip=source_ip)
    record_audit(actor, "session.open_by_link")
    return user


# --- Guessing passwords --------------------------------------------------------------------------


def is_sign_in_held(name: str, address: str) -> bool:
    """Count a try to sign in; True when this account and address, or the address, had too many.

    The counts live in the cache: losing them costs an attacker's wait, never an owner's access.
    """
    try:
        return any(_count_try(key) > most for key, most in _try_keys(name, address).items())
    except RedisError:
        logger.warning("sign-in tries are not counted while the cache is away")
        return False


def forget_sign_in_tries(name: str, address: str) -> None:
    """Start counting anew for an account and address after the right password."""
    with contextlib.suppress(RedisError):
        cache.delete(next(iter(_try_keys(name, address))))


def _try_keys(name: str, address: str) -> dict[str, int]:
    both = digest_of(f"{name.casefold()}\0{address}")
    return {f"sign-in:{both}": TRIES_OF_ACCOUNT, f"sign-in:{digest_of(address)}": TRIES_OF_ADDRESS}


def _count_try(key: str) -> int:
    cache.add(key, 0, SIGN_IN_WINDOW.total_seconds())
    try:
        return int(cache.incr(key))
    except ValueError:  # it ran out between the two calls
        return 1


# --- Roles ---------------------------------------------------------------------------------------


@transaction.atomic
def grant_role(
    holder: User | Group, role: str, namespace: str | None, *, actor: Actor = SYSTEM
) -> RoleBinding:
    """Give a user or a group a role in one namespace, or with None in all; twice is once.

    Raises Refused `invalid_value` for an unknown role, `unknown_namespace` for an unknown name.
    """
    if role not in ROLE_PERMISSIONS and not CustomRole.objects.filter(name=role).exists():
        raise Refused("invalid_value", f"There is no role {role}.")
    if namespace is not None and not Namespace.objects.filter(name=namespace).exists():
        raise Refused("unknown_namespace", f"There is no namespace {namespace}.")
    binding, is_new = RoleBinding.objects.get_or_create(
        **_subject(holder), role=role, namespace_id=namespace
    )
    if is_new:
        _audit_role(actor, "role.grant", holder, role, namespace)
    return binding


@transaction.atomic
def revoke_role(
    holder: User | Group, role: str, namespace: str | None, *, actor: Actor = SYSTEM
) -> bool:
    """Take a role back; False when it was not held."""
    held = RoleBinding.objects.filter(**_subject(holder), role=role, namespace_id=namespace)
    removed, _ = held.delete()
    if removed:
        _audit_role(actor, "role.revoke", holder, role, namespace)
    return bool(removed)


def _subject(holder: User | Group) -> dict[str, Any]:
    if isinstance(holder, User):
        forget_grants(holder)
        return {"user": holder, "group": None}
    return {"user": None, "group": holder}


def _audit_role(
    actor: Actor, action: str, holder: User | Group, role: str, namespace: str | None
) -> None:
    kind = "user" if isinstance(holder, User) else "group"
    record_audit(actor, action, kind, str(holder), namespace or "", details={"role": role})


# --- Namespaces ----------------------------------------------------------------------------------

_NAMESPACE_RE = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
NAMESPACE_FIELDS = ("description", "require_signatures", "min_signatures")


@transaction.atomic
def create_namespace(name: str, values: Mapping[str, Any], *, actor: Actor = SYSTEM) -> Namespace:
    """Make a namespace with these of NAMESPACE_FIELDS. Raises Refused: invalid_value, conflict."""
    if not _NAMESPACE_RE.fullmatch(name):
        raise Refused(
            "invalid_value",
            "A namespace's name has 1 to 63 small letters, digits, '.', '_' or '-', and begins and "
            "ends with a letter or digit.",
        )
    made, is_new = Namespace.objects.get_or_create(name=name, defaults=dict(values))
    if not is_new:
        raise Refused("conflict", f"There is a namespace {name} already.")
    record_audit(actor, "namespace.create", "namespace", name, name, details=values)
    return made


@transaction.atomic
def change_namespace(name: str, values: Mapping[str, Any], *, actor: Actor = SYSTEM) -> Namespace:
    """Change these of NAMESPACE_FIELDS of a namespace. Raises Refused `not_found`."""
    namespace = Namespace.objects.select_for_update(no_key=True).filter(name=name).first()
    if namespace is None:
        raise Refused("not_found", f"There is no namespace {name}.")
    changed = {key: value for key, value in values.items() if getattr(namespace, key) != value}
    if changed:
        old = {key: getattr(namespace, key) for key in changed}
        for key, value in changed.items():
            setattr(namespace, key, value)
        namespace.save(update_fields=list(changed))
        details = {"old": old, "new": changed}
        record_audit(actor, "namespace.change", "namespace", name, name, details=details)
    return namespace


@transaction.atomic
def delete_namespace(name: str, *, actor: Actor = SYSTEM) -> None:
    """Delete an empty namespace with its role bindings. Raises Refused: not_found, conflict."""
    namespace = Namespace.objects.filter(name=name).first()
    if namespace is None:
        raise Refused("not_found", f"There is no namespace {name}.")
    try:
        with transaction.atomic():
            namespace.delete()
    except (ProtectedError, IntegrityError) as error:
        raise Refused(
            "conflict",
            f"The namespace {name} has jobs, nodes or files.",
            hint="History counts too: rows of deleted jobs and nodes are kept.",
        ) from error
    record_audit(actor, "namespace.delete", "namespace", name, name)
