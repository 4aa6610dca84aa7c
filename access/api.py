"""REST for namespaces, and for one's own API tokens."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.auth.models import User
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access import serializers
from access.authentication import actor_of
from access.bodies import flag_of, number_of, read_members, refused, text_of, texts_of, ttl_of
from access.problems import Refused
from access.queries import (
    TokenRow,
    find_namespace,
    may_everywhere,
    namespaces_seen_by,
    token_rows,
)
from access.rest import page_body, paginate, read_page, refuse_unknown
from access.services import (
    NAMESPACE_FIELDS,
    change_namespace,
    create_namespace,
    delete_namespace,
    issue_token,
    revoke_token,
)

if TYPE_CHECKING:
    from access.models import Namespace

TOKEN_TTL = timedelta(days=90)
TOKEN_TTL_MAX = timedelta(days=365)
_SIGNATURES_MAX = 16


class NamespacesView(APIView):
    """Every namespace one may see, and the door for new ones."""

    @extend_schema(operation_id="namespaces_list", responses=serializers.NamespacePage)
    def get(self, request: Request) -> Response:
        page = read_page(request.query_params, orders=("name",), is_descending=False)
        rows, token = paginate(namespaces_seen_by(request.user), page)
        return Response(page_body([_namespace(row) for row in rows], token))

    @extend_schema(
        operation_id="namespaces_create",
        request=serializers.Namespace,
        responses={201: serializers.Namespace},
    )
    def post(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ())
        if not may_everywhere(request.user, "namespace:write"):
            raise Refused("forbidden", "The permission namespace:write is missing everywhere.")
        body = read_members(request, ("name", *NAMESPACE_FIELDS))
        made = create_namespace(text_of(body, "name"), _values(body), actor=actor_of(request))
        return Response(_namespace(made), status=201)


class NamespaceView(APIView):
    """One namespace."""

    @extend_schema(operation_id="namespaces_get", responses=serializers.Namespace)
    def get(self, request: Request, name: str) -> Response:
        refuse_unknown(request.query_params, ())
        return Response(_namespace(find_namespace(request.user, name, "namespace:read")))

    @extend_schema(
        operation_id="namespaces_change",
        request=serializers.Namespace,
        responses=serializers.Namespace,
    )
    def patch(self, request: Request, name: str) -> Response:
        refuse_unknown(request.query_params, ())
        find_namespace(request.user, name, "namespace:write")
        body = read_members(request, NAMESPACE_FIELDS)
        return Response(_namespace(change_namespace(name, _values(body), actor=actor_of(request))))

    @extend_schema(operation_id="namespaces_delete", responses={204: None})
    def delete(self, request: Request, name: str) -> Response:
        refuse_unknown(request.query_params, ())
        find_namespace(request.user, name, "namespace:write")
        delete_namespace(name, actor=actor_of(request))
        return Response(status=204)


class TokensView(APIView):
    """One's own API tokens."""

    @extend_schema(operation_id="tokens_list", responses=serializers.TokenList)
    def get(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ())
        rows = token_rows(request.user, timezone.now())
        return Response(page_body([_token(row) for row in rows], ""))

    @extend_schema(
        operation_id="tokens_issue",
        request=serializers.NewToken,
        responses={201: serializers.IssuedToken},
    )
    def post(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ())
        body = read_members(request, ("name", "ttl", "scopes"))
        name = text_of(body, "name", most=128)
        if not name.strip():
            raise refused("invalid_spec", "name", "is missing")
        user = _account(request)
        ttl = ttl_of(body, "ttl", TOKEN_TTL, TOKEN_TTL_MAX)
        scopes = _scopes(request, texts_of(body, "scopes"))
        token, text = issue_token(user, name, ttl, scopes, actor=actor_of(request))
        (row,) = (r for r in token_rows(user, timezone.now()) if token.digest.startswith(r.id))
        return Response(_token(row) | {"token": text}, status=201)


class TokenView(APIView):
    """One of one's own API tokens."""

    @extend_schema(operation_id="tokens_revoke", responses={204: None})
    def delete(self, request: Request, token_id: str) -> Response:
        refuse_unknown(request.query_params, ())
        revoke_token(_account(request), token_id, actor=actor_of(request))
        return Response(status=204)


def _scopes(request: Request, wanted: list[str]) -> list[str]:
    """Return a new token's scopes: one that was cut down never makes one that reaches further."""
    held: frozenset[str] = getattr(request.user, "token_scopes", frozenset())
    if not held:
        return wanted
    if further := sorted(set(wanted) - held):
        raise Refused("forbidden", f"The token in use does not reach as far as {further[0]}.")
    return wanted or sorted(held)


def _account(request: Request) -> User:
    assert isinstance(request.user, User)
    return request.user


def _values(body: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "description" in body:
        values["description"] = text_of(body, "description")
    if "require_signatures" in body:
        values["require_signatures"] = flag_of(body, "require_signatures")
    if "min_signatures" in body:
        values["min_signatures"] = number_of(body, "min_signatures", 1, _SIGNATURES_MAX)
    return values


def _namespace(row: Namespace) -> dict[str, Any]:
    return {
        "name": row.name,
        "description": row.description,
        "require_signatures": row.require_signatures,
        "min_signatures": row.min_signatures,
        "created_at": row.created_at,
    }


def _token(row: TokenRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "shown": row.shown,
        "scopes": list(row.scopes),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "last_used_at": row.last_used_at,
    }
