"""REST for file objects: upload, list, read and delete."""

import base64
from collections.abc import Mapping
from typing import IO, Any

from django.core.exceptions import TooManyFieldsSent, TooManyFilesSent
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.exceptions import ParseError
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from access.authentication import actor_of
from access.bodies import read_members, refused, text_of
from access.problems import Refused
from access.queries import require
from access.rest import list_parameter, page_body, paginate, read_page, refuse_unknown
from jobs import object_serializers as shapes
from jobs.document import MAX_BYTES as BODY_MAX
from jobs.object_queries import READ, WRITE, find_object, object_record, objects_for
from jobs.objects import Upload, delete_object, put_object

_TRUE = frozenset({"1", "true", "yes"})
_NAMESPACE = OpenApiParameter("namespace", str, description="Needed when a name is ambiguous.")
_FILTERS = ("namespace", "name")
_MEMBERS = ("name", "namespace", "content_type")


class UploadParser(MultiPartParser):
    """A form with files; one with too many fields is malformed, not a fault of the server."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - the base class's own
        """Return the fields and files of a form."""
        try:
            return super().parse(stream, media_type, parser_context)
        except (TooManyFieldsSent, TooManyFilesSent) as error:
            raise ParseError(str(error)) from error


class FilesView(APIView):
    """Every file object one may see, and the door for new ones."""

    parser_classes = [*APIView.parser_classes, UploadParser]

    @extend_schema(
        operation_id="files_list",
        parameters=[OpenApiParameter(name, str) for name in _FILTERS],
        responses=shapes.FileObjectPage,
    )
    def get(self, request: Request) -> Response:
        params = request.query_params
        page = read_page(params, filters=_FILTERS, orders=("created_at", "updated_at", "name"))
        namespaces = list_parameter(params, "namespace")
        objects = objects_for(request.user, namespaces=namespaces, name=params.get("name", ""))
        rows, token = paginate(objects, page)
        return Response(page_body([object_record(row) for row in rows], token))

    @extend_schema(
        operation_id="files_put",
        parameters=[OpenApiParameter("force", bool)],
        request={
            "application/json": shapes.NewFileObject,
            "multipart/form-data": shapes.UploadedFile,
        },
        responses={200: shapes.PutFileObject, 201: shapes.PutFileObject},
    )
    def post(self, request: Request) -> Response:
        refuse_unknown(request.query_params, ("force",))
        # A form's files count for no limit of Django's.
        if int(request.META.get("CONTENT_LENGTH") or 0) > BODY_MAX:
            raise Refused("body_too_large", f"At most {BODY_MAX} bytes are read.")
        put = put_object(actor_of(request), _upload(request))
        body = {"object": object_record(put.row), "changed": put.changed}
        return Response(body, status=201 if put.created else 200)


class FileView(APIView):
    """One file object; `?content=1` asks for its bytes."""

    @extend_schema(
        operation_id="files_get",
        parameters=[_NAMESPACE, OpenApiParameter("content", bool)],
        responses={
            (200, "application/json"): shapes.FileObject,
            (200, "application/octet-stream"): OpenApiTypes.BINARY,
        },
    )
    def get(self, request: Request, name: str) -> HttpResponse:
        refuse_unknown(request.query_params, ("namespace", "content"))
        row = find_object(request.user, name, READ, request.query_params.get("namespace"))
        if not _is_set(request, "content"):
            return Response(object_record(row))
        answer = HttpResponse(bytes(row.content), content_type="application/octet-stream")
        answer["Content-Disposition"] = f'attachment; filename="{row.name.rpartition("/")[2]}"'
        return answer

    @extend_schema(operation_id="files_delete", parameters=[_NAMESPACE], responses={204: None})
    def delete(self, request: Request, name: str) -> Response:
        refuse_unknown(request.query_params, ("namespace",))
        row = find_object(request.user, name, WRITE, request.query_params.get("namespace"))
        delete_object(actor_of(request), row.pk)
        return Response(status=204)


def _is_set(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() in _TRUE


def _upload(request: Request) -> Upload:
    """Return what a body brings, once its sender may write there (law 10)."""
    body = read_members(request, (*_MEMBERS, "content", "content_base64", "file"))
    namespace = text_of(body, "namespace", "default")
    require(request.user, WRITE, namespace)
    name = text_of(body, "name")
    if not name:
        raise refused("invalid_spec", "name", "is missing")
    return Upload(
        namespace=namespace,
        name=name,
        content=_content(body),
        content_type=text_of(body, "content_type", "raw"),
        force=_is_set(request, "force"),
    )


def _content(body: Mapping[str, Any]) -> bytes:
    given = [name for name in ("content", "content_base64", "file") if name in body]
    if not given:
        raise refused("invalid_spec", "content", "is missing: give it, content_base64 or file")
    if len(given) > 1:
        raise refused("invalid_value", given[1], f"stands beside {given[0]}: give one of them")
    if given == ["file"]:
        return _bytes_of(body["file"])
    text = text_of(body, given[0], most=BODY_MAX)
    if given == ["content"]:
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise refused("invalid_value", "content_base64", "is not base64") from None


def _bytes_of(file: object) -> bytes:
    if not isinstance(file, UploadedFile):
        raise refused("invalid_type", "file", "must be a file of a form")
    content: bytes = file.read()
    return content
