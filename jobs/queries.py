"""Reads of jobs, each scoped to what the asking person may see (law 10)."""

from collections.abc import Collection
from uuid import UUID

from django.db.models import Q, QuerySet

from access.problems import Refused
from access.queries import Person, namespaces_for, require
from jobs.models import Event, Job, JobVersion
from jobs.states import JobState
from nodes.selector import Selector, SelectorError, parse_label_filter
from nodes.selector import to_sql as selector_sql


def as_uuid(text: str) -> UUID | None:
    """Return the id that a text is, or None."""
    try:
        return UUID(text)
    except ValueError:
        return None


def find_job(
    user: Person, key: str, permission: str = "job:read", namespace: str | None = None
) -> Job:
    """Return a job by its id or by its name (a deleted one by its id only, docs/semantics.md X55).

    A name may need `namespace` when several of the user's namespaces have it.
    Raises Refused `not_found`, `forbidden`, `conflict`.
    """
    readable = namespaces_for(user, "job:read")
    jobs = Job.objects.filter(namespace_id__in=readable)
    if namespace is not None:
        jobs = jobs.filter(namespace_id=namespace)
    job_id = as_uuid(key)
    named = jobs.filter(name=key).exclude(state=JobState.DELETED)
    found = list(jobs.filter(pk=job_id) if job_id else named[:2])
    if not found:
        raise Refused("not_found", f"There is no job {key[:128]}, or you may not see it.")
    if len(found) > 1:
        spaces = ", ".join(sorted(job.namespace_id for job in found))
        raise Refused(
            "conflict",
            f"The name {key} exists in several namespaces: {spaces}.",
            hint="Add ?namespace=NAME, or use the job's id.",
        )
    require(user, permission, found[0].namespace_id)
    return found[0]


def jobs_for(
    user: Person,
    *,
    namespaces: Collection[str] = (),
    types: Collection[str] = (),
    states: Collection[str] = (),
    labels: str = "",
    name: str = "",
    outcomes: Collection[str] = (),
) -> QuerySet[Job]:
    """Return the jobs a person may see, filtered (docs/semantics.md 1.12); deleted ones on request only.

    Raises Refused `invalid_selector` for a label filter that cannot be read.
    """
    readable = namespaces_for(user, "job:read")
    wanted = [n for n in readable if not namespaces or n in namespaces]
    jobs = Job.objects.filter(namespace_id__in=wanted)
    jobs = jobs.filter(state__in=states) if states else jobs.exclude(state=JobState.DELETED)
    if types:
        jobs = jobs.filter(job_type__in=types)
    if name:
        jobs = jobs.filter(name__icontains=name)
    if outcomes:
        jobs = jobs.filter(state_details__outcome__in=list(outcomes))
    return filter_labels(jobs, labels)


def filter_labels(jobs: QuerySet[Job], labels: str) -> QuerySet[Job]:
    """Keep jobs whose labels meet a filter such as `env=prod,!debug`: the selectors' grammar."""
    if not labels:
        return jobs
    try:
        requirements = parse_label_filter(labels)
    except SelectorError as error:
        raise Refused("invalid_selector", f"labels: {error} (column {error.column})") from error
    from_parts = Selector(requirements=requirements)
    condition, params = selector_sql(from_parts, "jobs_job")
    return jobs.extra(where=[condition], params=params)  # noqa: S610 - our own condition


def version_of(job: Job, number: int) -> JobVersion:
    """Return one version of a job. Raises Refused `version_not_found`."""
    version = JobVersion.objects.filter(job=job, number=number).first()
    if version is None:
        raise Refused("version_not_found", f"{job.name} has no version {number}.")
    return version


def versions_of(job: Job) -> QuerySet[JobVersion]:
    """Return every version of a job."""
    return JobVersion.objects.filter(job=job)


def events_of(job: Job, *, execution_id: UUID | None = None, since: int = 0) -> QuerySet[Event]:
    """Return a job's events after the event with the global number `since`."""
    events = Event.objects.filter(job=job, pk__gt=since)
    return events.filter(Q(execution_id=execution_id)) if execution_id else events
