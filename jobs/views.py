"""The pages of jobs: the list, one job, and the editor."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render, resolve_url
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from access.authentication import actor_of
from access.context import current_namespace
from access.problems import Refused
from access.queries import Person
from jobs import editor, editor_page
from jobs.editor import Study
from jobs.editor_page import EXAMPLES, EditorView
from jobs.forms import Entry, read_entry
from jobs.models import Job
from jobs.queries import find_job
from jobs.services import Submission, discard_draft, etag_of, save_draft, submit_job

WRITE = "job:write"


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
    response = HttpResponse(entry.text, content_type="application/yaml; charset=utf-8")
    name = job.name if job else "job"
    response["Content-Disposition"] = f'attachment; filename="{name}.yaml"'
    return response


def _job_of(user: Person, entry: Entry) -> Job | None:
    return find_job(user, str(entry.job_id), WRITE) if entry.job_id else None


def _start(request: HttpRequest, job: Job | None) -> HttpResponse:
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


def _keep_draft(request: HttpRequest, entry: Entry, job: Job | None) -> None:
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
    job: Job | None,
    entry: Entry,
    found: Study | None = None,
    example: str = "",
) -> HttpResponse:
    found = found or editor.study(request.user, entry, job)
    view = _view(request, job, entry, found, example)
    status = found.plan.status if request.method == "POST" else 200
    return render(request, "jobs/job_editor.html", {"view": view}, status=status)


def _view(
    request: HttpRequest, job: Job | None, entry: Entry, found: Study, example: str = ""
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
    )


def _user_id(request: HttpRequest) -> int:
    assert request.user.pk is not None
    return int(request.user.pk)


def _see(address: str) -> HttpResponse:
    return HttpResponseRedirect(resolve_url(address), status=303)


def job_list(request: HttpRequest) -> HttpResponse:
    raise Http404


def job_detail(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    raise Http404


def job_by_id(request: HttpRequest, pk: UUID) -> HttpResponse:
    raise Http404
