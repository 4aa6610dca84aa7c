"""The pages of jobs: the list, one job, and the editor."""

from collections.abc import Callable
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render, resolve_url
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from access.authentication import actor_of
from access.context import current_namespace, shown_namespaces
from access.problems import Refused
from access.queries import Person
from jobs import editor, editor_page, list_page, pages, version_pages
from jobs.drafts import discard_draft, save_draft
from jobs.editor import Study
from jobs.editor_page import EXAMPLES, EditorView
from jobs.forms import Entry, SelectionForm, read_entry, read_reason
from jobs.pages import WRITE, AnyJob
from jobs.queries import find_job
from jobs.services import (
    Submission,
    delete_job,
    etag_of,
    rerun_job,
    stop_job,
    submit_job,
)
from jobs.states import JobState

TABS = {"overview": "Overview", "versions": "Versions", "history": "History", "yaml": "YAML"}


# --- The list ------------------------------------------------------------------------------------


@require_safe
@login_required
@never_cache
def job_list(request: HttpRequest) -> HttpResponse:
    view = list_page.list_view(request.user, request.GET, shown_namespaces(request))
    return render(request, "jobs/jobs.html", {"view": view})


@require_POST
@login_required
def stop_selected(request: HttpRequest) -> HttpResponse:
    """Ask once more with the names, then stop each of the chosen jobs."""
    form = SelectionForm(request)
    if not form.is_valid():
        raise Refused("invalid_value", "Some of the chosen jobs are not ids of jobs.")
    jobs = list_page.chosen_jobs(request.user, form.cleaned_data["job"])
    if not jobs:
        messages.warning(request, "No job was chosen that you may stop.")
        return _see("jobs:list")
    if not form.cleaned_data["sure"]:
        return render(request, "jobs/stop_selected.html", {"jobs": jobs})
    reason = form.cleaned_data["reason"]
    actor = actor_of(request)
    stopped = sum(stop_job(actor, job.pk, reason)[1] for job in jobs)
    messages.success(request, f"{stopped} of {len(jobs)} jobs stopped; the others had ended.")
    return _see("jobs:list")


# --- One job -------------------------------------------------------------------------------------


@require_safe
@login_required
@never_cache
def job_detail(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    return _show_job(request, find_job(request.user, name, namespace=namespace))


@require_safe
@login_required
@never_cache
def job_by_id(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Show a deleted job, whose name may be another's by now; lead to any other by its name."""
    job = find_job(request.user, str(pk))
    if job.state != JobState.DELETED:
        query = f"?{request.GET.urlencode()}" if request.GET else ""
        return redirect(resolve_url("jobs:detail", job.namespace_id, job.name) + query)
    return _show_job(request, job)


def _show_job(request: HttpRequest, job: AnyJob) -> HttpResponse:
    tab = request.GET.get("tab", "overview")
    if tab not in TABS:
        raise Http404
    tab_queries: dict[str, Callable[[], object]] = {
        "overview": lambda: pages.overview_of(job),
        "versions": lambda: version_pages.versions_view(request.user, job, request.GET),
        "history": lambda: pages.history_view(job, request.GET),
        "yaml": lambda: editor_page.stored_text(job),
    }
    context = {
        "job": job,
        "head": pages.head_view(job.pk),
        "controls": pages.controls_of(request.user, job, request.GET.get("confirm", "")),
        "tabs": TABS,
        "tab": tab,
        "tab_template": f"jobs/_tab_{tab}.html",
        "tab_view": tab_queries[tab](),
    }
    return render(request, "jobs/job.html", context)


@require_safe
@login_required
@never_cache
def job_controls(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Answer the buttons alone: a live page asks for them when other ones apply."""
    controls = pages.controls_of(request.user, find_job(request.user, str(pk)))
    return render(request, "jobs/_controls.html", {"controls": controls})


@require_safe
@login_required
def job_file(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = find_job(request.user, str(pk))
    return _file(editor_page.stored_text(job), job.name)


@require_POST
@login_required
def stop(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = find_job(request.user, str(pk), WRITE)
    try:
        _, is_changed = stop_job(actor_of(request), job.pk, read_reason(request))
    except Refused as refused:
        return _say(request, job, refused)
    text = "is being stopped on every node." if is_changed else "had ended already."
    messages.success(request, f"{job.name} {text}")
    return _see_job(job)


@require_POST
@login_required
def rerun(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = find_job(request.user, str(pk), WRITE)
    try:
        rerun_job(actor_of(request), job.pk)
    except Refused as refused:
        return _say(request, job, refused)
    messages.success(request, f"{job.name} is looked at again: nodes that lack it get it.")
    return _see_job(job)


@require_POST
@login_required
def delete(request: HttpRequest, pk: UUID) -> HttpResponse:
    job = find_job(request.user, str(pk), WRITE)
    if request.POST.get("name", "") != job.name:
        messages.error(request, "Nothing was deleted: type the name exactly as it is written.")
        return _see(resolve_url("jobs:detail", job.namespace_id, job.name) + "?confirm=delete")
    try:
        delete_job(actor_of(request), job.pk, read_reason(request))
    except Refused as refused:
        return _say(request, job, refused)
    messages.success(request, f"{job.name} is deleted; its executions are being stopped.")
    return _see("jobs:list")


def _say(request: HttpRequest, job: AnyJob, refused: Refused) -> HttpResponse:
    messages.error(request, f"{refused.detail} {refused.hint}".strip())
    return _see_job(job)


def _see_job(job: AnyJob) -> HttpResponse:
    return _see(resolve_url("jobs:detail", str(job.pk)))


# --- The editor ----------------------------------------------------------------------------------


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def new_job(request: HttpRequest) -> HttpResponse:
    editor_page.require_submitter(request.user)
    if request.method == "POST":
        return _start(request, None)
    example = request.GET.get("example", "")
    if example and example not in EXAMPLES:
        raise Http404
    draft = None if example else editor_page.draft_of(request.user, None)
    example = example or next(iter(EXAMPLES))
    text = (
        draft.text
        if draft
        else editor_page.example_text(request.user, example, current_namespace(request))
    )
    return _show(request, None, Entry(text=text), example="" if draft else example)


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def edit_job(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    if request.method == "POST":
        entry = read_entry(request)
        # The job is the one that was opened: its name may be another's by now.
        key = str(entry.job_id) if entry.job_id else name
        return _start(request, find_job(request.user, key, WRITE, namespace))
    job = find_job(request.user, name, WRITE, namespace)
    draft = editor_page.draft_of(request.user, job.pk)
    text = draft.text if draft else editor_page.stored_text(job)
    base = f"{job.pk}.{draft.base_version}" if draft else etag_of(job)
    return _show(request, job, Entry(text=text, job_id=job.pk, base=base))


@require_POST
@login_required
def plan_job(request: HttpRequest) -> HttpResponse:
    """Answer the editor with the plan of its text, and keep the text as a draft."""
    entry = read_entry(request)
    job = _job_of(request.user, entry)
    if job is None:
        editor_page.require_submitter(request.user)
    _keep_draft(request, entry, job)
    if request.headers.get("HX-Request") != "true":
        return _show(request, job, entry)
    found = editor.study(request.user, entry, job)
    return render(request, "jobs/_plan_answer.html", {"view": _view(request, job, entry, found)})


@require_POST
@login_required
def discard_job_draft(request: HttpRequest) -> HttpResponse:
    entry = read_entry(request)
    job = _job_of(request.user, entry)
    discard_draft(_user_id(request), job.pk if job else None)
    messages.success(request, "The draft is gone.")
    return _see(resolve_url("jobs:edit", job.namespace_id, job.name) if job else "jobs:new")


@require_POST
@login_required
def save_job_file(request: HttpRequest) -> HttpResponse:
    """Give the editor's text back as a file, whatever is wrong with it."""
    entry = read_entry(request)
    job = _job_of(request.user, entry)
    return _file(entry.text, job.name if job else "job")


def _file(text: str, name: str) -> HttpResponse:
    # A job's name has no character that a header or a file system minds.
    response = HttpResponse(text, content_type="application/yaml; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.yaml"'
    return response


def _job_of(user: Person, entry: Entry) -> AnyJob | None:
    return find_job(user, str(entry.job_id), WRITE) if entry.job_id else None


def _start(request: HttpRequest, job: AnyJob | None) -> HttpResponse:
    """Submit the editor's text; whatever stands against it is shown beside the same text."""
    entry = read_entry(request)
    found = editor.study(request.user, entry, job)
    if found.intake is None or found.plan.status != 200:
        return _show(request, job, entry, found)
    submission = Submission(
        spec=found.intake.spec,
        source_text=entry.text,
        force=entry.force,
        expected=found.expected,
        reason=entry.reason,
        signatures=found.intake.signatures,
    )
    try:
        done = submit_job(actor_of(request), submission)
    except Refused as refused:
        # The world moved between the look and the lock: look again, and say so.
        again = editor.study(request.user, entry, job)
        plan = again.plan if again.plan.status != 200 else editor.with_refusal(again.plan, refused)
        return _show(request, job, entry, Study(plan=plan))
    if job is None:
        discard_draft(_user_id(request), None)
    verb = "created" if done.created else "submitted"
    messages.success(request, f"{done.job.name}: version {done.version.number} {verb}.")
    return _see(resolve_url("jobs:detail", done.job.namespace_id, done.job.name))


def _keep_draft(request: HttpRequest, entry: Entry, job: AnyJob | None) -> None:
    """Keep a text that differs from what is stored; a character that cannot be stored is not."""
    user_id = _user_id(request)
    if "\0" in entry.text:
        return
    if job is not None and entry.text == editor_page.stored_text(job):
        discard_draft(user_id, job.pk)
        return
    base = editor.base_number(entry.base)
    save_draft(user_id, job.pk if job else None, base, entry.text)


def _show(
    request: HttpRequest,
    job: AnyJob | None,
    entry: Entry,
    found: Study | None = None,
    example: str = "",
) -> HttpResponse:
    found = found or editor.study(request.user, entry, job)
    view = _view(request, job, entry, found, example)
    status = found.plan.status if request.method == "POST" else 200
    return render(request, "jobs/job_editor.html", {"view": view}, status=status)


def _view(
    request: HttpRequest, job: AnyJob | None, entry: Entry, found: Study, example: str = ""
) -> EditorView:
    return EditorView(
        entry=entry,
        plan=found.plan,
        job_id=job.pk if job else None,
        namespace=job.namespace_id if job else "",
        name=job.name if job else "",
        version=job.version if job else 0,
        draft=editor_page.draft_of(request.user, job.pk if job else None),
        examples=tuple((key, title) for key, (_, title) in EXAMPLES.items()),
        example=example,
        command=editor_page.command_of(
            request.build_absolute_uri("/"), job.name if job else "job", entry.base if job else ""
        ),
    )


def _user_id(request: HttpRequest) -> int:
    assert request.user.pk is not None
    return int(request.user.pk)


def _see(address: str) -> HttpResponse:
    return HttpResponseRedirect(resolve_url(address), status=303)
