"""How REST reads bodies and says no: strict parsers, and problem details for every refusal."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, is_dataclass
from typing import IO, Any, Literal

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, JsonResponse
from rest_framework import exceptions
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.response import Response

from access.authentication import actor_of
from access.problems import Refused
from access.services import record_audit
from jobs.document import MAX_BYTES, Document, parse_document
from jobs.problems import CODES, SpecRefused

logger = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"
API_PREFIXES = ("/api/", "/agent/")
# The database is away, restarts, or holds a lock for too long: it goes away by itself.
PASSING = (OperationalError, InterfaceError)
RETRY_AFTER = "2"
UNAVAILABLE = "The database does not answer at this moment; ask again."


# --- Bodies --------------------------------------------------------------------------------------


class _StrictParser(BaseParser):
    """Reads a body whole, never more than the limit, by the rules of docs/semantics.md 4.8 stage 1.

    The value becomes `request.data`; `request.document` also knows the line of each path.
    """

    kind: Literal["json", "yaml"]

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> dict[str, object]:
        """Return the body's mapping; raises SpecRefused malformed_body or body_too_large."""
        document: Document = parse_document(stream.read(MAX_BYTES + 1), kind=self.kind)
        if parser_context is not None:
            parser_context["request"].document = document
        return document.value


class StrictJsonParser(_StrictParser):
    """JSON as RFC 8259 has it, with unique keys and finite numbers."""

    media_type = "application/json"
    kind = "json"


class StrictYamlParser(_StrictParser):
    """YAML 1.2 core, under its registered name."""

    media_type = "application/yaml"
    kind = "yaml"


class StrictOldYamlParser(StrictYamlParser):
    """YAML under the name it had before RFC 9512."""

    media_type = "application/x-yaml"


class JsonWhateverIsAccepted(DefaultContentNegotiation):
    """Answer JSON even to a client that did not ask for it: a 406 would help nobody."""

    def select_renderer(
        self, request: Request, renderers: Iterable[Any], format_suffix: str | None = None
    ) -> tuple[Any, str]:
        """Return the fitting renderer, or else the first."""
        choices = list(renderers)
        try:
            chosen: tuple[Any, str] = super().select_renderer(request, choices, format_suffix)
        except exceptions.NotAcceptable:
            chosen = choices[0], choices[0].media_type
        return chosen


# --- Refusals ------------------------------------------------------------------------------------


def is_api_path(path: str) -> bool:
    """Say whether a path answers machines, which get problem details and never pages."""
    return path.startswith(API_PREFIXES)


def problem_body(
    request: HttpRequest | Request,
    code: str,
    detail: str = "",
    *,
    hint: str = "",
    errors: Iterable[object] = (),
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the members of one refusal (RFC 9457; docs/semantics.md 4.12)."""
    status, title = CODES[code]
    body: dict[str, Any] = {
        "type": f"urn:jobsite:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail or title,
        "instance": request.path,
        "code": code,
        "component": _component(request),
        "errors": [_plain_error(error) for error in errors],
        "request_id": getattr(request, "request_id", ""),
    }
    if hint:
        body["hint"] = hint
    if details:
        body["details"] = dict(details)
    return body


def problem_page(request: HttpRequest, code: str, detail: str = "") -> JsonResponse:
    """Return a refusal outside the REST framework, as for a path that leads nowhere."""
    body = problem_body(request, code, detail)
    headers = {"Retry-After": RETRY_AFTER} if code == "unavailable" else {}
    return JsonResponse(body, status=body["status"], headers=headers, content_type=PROBLEM_TYPE)


def problem_handler(error: Exception, context: Mapping[str, Any]) -> Response:
    """Turn whatever an API view raised into problem details; what is unforeseen is a logged 500."""
    request: Request = context["request"]
    refusal = _as_refused(error)
    if refusal.code == "internal":
        logger.error("an API view failed", exc_info=error)
    headers = {}
    if isinstance(error, PASSING):
        logger.warning("the database could not be used: %s", error)
        headers["Retry-After"] = RETRY_AFTER
    if refusal.code == "forbidden":
        record_audit(
            actor_of(request),
            f"{request.method} {_route(request)}",
            outcome="denied",
            reason=refusal.detail,
        )
    body = problem_body(
        request,
        refusal.code,
        refusal.detail,
        hint=refusal.hint,
        errors=refusal.errors,
        details=refusal.details,
    )
    if isinstance(error, exceptions.APIException):
        if challenge := getattr(error, "auth_header", None):
            headers["WWW-Authenticate"] = challenge
        if (wait := getattr(error, "wait", None)) is not None:
            headers["Retry-After"] = str(max(1, round(wait)))
    return Response(body, status=body["status"], headers=headers, content_type=PROBLEM_TYPE)


def _as_refused(error: Exception) -> Refused:
    match error:
        case Refused() if error.code in CODES:
            refused = error
        case SpecRefused():
            hint = error.problems[0].hint
            refused = Refused(error.code, str(error), hint=hint, errors=error.problems)
        case exceptions.ValidationError():
            refused = Refused("invalid_value", errors=list(_field_errors(error.detail)))
        case Http404():
            refused = Refused("not_found", "Nothing is here, or you may not see it.")
        case PermissionDenied():
            refused = Refused("forbidden", str(error))
        case RequestDataTooBig():
            refused = Refused("body_too_large", f"At most {MAX_BYTES} bytes are read.")
        case exceptions.APIException():
            code = _CODE_OF_STATUS.get(error.status_code, "internal")
            refused = Refused(code, str(error.detail))
        case OperationalError() | InterfaceError():
            refused = Refused("unavailable", UNAVAILABLE)
        case _:
            detail = "The fault is the server's. The request id finds it in the log."
            refused = Refused("internal", detail)
    return refused


_CODE_OF_STATUS = {
    400: "malformed_body",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "throttled",
    503: "unavailable",
}


def _field_errors(detail: object, path: str = "") -> Iterable[dict[str, str]]:
    """Yield a serializer's errors flat, each with the JSON pointer of its field."""
    if isinstance(detail, Mapping):
        for name, inner in detail.items():
            below = path if name == "non_field_errors" else f"{path}/{name}"
            yield from _field_errors(inner, below)
    elif isinstance(detail, list):
        for index, inner in enumerate(detail):
            is_tree = isinstance(inner, (Mapping, list))
            yield from _field_errors(inner, f"{path}/{index}" if is_tree else path)
    else:
        yield {"path": path, "code": "invalid_value", "message": str(detail)}


def _plain_error(error: object) -> dict[str, Any]:
    """Return a problem's members without the empty ones; the path stays, "" is the whole body."""
    is_row = is_dataclass(error) and not isinstance(error, type)
    members = asdict(error) if is_row else dict(error)  # type: ignore[call-overload]
    filled = {name: value for name, value in members.items() if value not in (None, "")}
    return {"path": "", **filled}


def _component(request: HttpRequest | Request) -> str:
    match = getattr(request, "resolver_match", None)
    view = getattr(match, "func", None)
    return getattr(view, "__module__", "jobsite").split(".")[0]


def _route(request: HttpRequest | Request) -> str:
    match = getattr(request, "resolver_match", None)
    return "/" + match.route if match is not None else request.path
