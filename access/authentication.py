"""How a request proves who sent it: a bearer token of the API, or the browser's session."""

from typing import Any

from django.http import HttpRequest
from django.utils import timezone
from knox.settings import knox_settings
from rest_framework.authentication import (
    BaseAuthentication,
    SessionAuthentication,
    get_authorization_header,
)
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from access.queries import find_api_token
from access.services import Actor, mark_token_used


class ApiTokenAuthentication(BaseAuthentication):
    """Take `Authorization: Bearer jst_…`; what the token may do is its user's, cut to its scopes."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """Return user and token, None without such a header; a bad token is 401."""
        scheme, _, text = get_authorization_header(request).partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        token = None
        if text.isascii() and text.startswith(knox_settings.TOKEN_PREFIX.encode()):
            token = find_api_token(text.decode().strip(), timezone.now())
        if token is None:
            raise AuthenticationFailed("The token is unknown, expired or revoked.")
        mark_token_used(token)
        token.user.token_scopes = frozenset(token.scopes)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        """Make a refusal a 401 that says how to come back."""
        return 'Bearer realm="jobsite"'


class BrowserSessionAuthentication(SessionAuthentication):
    """Take the browser's session, with its CSRF token on everything that changes something."""


def actor_of(request: HttpRequest | Request) -> Actor:
    """Return who sends a request, in the audit log's terms."""
    auth = getattr(request, "auth", None)
    user = request.user
    return Actor(
        name=user.get_username() or "anonymous",
        user_id=user.pk,
        token_name=getattr(auth, "name", ""),
        source_ip=request.META.get("REMOTE_ADDR") or None,
        request_id=getattr(request, "request_id", ""),
    )
