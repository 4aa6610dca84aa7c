"""Signing in and out, by password or by a link that works once, and one's own API tokens."""

from dataclasses import replace
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, logout
from django.contrib.auth.decorators import login_not_required, login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from access.authentication import actor_of
from access.context import choose_namespace
from access.forms import SignInForm, TokenForm
from access.queries import link_owner, readable_namespaces, token_rows
from access.services import (
    SIGN_IN_WINDOW,
    forget_sign_in_tries,
    is_sign_in_held,
    issue_token,
    record_audit,
    redeem_sign_in_link,
    revoke_token,
)


def _safe_next(request: HttpRequest) -> str:
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    is_ours = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if is_ours else ""


@login_not_required
@sensitive_post_parameters("password")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in(request: HttpRequest) -> HttpResponse:
    goal = _safe_next(request)
    if request.user.is_authenticated:
        return redirect(goal or settings.LOGIN_REDIRECT_URL)
    if request.method != "POST":
        return render(request, "access/sign_in.html", {"form": SignInForm(request), "next": goal})
    form = SignInForm(request, data=request.POST)
    name, address = request.POST.get("username", ""), request.META.get("REMOTE_ADDR", "")
    if is_sign_in_held(name, address):
        form.refuse("Too many tries. Wait five minutes, then try again.")
        response = render(request, "access/sign_in.html", {"form": form, "next": goal}, status=429)
        response["Retry-After"] = str(round(SIGN_IN_WINDOW.total_seconds()))
        return response
    if not form.is_valid():
        record_audit(
            replace(actor_of(request), name=name or "anonymous"),
            "session.open",
            outcome="denied",
            reason="wrong user name or password",
        )
        return render(request, "access/sign_in.html", {"form": form, "next": goal}, status=422)
    forget_sign_in_tries(name, address)
    login(request, form.get_user())
    record_audit(actor_of(request), "session.open")
    return redirect(goal or settings.LOGIN_REDIRECT_URL)


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def once(request: HttpRequest, token: str) -> HttpResponse:
    """Ask for a click first: programs that only look at a link must not use it up."""
    if request.method == "POST":
        user = redeem_sign_in_link(token, source_ip=request.META.get("REMOTE_ADDR") or None)
        if user is not None:
            login(request, user, backend=settings.AUTHENTICATION_BACKENDS[0])
            return redirect(settings.LOGIN_REDIRECT_URL)
    owner = link_owner(token, timezone.now())
    status = 200 if owner else 404
    return render(request, "access/sign_in_link.html", {"owner": owner}, status=status)


@require_POST
@login_required
def sign_out(request: HttpRequest) -> HttpResponse:
    record_audit(actor_of(request), "session.close")
    logout(request)
    return redirect(settings.LOGOUT_REDIRECT_URL)


@login_not_required
@never_cache
def admin_sign_in(request: HttpRequest) -> HttpResponse:
    """Stand in for the admin's own sign-in page, so that there is one, with one throttle."""
    if request.user.is_authenticated and not request.user.is_staff:
        raise PermissionDenied("The admin pages are for staff.")
    goal = _safe_next(request) or resolve_url("admin:index")
    return redirect(f"{resolve_url(settings.LOGIN_URL)}?{urlencode({'next': goal})}")


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    form, issued, status = TokenForm(), "", 200
    if request.method == "POST":
        form = TokenForm(request.POST)
        if form.is_valid():
            name = form.cleaned_data["name"]
            _, issued = issue_token(
                _account(request), name, form.ttl(), form.scopes(), actor=actor_of(request)
            )
            form = TokenForm()
        else:
            status = 422
    rows = token_rows(request.user, timezone.now())
    context = {"form": form, "issued": issued, "tokens": rows}
    return render(request, "access/tokens.html", context, status=status)


@require_POST
@login_required
def revoke(request: HttpRequest, token_id: str) -> HttpResponse:
    revoke_token(_account(request), token_id, actor=actor_of(request))
    messages.success(request, "The token is revoked. What used it is refused from now on.")
    return redirect("access:tokens")


@require_POST
@login_required
def switch_namespace(request: HttpRequest) -> HttpResponse:
    name = request.POST.get("namespace", "")
    if name and name not in readable_namespaces(request.user):
        raise Http404
    choose_namespace(request, name)
    return redirect(_safe_next(request) or settings.LOGIN_REDIRECT_URL)


@login_not_required
def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return render(request, "403_csrf.html", {"reason": reason}, status=403)


def _account(request: HttpRequest) -> User:
    """Return the signed-in account itself, which the request carries in a lazy wrapper."""
    assert isinstance(request.user, User)
    return request.user
