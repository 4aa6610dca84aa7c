"""What no app answers: errors outside of views, and the agent's file."""

import sys

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import RequestDataTooBig
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render
from django.template.loader import get_template
from django.views import defaults
from django.views.decorators.http import require_safe

from access.authentication import actor_of
from access.problems import Refused
from access.services import record_audit
from jobs.problems import CODES
from jobsite.rest import PASSING, RETRY_AFTER, UNAVAILABLE, is_api_path, problem_page


@login_not_required
@require_safe
def agent_file(_: HttpRequest) -> HttpResponseBase:
    if not settings.AGENT_FILE.exists():
        raise Http404("This installation has no built agent.")
    return FileResponse(
        settings.AGENT_FILE.open("rb"), as_attachment=True, content_type="application/octet-stream"
    )


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    is_large = isinstance(exception, RequestDataTooBig)
    if is_api_path(request.path):
        return problem_page(request, "body_too_large" if is_large else "malformed_body")
    return defaults.bad_request(request, exception)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    reason = str(exception)
    action = f"{request.method} {request.path}"
    record_audit(actor_of(request), action, outcome="denied", reason=reason)
    if is_api_path(request.path):
        return problem_page(request, "forbidden", reason)
    return render(request, "403.html", {"exception": reason}, status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    if is_api_path(request.path):
        return problem_page(request, "not_found", "There is nothing at this path.")
    return render(request, "404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    if isinstance(sys.exc_info()[1], PASSING):
        return unavailable(request)
    if is_api_path(request.path):
        return problem_page(request, "internal", "The request id finds it in the log.")
    return defaults.server_error(request)


def unavailable(request: HttpRequest) -> HttpResponse:
    """Say that the database is away; the page asks it for nothing."""
    if is_api_path(request.path):
        return problem_page(request, "unavailable", UNAVAILABLE)
    status, title = CODES["unavailable"]
    page = get_template("refused.html").render(
        {"status": status, "title": title, "detail": UNAVAILABLE}
    )
    return HttpResponse(page, status=status, headers={"Retry-After": RETRY_AFTER})


def refused(request: HttpRequest, exception: Refused) -> HttpResponse:
    """Answer a refusal that a page's view did not put into words of its own."""
    status, title = CODES[exception.code]
    if is_api_path(request.path):
        return problem_page(request, exception.code, exception.detail)
    if status == 404:
        return not_found(request, exception)
    if status == 403:
        return permission_denied(request, exception)
    context = {"status": status, "title": title, "detail": exception.detail, "hint": exception.hint}
    return render(request, "refused.html", context, status=status)
