"""The shapes of the jobs API, for its OpenAPI document; records.py fills them."""

from typing import Any

from django.db.models import Count, QuerySet
from rest_framework import serializers as s

from jobs.models import Job as JobRow

COUNT_CAP = 10_000


class StateShape(s.Serializer[Any]):
    """A state with its sentence."""

    state_type = s.CharField()
    message = s.CharField()
    details = s.DictField()


class JobStatus(s.Serializer[Any]):
    """What the system observed."""

    created_at = s.DateTimeField()
    updated_at = s.DateTimeField()
    version = s.IntegerField()
    revision = s.IntegerField()
    state = StateShape()
    rollout = s.DictField()


class Job(s.Serializer[Any]):
    """A job: what the user wishes and what is."""

    id = s.UUIDField()
    spec = s.DictField()
    status = JobStatus()


class JobPage(s.Serializer[Any]):
    """A page of jobs."""

    items = Job(many=True)
    next_token = s.CharField()
    total_items = s.IntegerField(required=False)
    status_counts = s.DictField(required=False)


class Submission(s.Serializer[Any]):
    """A spec with how it is to be taken; the bare spec is taken as well."""

    spec = s.DictField()
    dry_run = s.BooleanField(required=False)
    force = s.BooleanField(required=False)
    reason = s.CharField(required=False)


class Problem(s.Serializer[Any]):
    """One problem or warning at one place."""

    path = s.CharField()
    code = s.CharField()
    message = s.CharField()
    hint = s.CharField(required=False)
    line = s.IntegerField(required=False)
    column = s.IntegerField(required=False)


class Submitted(s.Serializer[Any]):
    """What became of a submission."""

    job = Job()
    evaluation_id = s.CharField()
    warnings = Problem(many=True)


class Validated(s.Serializer[Any]):
    """A valid spec with its defaults."""

    valid = s.BooleanField()
    spec = s.DictField()
    warnings = Problem(many=True)


class Diff(s.Serializer[Any]):
    """A difference as text and in meaning."""

    diff = s.CharField()
    changes = s.ListField(child=s.DictField())


class Stopped(s.Serializer[Any]):
    """Whether stopping changed anything."""

    changed = s.BooleanField()
    job = Job()


class Version(s.Serializer[Any]):
    """One version of a job."""

    version = s.IntegerField()
    spec = s.DictField()
    cause = s.CharField()
    rolled_back_from = s.IntegerField(allow_null=True)
    reason = s.CharField()
    created_by = s.CharField()
    created_at = s.DateTimeField()
    spec_hash = s.CharField()
    run_hash = s.CharField()


class VersionPage(s.Serializer[Any]):
    """A page of versions."""

    items = Version(many=True)
    next_token = s.CharField()


class Event(s.Serializer[Any]):
    """One change of state."""

    seq_num = s.IntegerField()
    job_seq_num = s.IntegerField()
    timestamp = s.DateTimeField()
    namespace = s.CharField()
    job_id = s.UUIDField()
    job_version = s.IntegerField()
    rollout_id = s.CharField()
    execution_id = s.CharField()
    node_id = s.CharField()
    kind = s.CharField()
    message = s.CharField()
    details = s.DictField()


class EventPage(s.Serializer[Any]):
    """A page of events."""

    items = Event(many=True)
    next_token = s.CharField()


def counts_of(jobs: QuerySet[JobRow]) -> dict[str, Any]:
    """Return how many jobs there are in each state, of all pages (docs/semantics.md 2.4)."""
    rows = jobs.order_by().values("state").annotate(n=Count("pk")).values_list("state", "n")
    counts = dict(rows)
    return {"total_items": sum(counts.values()), "status_counts": counts}
