"""The pages of nodes: the fleet, one node, joining, and what their buttons do."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render, resolve_url
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from access.authentication import actor_of
from access.context import current_namespace, shown_namespaces
from access.problems import Refused
from access.queries import may, namespaces_for
from access.rest import paginate, read_page
from access.services import Actor
from nodes import node_page, services
from nodes.controls import BULK, BulkVerb, controls_of
from nodes.enrolment import revoke_enrolment_token
from nodes.forms import EnrolForm, LabelsForm, labels_form
from nodes.fragments import PARTS
from nodes.grid import Query
from nodes.pages import bulk_question, live_tokens, load_fleet
from nodes.queries import (
    READ,
    WRITE,
    active_counts,
    events_of,
    find_enrolment_token,
    find_node_for,
)

TABS = {"overview": "Overview", "events": "Events", "facts": "Facts", "abilities": "Can run"}
BULK_MOST = 500
_LIST = frozenset({"labels", "name", "badge", "view", "group", "namespace"})


@require_safe
@login_required
@never_cache
def node_list(request: HttpRequest) -> HttpResponse:
    page = read_page(request.GET, filters=_LIST, orders=("name",), is_descending=False)
    query = Query(
        namespaces=shown_namespaces(request),
        labels=request.GET.get("labels", "").strip(),
        name=request.GET.get("name", "").strip(),
        badge=request.GET.get("badge", ""),
        view=request.GET.get("view", ""),
        group=request.GET.get("group", ""),
    )
    fleet = load_fleet(request.user, query, page)
    context = {"fleet": fleet, "query": query, "bulk": BULK.values(), "write": WRITE}
    return render(request, "nodes/nodes.html", context, status=422 if fleet.error else 200)


@require_safe
@login_required
@never_cache
def node_detail(request: HttpRequest, pk: UUID) -> HttpResponse:
    node = find_node_for(request.user, str(pk))
    tab = request.GET.get("tab", "overview")
    if tab not in TABS:
        raise Http404
    context = _detail(request, node, tab) | {"form": labels_form(node.operator_labels)}
    return render(request, "nodes/node.html", context)


def _detail(request: HttpRequest, node: Any, tab: str = "overview") -> dict[str, Any]:  # noqa: ANN401 - a node row
    views = {name: query(str(node.pk)) for name, query in PARTS.items()}
    context: dict[str, Any] = views | {
        "node": node,
        "tabs": TABS,
        "tab": tab,
        "controls": _controls(request, node, views["head"].active),
        "may_write": may(request.user, WRITE, node.namespace_id),
        "lacking": f"Needs the permission {WRITE} in namespace {node.namespace_id}.",
        "facts": node_page.facts_of(node),
        "abilities": node_page.abilities_of(node),
    }
    if tab == "events":
        page = read_page(request.GET, filters=("tab", "confirm"), orders=("id",))
        rows, token = paginate(events_of(node), page)
        context |= {"history": node_page.event_rows(rows), "next_token": token}
    return context


def _controls(request: HttpRequest, node: Any, active: int) -> Any:  # noqa: ANN401 - rows
    return controls_of(request.user, node, active, request.GET.get("confirm", ""))


@require_safe
@login_required
@never_cache
def node_controls(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Answer the buttons alone: a live page asks for them when other ones apply."""
    node = find_node_for(request.user, str(pk))
    active = active_counts([node.pk]).get(node.pk, 0)
    return render(request, "nodes/_controls.html", {"controls": _controls(request, node, active)})


# --- Acts ----------------------------------------------------------------------------------------

Act = Callable[[UUID, Actor, str], object]

_ACTS: dict[str, tuple[Act, str]] = {
    "cordon": (lambda pk, actor, _: services.drain_node(pk, actor), "It gets no new work."),
    "drain": (
        lambda pk, actor, _: services.drain_node(pk, actor, evict=True),
        "Draining. Its work is moved off.",
    ),
    "undrain": (lambda pk, actor, _: services.undrain_node(pk, actor), "It takes work again."),
    "accept": (
        lambda pk, actor, fingerprint: services.accept_node(pk, actor, fingerprint=fingerprint),
        "Accepted. Jobs may run on it from now on.",
    ),
    "reject": (lambda pk, actor, _: services.reject_node(pk, actor), "Turned away."),
    "revoke": (lambda pk, actor, _: services.revoke_node(pk, actor), "Its trust is taken back."),
    "delete": (lambda pk, actor, _: services.delete_node(pk, actor), "Deleted."),
}


@require_POST
@login_required
def act(request: HttpRequest, pk: UUID, verb: str) -> HttpResponse:
    """Carry a button's wish out and go back to where it was pressed."""
    node = find_node_for(request.user, str(pk), WRITE)
    carry_out, done = _ACTS[verb]
    try:
        carry_out(node.pk, actor_of(request), request.POST.get("fingerprint", ""))
    except Refused as refused:
        messages.error(request, f"{node.name}: {refused.detail} {refused.hint}".strip())
    else:
        messages.success(request, f"{node.name}: {done}")
    if request.POST.get("back") == "list" or verb == "delete":
        return _see("nodes:list")
    return _see("nodes:detail", pk)


@require_POST
@login_required
def bulk(request: HttpRequest) -> HttpResponse:
    """Ask about many nodes, and once it was confirmed do it, each on its own."""
    verb = BULK.get(request.POST.get("verb", ""))
    if verb is None:
        raise Http404
    keys = list(dict.fromkeys(request.POST.getlist("node")))
    if not keys:
        messages.warning(request, "No node is selected.")
        return _see("nodes:list")
    if len(keys) > BULK_MOST:
        raise Refused("invalid_value", f"At most {BULK_MOST} nodes can be meant at once.")
    question = bulk_question(request.user, verb, keys)
    if question.lacking or "confirmed" not in request.POST:
        return render(request, "nodes/bulk.html", {"question": question, "write": WRITE})
    _do_all(request, verb, [node.pk for node in question.nodes])
    return _see("nodes:list")


def _do_all(request: HttpRequest, verb: BulkVerb, keys: list[UUID]) -> None:
    carry_out, _ = _ACTS[verb.name]
    refusals: list[str] = []
    for pk in keys:
        try:
            carry_out(pk, actor_of(request), "")
        except Refused as refused:
            refusals.append(refused.detail)
    done = len(keys) - len(refusals)
    messages.success(request, f"{done:,} of {len(keys):,} nodes {verb.done}.")
    if refusals:
        left = f"{len(refusals):,} left as they were: {refusals[0]}"
        messages.warning(request, left)


@require_POST
@login_required
def set_labels(request: HttpRequest, pk: UUID) -> HttpResponse:
    node = find_node_for(request.user, str(pk), WRITE)
    form = LabelsForm(request.POST)
    if form.is_valid():
        try:
            services.change_node_labels(node.pk, form.changes(), actor_of(request))
        except Refused as refused:
            form.add_error("labels", refused.detail)
    if not form.is_valid():
        return render(
            request, "nodes/node.html", _detail(request, node) | {"form": form}, status=422
        )
    messages.success(request, "The labels are set. Jobs that match anew are looked at now.")
    return _see("nodes:detail", pk)


# --- Joining -------------------------------------------------------------------------------------


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def enrol(request: HttpRequest) -> HttpResponse:
    writable, chosen = namespaces_for(request.user, WRITE), current_namespace(request)
    form = EnrolForm(namespaces=writable, chosen=chosen)
    issued, status = "", 200
    if request.method == "POST":
        if not writable:
            raise Refused("forbidden", f"The permission {WRITE} is missing.")
        form = EnrolForm(request.POST, namespaces=writable)
        issued = _issue(request, form) if form.is_valid() else ""
        status = 200 if issued else 422
    context = {
        "form": form if not issued else EnrolForm(namespaces=writable, chosen=chosen),
        "issued": issued,
        "command": f"python3 agent.pyz run --server {settings.BASE_URL} --data-dir jobsite-agent "
        f"--token {issued}",
        "download": f"curl -fsSO {settings.BASE_URL}{resolve_url('agent-file')}",
        "tokens": live_tokens(request.user, shown_namespaces(request), timezone.now()),
        "may_write": bool(writable),
        "lacking": f"Needs the permission {WRITE}.",
        "lacks_read": not namespaces_for(request.user, READ),
    }
    return render(request, "nodes/enrol.html", context, status=status)


def _issue(request: HttpRequest, form: EnrolForm) -> str:
    said = form.cleaned_data
    try:
        return services.issue_enrolment_token(
            said["namespace"],
            labels=said["labels"],
            auto_accept=said["auto_accept"],
            max_uses=said["uses"],
            ttl=form.ttl(),
            actor=actor_of(request),
        )
    except Refused as refused:
        form.add_error(None, refused.detail)
        return ""


@require_POST
@login_required
def revoke_token(request: HttpRequest, pk: int) -> HttpResponse:
    token = find_enrolment_token(request.user, pk, WRITE)
    revoke_enrolment_token(token.pk, actor_of(request))
    messages.success(request, "The token is revoked. No machine can join with it any more.")
    return _see("nodes:enrol")


def _see(name: str, *args: object) -> HttpResponse:
    return HttpResponseRedirect(resolve_url(name, *args), status=303)
