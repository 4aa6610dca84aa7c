"""The pages of rollouts and executions, and the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    QueryDict,
    StreamingHttpResponse,
)
from django.shortcuts import render, resolve_url
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from access.authentication import actor_of
from access.context import current_namespace, shown_namespaces
from access.problems import Refused
from access.queries import namespaces_for
from access.services import Actor
from jobs.queries import find_job
from live.tones import tone_of
from rollouts import (
    board,
    board_limits,
    board_spec,
    board_tabs,
    comparison,
    execution_page,
    overview,
    services,
    tab_counts,
)
from rollouts.controls import controls_of
from rollouts.forms import BackForm, ReasonForm
from rollouts.fragments import parts_beside
from rollouts.log_search import search_log, wanted_text, whole_log
from rollouts.queries import READ, WRITE, drawer_for, execution_for, rollout_for
from rollouts.rows import (
    EXECUTION_FILTERS,
    EXECUTION_STATES,
    ROLLOUT_FILTERS,
    ROLLOUT_STATES,
    example_bar,
    list_executions,
    list_rollouts,
    newest_rollout_of,
    node_panel_of,
    panel_of,
)
from rollouts.scope import load_scope
from rollouts.states import FINISHED_ROLLOUT, RolloutState

if TYPE_CHECKING:
    from rollouts.models import Rollout

TABS = {
    "failures": "Failures",
    "events": "Events",
    "decisions": "Decisions",
    "health": "Health",
    "spec": "Spec and diff",
    "parameters": "Parameters",
}

EXAMPLE = example_bar()


@require_safe
@login_required
@never_cache
def rollout_detail(request: HttpRequest, pk: UUID) -> HttpResponse:
    rollout = rollout_for(request.user, pk)
    is_bad = rollout.failed_nodes or rollout.state == RolloutState.HALTED
    default = "failures" if is_bad else "events"
    tab = request.GET.get("tab", default)
    if tab not in TABS:
        raise Http404
    loaded = board.load_board(pk)
    context: dict[str, Any] = {
        "rollout": rollout,
        "controls": controls_of(request.user, rollout, request.GET.get("confirm", "")),
        "form": ReasonForm(),
        "head": board.head_view(loaded),
        "alert": board_limits.alert_view(loaded),
        "waves": board.waves_view(loaded),
        "canary": comparison.comparison_view(loaded),
        "nodes": board.nodes_view(loaded),
        "budget": board_limits.budget_view(loaded),
        "why": board_limits.why_view(loaded),
        "parts": ",".join(parts_beside(tab)),
        "tabs": TABS,
        "failures_count": tab_counts.failures_count_view(loaded),
        "events_count": tab_counts.events_count_view(loaded),
        "decisions_count": tab_counts.decisions_count_view(loaded),
        "tab": tab,
        "tab_template": f"rollouts/_rollout_{tab}.html",
        "tab_view": _tab_view(tab, loaded),
        "drawer": _drawer(request, rollout, loaded),
        "node": request.GET.get("node", ""),
    }
    return render(request, "rollouts/rollout.html", context)


def _tab_view(tab: str, loaded: board.Board) -> object:
    queries: dict[str, Callable[[], object]] = {
        "failures": lambda: board_tabs.failures_view(loaded),
        "events": lambda: board_tabs.events_view(loaded),
        "decisions": lambda: board_tabs.decisions_view(loaded),
        "health": lambda: board_tabs.health_view(loaded),
        "spec": lambda: board_spec.spec_view(loaded),
        "parameters": lambda: board_spec.parameters_of(loaded),
    }
    return queries[tab]()


def _drawer(request: HttpRequest, rollout: Rollout, loaded: board.Board) -> object:
    if "node" not in request.GET:
        return None
    try:
        node_id = UUID(request.GET["node"])
    except ValueError:
        raise Http404 from None
    found = drawer_for(rollout, node_id, float(loaded.terms.health.max_error_rate) * 100)
    if found is None:
        raise Http404
    return found


@require_safe
@login_required
@never_cache
def rollout_controls(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Answer the buttons alone: a live page asks for them when other ones apply."""
    rollout = rollout_for(request.user, pk)
    page = QueryDict(urlsplit(request.headers.get("HX-Current-URL", "")).query)
    controls = controls_of(request.user, rollout, page.get("confirm", ""))
    context = {"controls": controls, "form": ReasonForm()}
    return render(request, "rollouts/_controls.html", context)


Act = Callable[[Actor, UUID, str, UUID], object]

_ACTS: dict[str, tuple[Act, str]] = {
    "pause": (services.pause_rollout, "Paused. No further wave opens."),
    "resume": (services.resume_rollout, "Resumed."),
    "promote": (services.promote_rollout, "Promoted."),
    "cancel": (services.cancel_rollout, "Cancelled."),
}


@require_POST
@login_required
def rollout_act(request: HttpRequest, pk: UUID, verb: str) -> HttpResponse:
    """Carry a button's wish out and go back to the page, which then says what became of it."""
    rollout = rollout_for(request.user, pk, WRITE)
    act, done = _ACTS[verb]
    try:
        _refuse_if(rollout.state in FINISHED_ROLLOUT, f"This rollout has ended: {rollout.state}.")
        act(actor_of(request), rollout.job_id, _reason(request), rollout.pk)
    except Refused as refused:
        messages.error(request, f"{refused.detail} {refused.hint}".strip())
    else:
        messages.success(request, done)
    return _see_rollout(pk)


@require_POST
@login_required
def rollout_roll_back(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Make a new version from an earlier one, and go to where it can be watched."""
    rollout = rollout_for(request.user, pk, WRITE)
    try:
        is_old = rollout.job.version != rollout.version.number
        _refuse_if(is_old, "A newer version has taken its place.")
        version = services.roll_back(actor_of(request), rollout.job_id, reason=_reason(request))
    except Refused as refused:
        messages.error(request, f"{refused.detail} {refused.hint}".strip())
        return _see_rollout(pk)
    messages.success(request, f"Version {version.number} brings the earlier spec back.")
    following = version.rollouts.first()
    return _see_rollout(following.pk if following else pk)


@require_POST
@login_required
def job_roll_back(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Make a new version of a job from the chosen one, and go to where it can be watched."""
    job = find_job(request.user, str(pk), WRITE)
    try:
        number, reason = _asked_version(request, job.version)
        version = services.roll_back(actor_of(request), job.pk, number, reason)
    except Refused as refused:
        messages.error(request, f"{refused.detail} {refused.hint}".strip())
        back = resolve_url("jobs:detail", str(job.pk)) + "?tab=versions"
        return HttpResponseRedirect(back, status=303)
    messages.success(request, f"Version {version.number} brings the spec of version {number} back.")
    following = version.rollouts.first()
    if following is None:
        return HttpResponseRedirect(resolve_url("jobs:detail", str(job.pk)), status=303)
    return _see_rollout(following.pk)


@require_safe
@login_required
@never_cache
def execution_detail(request: HttpRequest, pk: UUID) -> HttpResponse:
    execution = execution_for(request.user, pk)
    loaded = execution_page.load_execution(pk)
    q = wanted_text(request.GET.get("q", ""))
    context = {
        "execution": execution,
        "head": execution_page.head_view(loaded),
        "windows": execution_page.windows_view(loaded),
        "log": None if q else execution_page.log_view(loaded),
        "q": q,
        "found": search_log(pk, q) if q else None,
        "result": execution_page.result_view(loaded),
        "life": execution_page.life_view(loaded),
    }
    return render(request, "rollouts/execution.html", context)


@require_safe
@login_required
@never_cache
def execution_log_file(request: HttpRequest, pk: UUID) -> StreamingHttpResponse:
    """Give an execution's whole log as a file, read while it is sent."""
    execution = execution_for(request.user, pk)
    response = StreamingHttpResponse(
        whole_log(execution.pk), content_type="text/plain; charset=utf-8"
    )
    name = f"execution-{str(execution.pk)[-8:]}.log.txt"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


@require_safe
@login_required
@never_cache
def rollout_list(request: HttpRequest) -> HttpResponse:
    namespaces = shown_namespaces(request)
    found = list_rollouts(request.user, namespaces, request.GET)
    context = {
        "list": found,
        "is_moving": any(row.completed_at is None for row in found.rows),
        "states": [(state, tone_of(state).word) for state in ROLLOUT_STATES],
        **_list_context(request, ROLLOUT_FILTERS),
    }
    return render(request, "rollouts/rollouts.html", context)


@require_safe
@login_required
@never_cache
def execution_list(request: HttpRequest) -> HttpResponse:
    namespaces = shown_namespaces(request)
    context = {
        "list": list_executions(request.user, namespaces, request.GET),
        "states": [(state, tone_of(state).word) for state in EXECUTION_STATES],
        **_list_context(request, EXECUTION_FILTERS),
    }
    return render(request, "rollouts/executions.html", context)


@require_safe
@login_required
@never_cache
def job_panel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Answer what the page of a job shows of this app: its newest rollout and its executions."""
    panel = panel_of(request.user, pk)
    active = next((row for row in panel.rollouts if row.completed_at is None), None)
    strip = board.waves_view(active.pk) if active else None
    context = {
        "panel": panel,
        "active": active,
        # What it waits on stands beside, with a link to the page that says why.
        "waves": replace(strip, waiting=board.Waiting()) if strip else None,
    }
    return render(request, "rollouts/_job_panel.html", context)


@require_safe
@login_required
@never_cache
def newest_of_job(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Lead to the newest rollout of a job, with the question that was asked on the way."""
    goal = resolve_url("rollouts:detail", newest_rollout_of(request.user, pk))
    query = request.META.get("QUERY_STRING", "")
    return HttpResponseRedirect(f"{goal}?{query}" if query else goal)


@require_safe
@login_required
@never_cache
def node_panel(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Answer what the page of a node shows of this app: its executions."""
    context = {"panel": node_panel_of(request.user, pk)}
    return render(request, "rollouts/_node_panel.html", context)


def _list_context(request: HttpRequest, names: Iterable[str]) -> dict[str, object]:
    filters = {name: request.GET.get(name, "") for name in names}
    return {
        "filters": filters,
        "is_filtered": any(text for name, text in filters.items() if name != "namespace"),
        "may_read": bool(namespaces_for(request.user, READ)),
        "with_namespace": len(shown_namespaces(request)) > 1,
    }


def _refuse_if(is_late: bool, detail: str) -> None:
    """Refuse what was meant for a rollout that has ended: another one may be active by now."""
    if is_late:
        raise Refused("rollout_not_active", detail)


def _asked_version(request: HttpRequest, present: int) -> tuple[int, str]:
    """Return the version to go back to, and the reason, if the newest one is still as it was seen."""
    form = BackForm(request.POST)
    if not form.is_valid():
        raise Refused("invalid_value", "The version to go back to, or the reason, is no good.")
    if form.cleaned_data["seen"] != present:
        raise Refused("conflict", f"Version {present} came in between: look at it first.")
    return form.cleaned_data["version"], form.cleaned_data["reason"]


def _see_rollout(pk: UUID) -> HttpResponse:
    return HttpResponseRedirect(resolve_url("rollouts:detail", pk), status=303)


def _reason(request: HttpRequest) -> str:
    form = ReasonForm(request.POST)
    if not form.is_valid():
        raise Refused("invalid_value", "The reason is too long: 1,024 characters at most.")
    return str(form.cleaned_data["reason"])


@require_safe
@login_required
@never_cache
def dashboard(request: HttpRequest) -> HttpResponse:
    pk = overview.scope_of(request.user, current_namespace(request))
    if not pk:
        return render(request, "rollouts/no_namespace.html")
    if not overview.may_read_overview(request.user, pk):
        raise Refused("forbidden", f"The permission {READ} is missing in namespace {pk}.")
    context: dict[str, object] = {"scope": pk, "has_socket": overview.has_socket(pk)}
    scope = load_scope(pk)
    steps = overview.steps_view(scope)
    if steps.is_first_run:
        return render(request, "rollouts/first_run.html", context | _first_run(request, steps))
    context |= {
        "attention": overview.attention_view(scope),
        "rolling": overview.rolling_view(scope),
        "fleet": overview.fleet_view(scope),
        "activity": overview.activity_view(scope),
    }
    return render(request, "rollouts/dashboard.html", context)


def _first_run(request: HttpRequest, steps: overview.StepsView) -> dict[str, object]:
    here = request.build_absolute_uri("/").rstrip("/")
    submit = (
        'curl -sS -X PUT -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/yaml" '
        f"--data-binary @examples/web-log-v1.yaml {here}/api/v1/jobs"
    )
    commands = (
        ("Get the agent", f"curl -fsSO {here}/install/agent.pyz"),
        (
            "Enrol this machine",
            f"python3 agent.pyz run --server {here} --data-dir jobsite-agent --token TOKEN",
        ),
        ("No second machine? Start again with more agents", "make up AGENTS=8"),
        ("Submit a job", submit),
    )
    return {"steps": steps, "commands": commands, "example": EXAMPLE}
