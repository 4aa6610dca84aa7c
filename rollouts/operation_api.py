"""REST for typed operations: one address for each path of the registry, all made from it."""

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from django.urls import URLPattern, path
from drf_spectacular.utils import OpenApiParameter, extend_schema, inline_serializer
from rest_framework import serializers as s
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.authentication import actor_of
from access.problems import Refused
from access.rest import refuse_unknown
from nodes.operations import TYPED_OPERATIONS, Operation, Param, ParamType
from rollouts import operate, serializers

# Seconds that a call waits for its nodes.
WAIT_DEFAULT, WAIT_MAX = 30, 60
# What the ASGI handler tells the second making of a response: whose answers it waited for.
WAITED = "jobsite.waited"
_CONTROLS = ("namespace", "wait", "reason")
_IN_QUERY = frozenset({"GET", "DELETE"})
# A value in a path may hold slashes where it is the last: images, fingerprints of keys.
_DEEP = frozenset({"image", "fingerprint"})
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


class OperationView(APIView):
    """One path: the operations on it, by method."""

    rows: ClassVar[Mapping[str, Operation]] = {}

    def answer(self, request: Request, target: str, **in_path: str) -> Response:
        """Submit the call's job, or tell what its nodes have answered meanwhile."""
        waited = getattr(request._request, "scope", {}).get(WAITED)
        if waited:
            return _told(UUID(waited))
        operation = self.rows[str(request.method)]
        wait = _wait(request)
        job = operate.call(
            request.user,
            actor_of(request),
            operate.Call(
                operation=operation,
                target=target,
                namespace=request.query_params.get("namespace", "default"),
                params=_params(request, operation, in_path),
                reason=request.query_params.get("reason", ""),
            ),
        )
        response = _told(job.pk)
        if wait:
            # Read by the ASGI handler, which waits without a thread.
            response.wait = operate.Wait(job_id=job.pk, seconds=wait)  # type: ignore[attr-defined]
        return response


def _told(job_id: UUID) -> Response:
    answers = operate.answers_of(job_id)
    body: dict[str, Any] = {"job_id": str(job_id), "results": answers.results}
    if answers.is_cut:
        body["more"] = f"/api/v1/jobs/{job_id}/results"
    if not answers.is_all_in:
        body["missing"] = answers.missing
    return Response(body, status=200 if answers.is_all_in else 202)


def _wait(request: Request) -> int:
    text = request.query_params.get("wait", str(WAIT_DEFAULT))
    if not text.isdecimal() or len(text) > 3 or int(text) > WAIT_MAX:
        raise Refused("invalid_value", f"wait is a whole number of seconds from 0 to {WAIT_MAX}.")
    return int(text)


def _params(request: Request, operation: Operation, in_path: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters of a call from its path, its query (GET, DELETE) and its body."""
    known = {param.name: param for param in operation.params}
    in_query = known if operation.method in _IN_QUERY else {}
    refuse_unknown(request.query_params, (*_CONTROLS, *(in_query.keys() - in_path.keys())))
    given: dict[str, Any] = {}
    if operation.method != "GET" and isinstance(request.data, Mapping):
        given.update(request.data)
    for name, param in in_query.items():
        if texts := request.query_params.getlist(name):
            given[name] = _value(param, texts)
    if twice := sorted(given.keys() & in_path.keys()):
        raise Refused("invalid_value", f"{twice[0]} stands in the path already.")
    return given | {name: _value(known[name], [text]) for name, text in in_path.items()}


def _value(param: Param, texts: list[str]) -> object:
    """Read a parameter from text; what cannot be read stays text, and is refused by its type."""
    text = texts[-1]
    match param.type:
        case ParamType.INTEGER:
            return int(text) if text.removeprefix("-").isdecimal() and len(text) < 19 else text
        case ParamType.BOOLEAN:
            return _FLAGS.get(text.lower(), text)
        case ParamType.TEXTS:
            return texts
    return text


# --- Addresses and their description ---------------------------------------------------------------

_FIELDS: dict[ParamType, Any] = {
    ParamType.TEXT: s.CharField,
    ParamType.INTEGER: s.IntegerField,
    ParamType.BOOLEAN: s.BooleanField,
    ParamType.TEXTS: lambda **more: s.ListField(child=s.CharField(), **more),
    ParamType.MAP: lambda **more: s.DictField(child=s.CharField(), **more),
    ParamType.OBJECTS: lambda **more: s.ListField(child=s.DictField(), **more),
}
_QUERY_TYPES = {ParamType.INTEGER: int, ParamType.BOOLEAN: bool}


def _field(param: Param) -> s.Field[Any, Any, Any, Any]:
    if param.choices:
        return s.ChoiceField(choices=param.choices, required=param.required)
    made: s.Field[Any, Any, Any, Any] = _FIELDS[param.type](required=param.required)
    return made


def _described(operation: Operation) -> Any:  # noqa: ANN401 - a decorator
    beside = [param for param in operation.params if param.name not in operation.path_params]
    controls = [
        OpenApiParameter("namespace", str),
        OpenApiParameter("wait", int, description=f"Seconds, 0 to {WAIT_MAX}; {WAIT_DEFAULT}."),
        OpenApiParameter("reason", str, description="Why, for the audit log."),
    ]
    body = None
    if operation.method in _IN_QUERY:
        controls += [
            OpenApiParameter(param.name, _QUERY_TYPES.get(param.type, str), required=param.required)
            for param in beside
        ]
    elif beside:
        name = "".join(part.title() for part in operation.name.split("."))
        body = inline_serializer(name, {param.name: _field(param) for param in beside})
    shape = serializers.OperationAnswers
    return extend_schema(
        operation_id=operation.name.replace(".", "_"),
        summary=f"{operation.name} ({operation.kind}; needs {operation.permission})",
        tags=["operations"],
        parameters=controls,
        request=body,
        responses={200: shape, 202: shape},
    )


def _view_of(rows: Mapping[str, Operation]) -> Any:  # noqa: ANN401 - a view function
    def handler(operation: Operation) -> Any:  # noqa: ANN401 - a method
        def handle(self: OperationView, request: Request, target: str, **in_path: str) -> Response:
            return self.answer(request, target, **in_path)

        return _described(operation)(handle)

    methods = {method.lower(): handler(row) for method, row in rows.items()}
    # Django would answer HEAD by a GET's method, and a look must not make a job.
    allowed = {"rows": rows, "http_method_names": [*methods, "options"]}
    made: type[OperationView] = type("OperationView", (OperationView,), {**allowed, **methods})
    return made.as_view()


def _route(tail: str) -> str:
    for name in _DEEP:
        tail = tail.replace(f"{{{name}}}", f"<path:{name}>")
    return "nodes/<str:target>" + tail.replace("{", "<str:").replace("}", ">")


def _patterns() -> list[URLPattern]:
    """Return the addresses, literal ones before those with a name in their place."""
    by_path: dict[str, dict[str, Operation]] = {}
    for operation in TYPED_OPERATIONS:
        by_path.setdefault(operation.path, {})[operation.method] = operation
    ordered = sorted(
        by_path.items(), key=lambda item: [part[0] == "{" for part in item[0][1:].split("/")]
    )
    return [path(_route(tail), _view_of(rows)) for tail, rows in ordered]


operation_patterns = _patterns()
