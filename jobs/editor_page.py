"""The editor's page around the plan: drafts, the text to begin from, examples."""

import re
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings

from access.problems import Refused
from access.queries import Person, namespaces_for, permissions_in, readable_namespaces
from access.roles import SUBMIT_PERMISSIONS
from jobs.canonical import spec_hash
from jobs.changes import spec_of
from jobs.document import parse_document
from jobs.editor import PlanView
from jobs.forms import Entry
from jobs.models import Job, JobDraft, JobVersion
from jobs.problems import SpecRefused
from jobs.spec import parse_spec

# name -> (file in examples/, title): what a new job can begin from.
EXAMPLES = {
    "web-log": ("web-log-v1.yaml", "Pipeline that follows a log"),
    "log-processor": ("seed-log-processor.yaml", "Pipeline over files"),
    "script": ("hello-script.yaml", "Shell script, once"),
}
_NAMESPACE_LINE = re.compile(r"(?m)^namespace: .*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A text that its writer left without submitting it."""

    text: str
    base_version: int
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EditorView:
    """The editor's page."""

    entry: Entry
    plan: PlanView
    job_id: UUID | None = None
    namespace: str = ""
    name: str = ""
    version: int = 0
    draft: Draft | None = None
    examples: tuple[tuple[str, str], ...] = ()
    example: str = ""
    # What submits the saved file by REST, for those who automate.
    command: str = ""


def command_of(here: str, name: str, base: str) -> str:
    """Return the command that submits the editor's text, once it is saved as a file, by REST.

    `base` is the version that was edited: the server refuses when another one came in between.
    """
    guard = f" -H 'If-Match: \"{base}\"'" if base else ""
    return (
        f'curl -sS -X PUT -H "Authorization: Bearer $TOKEN"{guard} '
        f'-H "Content-Type: application/yaml" --data-binary @{name}.yaml {here}api/v1/jobs'
    )


def draft_of(user: Person, job_id: UUID | None) -> Draft | None:
    """Return what a person has not submitted yet, of a job or (None) of a new one."""
    drafts = JobDraft.objects.filter(user_id=user.pk or 0)
    found = drafts.filter(job__isnull=True) if job_id is None else drafts.filter(job_id=job_id)
    row = found.first()
    if row is None:
        return None
    return Draft(text=row.text, base_version=row.base_version, updated_at=row.updated_at)


def stored_text(job: Job) -> str:
    """Return a job's newest version as text: as it was written if that still reads the same.

    JSON and texts of an older schema are shown as YAML of the present one.
    """
    version = JobVersion.objects.get(job=job, number=job.version)
    written = version.source_text
    if written and written.lstrip()[:1] not in ("{", "["):
        try:
            if spec_hash(parse_spec(parse_document(written)).spec) == version.spec_hash:
                return written
        except SpecRefused:
            pass
    return spec_of(version).to_yaml()


def example_text(user: Person, name: str, namespace: str) -> str:
    """Return an example as the text of a new job in a namespace where the person may write."""
    file, _ = EXAMPLES[name]
    text = (settings.BASE_DIR / "examples" / file).read_text()
    writable = namespaces_for(user, "job:write")
    if namespace not in writable:
        namespace = "default" if "default" in writable or not writable else writable[0]
    return _NAMESPACE_LINE.sub(f"namespace: {namespace}", text, count=1)


def require_submitter(user: Person) -> None:
    """Refuse `forbidden` to a person who may not submit any job at all (docs/semantics.md 4.8 stage 0)."""
    held = (permissions_in(user, name) for name in readable_namespaces(user))
    if not any(SUBMIT_PERMISSIONS & permissions for permissions in held):
        raise Refused("forbidden", "A new job needs job:write in a namespace.")
