"""A request id on every request, a line at its end, no NUL in addresses, answers to refusals."""

import logging
import re
import time
import uuid
from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from access.problems import Refused
from jobsite.views import not_found, refused

logger = logging.getLogger("jobsite.request")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# A sign-in link's secret is the key of an account until it is used.
SECRET_IN_PATH = re.compile(r"(?<=^/sign-in/once/)[^/]+")


class RequestIdMiddleware:
    """Echo a well-formed X-Request-ID or make one; log the request once it has been answered."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer the request with its id in the header."""
        given = request.headers.get("X-Request-ID", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request.request_id = request_id  # type: ignore[attr-defined]
        started = time.perf_counter()
        response = self.get_response(request)
        response["X-Request-ID"] = request_id
        logger.info(
            "request",
            extra={
                "data": {
                    "request_id": request_id,
                    "method": request.method,
                    "path": SECRET_IN_PATH.sub("…", request.path),
                    "status": response.status_code,
                    "duration_ms": round((time.perf_counter() - started) * 1000, 2),
                }
            },
        )
        return response


class NulMiddleware:
    """Refuse addresses with a NUL character: no row holds one, and the database takes none."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer 404 for such a path, and a refusal for such a query."""
        if "\0" in request.path_info:
            return not_found(request, ValueError("a NUL in the path"))
        query = request.META.get("QUERY_STRING", "")
        if "%00" not in query and "\0" not in query:
            return self.get_response(request)
        return refused(request, Refused("invalid_value", "The query holds a NUL character."))


class RefusalMiddleware:
    """Answer a Refused that a page's view let through, with its own status and words."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass the request on."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Return the page of a refusal; anything else goes its usual way."""
        return refused(request, exception) if isinstance(exception, Refused) else None
