"""The shapes of the namespaces and tokens API, for its OpenAPI document."""

from typing import Any

from rest_framework import serializers as s


class Namespace(s.Serializer[Any]):
    """A walled garden of jobs and nodes."""

    name = s.CharField()
    description = s.CharField(required=False)
    require_signatures = s.BooleanField(required=False)
    min_signatures = s.IntegerField(required=False)
    created_at = s.DateTimeField(read_only=True)


class NamespacePage(s.Serializer[Any]):
    """A page of namespaces."""

    items = Namespace(many=True)
    next_token = s.CharField()


class NewToken(s.Serializer[Any]):
    """What a new API token is to be."""

    name = s.CharField()
    ttl = s.CharField(required=False, help_text="Seconds, or a text such as 12h or 90d.")
    scopes = s.ListField(child=s.CharField(), required=False)


class Token(s.Serializer[Any]):
    """One of the caller's API tokens, without its secret."""

    id = s.CharField()
    name = s.CharField()
    shown = s.CharField()
    scopes = s.ListField(child=s.CharField())
    created_at = s.DateTimeField()
    expires_at = s.DateTimeField(allow_null=True)
    last_used_at = s.DateTimeField(allow_null=True)


class IssuedToken(Token):
    """A token that was just made: the only time that its text is given."""

    token = s.CharField()


class TokenList(s.Serializer[Any]):
    """All tokens of the caller."""

    items = Token(many=True)
    next_token = s.CharField()
