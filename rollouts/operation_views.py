"""The page that runs an operation, and the page of each call with the answers of its nodes."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render, resolve_url
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from access.authentication import actor_of
from access.context import current_namespace
from access.problems import Refused
from access.queries import readable_namespaces
from jobs.intake import check_permission
from jobs.problems import CODES, SpecRefused
from jobs.queries import find_job
from nodes.operations import OPERATIONS, Kind, Operation
from rollouts import operate
from rollouts.forms import ReasonForm
from rollouts.operation_answers import answers_view, call_view
from rollouts.operation_form import OperationForm
from rollouts.operation_page import DEFAULT_TARGET, aim_at, picker_view
from rollouts.operation_texts import PREFIX, shown_params

# Refusals that are about the target, wherever they come from.
_ABOUT_TARGET = frozenset(
    {
        "ambiguous_target",
        "invalid_selector",
        "no_matching_node",
        "nodes_pending_enrolment",
        "runner_unavailable",
    }
)
_NOT_PASSED_ON = frozenset({"csrfmiddlewaretoken", "confirmed", "change"})


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def run_operation(request: HttpRequest) -> HttpResponse:
    """Show the form of an operation as the address asks for it, or run it."""
    if request.method == "POST":
        return _run(request)
    operation = OPERATIONS.get(request.GET.get("operation", ""))
    form = OperationForm(operation, filled=_filled(request.GET)) if operation else None
    return _show(request, request.GET, operation, form, ReasonForm())


def _filled(query: QueryDict) -> dict[str, str]:
    begin = f"{PREFIX}-"
    return {name.removeprefix(begin): str(query[name]) for name in query if name.startswith(begin)}


def _target(said: QueryDict) -> str:
    return said.get("target", "").strip() or DEFAULT_TARGET


def _namespace(request: HttpRequest, said: QueryDict) -> str:
    """Return the namespace of a call: the one named, the one shown, or one that there is."""
    readable = readable_namespaces(request.user)
    chosen = current_namespace(request)
    for name in (said.get("namespace", ""), chosen, "default", *readable):
        if name in readable:
            return name
    return ""


def _show(
    request: HttpRequest,
    said: QueryDict,
    operation: Operation | None,
    form: OperationForm | None,
    reason: ReasonForm,
    *,
    target_error: str = "",
    status: int = 200,
) -> HttpResponse:
    view = picker_view(
        request.user,
        target=_target(said),
        namespace=_namespace(request, said),
        q=said.get("q", "").strip(),
        chosen=operation,
    )
    context = {"view": view, "form": form, "reason": reason, "target_error": target_error}
    return render(request, "rollouts/operations.html", context, status=status)


# --- Running it ----------------------------------------------------------------------------------


def _run(request: HttpRequest) -> HttpResponse:
    """Run an operation; what is refused is said beside what it is about, with all that was typed."""
    said = request.POST
    operation = OPERATIONS.get(said.get("operation", ""))
    if operation is None:
        raise Refused("unknown_operation", "There is no such operation.")
    form, reason = OperationForm(operation, said), ReasonForm(said)
    is_right = form.is_valid() and reason.is_valid()
    if not is_right or "change" in said:
        return _show(request, said, operation, form, reason, status=200 if is_right else 422)
    wish = operate.Call(
        operation=operation,
        target=_target(said),
        namespace=said.get("namespace") or _namespace(request, said),
        params=form.params(),
        reason=reason.cleaned_data["reason"],
    )
    try:
        return _question(request, wish) or _call(request, wish)
    except Refused as refused:
        if refused.code == "forbidden":
            raise  # answered, and written to the audit log, as everywhere
        status, target_error = CODES[refused.code][0], _place(form, refused)
    except SpecRefused as refused:
        status, target_error = refused.status, _place_all(form, refused)
    return _show(request, said, operation, form, reason, target_error=target_error, status=status)


def _question(request: HttpRequest, wish: operate.Call) -> HttpResponse | None:
    """Ask about an update once more, unless that was done with the nodes as they are now.

    Raises Refused.
    """
    if wish.operation.kind is not Kind.UPDATE:
        return None
    check_permission(request.user, operate.spec_of(wish))
    aim = aim_at(request.user, wish.target, wish.namespace, wish.operation)
    if aim.error:
        raise Refused("invalid_selector", aim.error)
    if not aim.touched and aim.may_look:
        raise Refused("no_matching_node", "No node that is meant can do it now.")
    before = request.POST.get("confirmed", "")
    if before == aim.mark:
        return None
    context = {
        "operation": wish.operation,
        "aim": aim,
        "params": shown_params(wish.operation, wish.params),
        "passed": [pair for pair in request.POST.items() if pair[0] not in _NOT_PASSED_ON],
        "before": before,
    }
    return render(request, "rollouts/operation_question.html", context)


def _call(request: HttpRequest, wish: operate.Call) -> HttpResponse:
    job = operate.call(request.user, actor_of(request), wish)
    return HttpResponseRedirect(resolve_url("rollouts:operation", job.pk), status=303)


def _place(form: OperationForm, refused: Refused) -> str:
    """Put a refusal above the fields, or return it if it is about the target."""
    text = f"{refused.detail} {refused.hint}".strip()
    if refused.code in _ABOUT_TARGET:
        return text
    form.add_error(None, text)
    return ""


def _place_all(form: OperationForm, refused: SpecRefused) -> str:
    """Put problems beside their fields; return what is said about the target."""
    about_target = []
    for problem in refused.problems:
        text = f"{problem.message[:1].upper()}{problem.message[1:]}."
        name = problem.path.removeprefix("/").partition("/")[0]
        if name == "target":
            about_target.append(text)
        else:
            form.add_error(name if name in form.fields else None, text)
    return " ".join(about_target)


# --- Its answers ---------------------------------------------------------------------------------


@require_safe
@login_required
@never_cache
def call_detail(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show a call and the answers that have come in."""
    job = find_job(request.user, str(pk))
    context = {
        "call": call_view(job, request.build_absolute_uri("/")),
        "answers": answers_view(job),
    }
    return render(request, "rollouts/operation.html", context)


@require_safe
@login_required
@never_cache
def call_answers(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Answer the cards alone: the page asks for them until all nodes have answered."""
    job = find_job(request.user, str(pk))
    call_view(job, "/")
    return render(request, "rollouts/_operation_answers.html", {"view": answers_view(job)})
