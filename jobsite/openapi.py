"""What the OpenAPI document adds: the two ways to prove who one is, and the shape of refusals."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

_TEXT = {"type": "string"}
REFUSAL = {
    "type": "object",
    "description": "Why a request was refused (RFC 9457); programs go by `code`.",
    "properties": {
        "type": _TEXT,
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
        "instance": _TEXT,
        "code": _TEXT,
        "component": _TEXT,
        "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Problem"}},
        "request_id": _TEXT,
        "hint": _TEXT,
    },
    "required": ["type", "title", "status", "detail", "instance", "code", "component", "errors"],
}


def add_refusals(result: dict[str, Any], **_: object) -> dict[str, Any]:
    """Give every operation the answer that each of them may give: a refusal."""
    result["components"]["schemas"]["Refusal"] = REFUSAL
    shape = {"schema": {"$ref": "#/components/schemas/Refusal"}}
    for path in result["paths"].values():
        for operation in path.values():
            operation["responses"]["default"] = {
                "description": "It was refused.",
                "content": {"application/problem+json": shape},
            }
    return result


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """An API token in the Authorization header."""

    target_class = "access.authentication.ApiTokenAuthentication"
    name = "bearer"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ANN401
        """Describe the header."""
        return {"type": "http", "scheme": "bearer"}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The browser's session cookie."""

    target_class = "access.authentication.BrowserSessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:  # noqa: ANN401
        """Describe the cookie."""
        return {"type": "apiKey", "in": "cookie", "name": "session"}
