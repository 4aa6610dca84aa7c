"""What people send along from the pages of jobs: the editor's fields, reasons, selections."""

from dataclasses import dataclass
from uuid import UUID

from django import forms
from django.http import HttpRequest

from access.problems import Refused

REASON_LENGTH = 1024


class ReasonForm(forms.Form):
    """Why something is done: kept in the audit log."""

    reason = forms.CharField(max_length=REASON_LENGTH, required=False)


class EditorForm(forms.Form):
    """The editor's small fields; the text itself is read as it is, so that no rule eats it."""

    job = forms.UUIDField(required=False)
    base = forms.CharField(max_length=64, required=False)
    seen = forms.CharField(max_length=64, required=False)
    accept = forms.CharField(max_length=64, required=False)
    force = forms.BooleanField(required=False)
    reason = forms.CharField(max_length=REASON_LENGTH, required=False)


class SelectionForm(forms.Form):
    """Jobs chosen in the list, and whether the second step was taken."""

    job = forms.TypedMultipleChoiceField(coerce=UUID, required=False)
    sure = forms.BooleanField(required=False)
    reason = forms.CharField(max_length=REASON_LENGTH, required=False)

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request.POST)
        field = self.fields["job"]
        assert isinstance(field, forms.TypedMultipleChoiceField)
        # Any id may be sent: which of them exist for this person is the query's to say.
        field.choices = [(value, value) for value in request.POST.getlist("job")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What stands in the editor: the text, and what its writer has seen of the stored job.

    `base` is the ETag of the version that the text began from, "" for a new job. `seen` is that
    of a job which the last plan of a new job found under the name, `accept` that of a version
    submitted in the meantime, which the writer wants to replace.
    """

    text: str
    job_id: UUID | None = None
    base: str = ""
    seen: str = ""
    accept: str = ""
    force: bool = False
    reason: str = ""


def read_entry(request: HttpRequest) -> Entry:
    """Return what the editor sent. Raises Refused `invalid_value` for what its page cannot send."""
    form = EditorForm(request.POST)
    if not form.is_valid():
        field, errors = next(iter(form.errors.items()))
        raise Refused("invalid_value", f"{field}: {' '.join(map(str, errors))}")
    data = form.cleaned_data
    return Entry(
        # Browsers send every line break as CR LF.
        text=request.POST.get("spec", "").replace("\r\n", "\n"),
        job_id=data["job"],
        base=data["base"],
        seen=data["seen"],
        accept=data["accept"],
        force=data["force"],
        reason=data["reason"],
    )


def read_reason(request: HttpRequest) -> str:
    """Return the reason sent along. Raises Refused `invalid_value`."""
    form = ReasonForm(request.POST)
    if not form.is_valid():
        raise Refused("invalid_value", "The reason is too long: 1,024 characters at most.")
    return str(form.cleaned_data["reason"])
