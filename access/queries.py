"""Who may do what, in which namespace: the only place where a permission is computed."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import TypeAlias

from django.contrib.auth.models import AnonymousUser, User
from django.contrib.postgres.expressions import ArraySubquery
from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models import Case, OuterRef, Q, QuerySet, Subquery, When
from django.utils.crypto import constant_time_compare
from knox.crypto import hash_token

from access.models import ApiToken, CustomRole, Namespace, RoleBinding, SignInLink
from access.problems import Refused
from access.roles import permissions_of

Person: TypeAlias = User | AnonymousUser


@dataclass(frozen=True, slots=True)
class Grants:
    """What one person may do: in every namespace, those to come included, and in each one."""

    everywhere: frozenset[str] = frozenset()
    within: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))

    def cut_down(self, scopes: frozenset[str]) -> "Grants":
        """Return what is left of it for a token with these scopes; none means no cut."""
        if not scopes:
            return self
        within = {name: kept for name, held in self.within.items() if (kept := held & scopes)}
        return Grants(self.everywhere & scopes, within)


def grants_of(user: Person) -> Grants:
    """Return what a person may do, read once per user object, that is once per request."""
    kept = getattr(user, "_grants", None)
    if kept is None:
        scopes: frozenset[str] = getattr(user, "token_scopes", frozenset())
        kept = _read_grants(user).cut_down(scopes)
        user._grants = kept  # type: ignore[union-attr]
    return kept


def forget_grants(user: Person) -> None:
    """Let the next question about this user object read the bindings again."""
    vars(user).pop("_grants", None)


def may(user: Person, permission: str, namespace: str) -> bool:
    """Say whether a person holds a permission in a namespace (docs/semantics.md 2.6, 4.10)."""
    return permission in grants_of(user).within.get(namespace, frozenset())


def may_everywhere(user: Person, permission: str) -> bool:
    """Say whether a person holds a permission in every namespace, those to come included."""
    return permission in grants_of(user).everywhere


def require(user: Person, permission: str, namespace: str) -> None:
    """Refuse with not_found outside the person's namespaces, with forbidden inside (law 10)."""
    if namespace not in grants_of(user).within:
        raise Refused("not_found", "Nothing is here, or you may not see it.")
    if not may(user, permission, namespace):
        raise Refused(
            "forbidden", f"The permission {permission} is missing in namespace {namespace}."
        )


def permissions_in(user: Person, namespace: str) -> frozenset[str]:
    """Return every permission a person holds in a namespace."""
    return grants_of(user).within.get(namespace, frozenset())


def namespaces_for(user: Person, permission: str) -> tuple[str, ...]:
    """Return the names of the namespaces in which a person holds a permission, sorted."""
    within = grants_of(user).within
    return tuple(sorted(name for name, held in within.items() if permission in held))


def readable_namespaces(user: Person) -> tuple[str, ...]:
    """Return the names of the namespaces in which a person holds anything at all, sorted."""
    return tuple(sorted(grants_of(user).within))


def namespaces_seen_by(user: Person) -> QuerySet[Namespace]:
    """Return the namespaces that a person may look at."""
    return Namespace.objects.filter(name__in=namespaces_for(user, "namespace:read"))


def find_namespace(user: Person, name: str, permission: str) -> Namespace:
    """Return a namespace by its name. Raises Refused: not_found, forbidden (law 10)."""
    require(user, permission, name)
    return Namespace.objects.get(name=name)


def _read_grants(user: Person) -> Grants:
    if not user.is_active or not isinstance(user, User):
        return Grants()
    if user.is_superuser:
        every = permissions_of(["admin"], {})
        names = Namespace.objects.values_list("name", flat=True)
        return Grants(every, dict.fromkeys(names, every))
    return _from_bindings(_bindings_of(user))


def _bindings_of(user: User) -> list[tuple[str, str | None, list[str] | None, list[str] | None]]:
    """Return role, namespace, a custom role's permissions and, for "all", every namespace."""
    custom = CustomRole.objects.filter(name=OuterRef("role")).values("permissions")
    every_name = ArraySubquery(Namespace.objects.order_by("name").values("name"))
    rows = RoleBinding.objects.filter(Q(user=user) | Q(group__user=user)).values_list(
        "role",
        "namespace",
        Subquery(custom),
        Case(When(namespace=None, then=every_name)),
    )
    return list(rows)


def _from_bindings(
    rows: list[tuple[str, str | None, list[str] | None, list[str] | None]],
) -> Grants:
    everywhere: frozenset[str] = frozenset()
    within: dict[str, frozenset[str]] = {}
    for role, namespace, custom, every_name in rows:
        held = permissions_of([role], {} if custom is None else {role: custom})
        if namespace is None:
            everywhere |= held
        for name in [namespace] if namespace is not None else every_name or []:
            within[name] = within.get(name, frozenset()) | held
    return Grants(everywhere, {name: held for name, held in within.items() if held})


# --- Tokens and links: only digests are stored, so they are looked up by digest ------------------


def digest_of(secret: str) -> str:
    """Return what is stored of a secret of 256 random bits: no salt or stretching is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def find_api_token(text: str, now: datetime) -> ApiToken | None:
    """Return the valid token of an active user behind a bearer text."""
    live = Q(expiry=None) | Q(expiry__gt=now)
    tokens = ApiToken.objects.select_related("user").filter(live, user__is_active=True)
    found: ApiToken | None = tokens.filter(digest=hash_token(text)).first()
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """One API token as its owner sees it: never the secret."""

    id: str
    name: str
    shown: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    is_expired: bool


def token_rows(user: Person, now: datetime) -> tuple[TokenRow, ...]:
    """Return a person's own tokens, newest first."""
    tokens = ApiToken.objects.filter(user_id=user.pk).order_by("-created")
    return tuple(
        TokenRow(
            id=token.digest[:32],
            name=token.name,
            shown=f"{token.token_key}…",
            scopes=tuple(token.scopes),
            created_at=token.created,
            expires_at=token.expiry,
            last_used_at=token.last_used_at,
            is_expired=token.expiry is not None and token.expiry <= now,
        )
        for token in tokens
    )


def link_owner(token: str, now: datetime) -> str | None:
    """Return whom an unused, unexpired sign-in link would sign in, without using it up."""
    links = SignInLink.objects.filter(
        digest=digest_of(token), used_at=None, expires_at__gt=now, user__is_active=True
    )
    return links.values_list("user__username", flat=True).first()


# --- Open pages: when must they be asked for their right to look again? --------------------------


def access_epoch() -> int:
    """Return a number that rises whenever anyone's rights or sessions may have shrunk.

    Triggers raise it in the transaction that changes bindings, roles, group members, accounts or
    sessions, so no door can forget to.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT value FROM access_epoch")
        return int(cursor.fetchone()[0])


def user_of_session(session_key: str, user_id: int, proof: str, now: datetime) -> User | None:
    """Return the user as stored now, if active and still signed in by this session.

    `proof` is the session's hash of the password: a new password ends all older sessions.
    """
    if not Session.objects.filter(session_key=session_key, expire_date__gt=now).exists():
        return None
    user = User.objects.filter(pk=user_id, is_active=True).first()
    is_current = user is not None and constant_time_compare(proof, user.get_session_auth_hash())
    return user if is_current else None
