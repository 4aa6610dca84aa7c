"""Jobs, their immutable versions, what happened to them, and drafts."""

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from jobs.states import JobState
from nodes.models import UuidV7


class Job(models.Model):
    """What should run: an identity, its present state, and the number of its newest version."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    namespace = models.ForeignKey("access.Namespace", on_delete=models.PROTECT, related_name="jobs")
    name = models.CharField(max_length=128)
    job_type = models.CharField(max_length=16)
    description = models.CharField(max_length=4096, blank=True, default="")
    labels = models.JSONField(default=dict, blank=True)
    priority = models.IntegerField(default=50)

    state = models.CharField(
        max_length=16, choices=[(s, s) for s in JobState], default=JobState.PENDING
    )
    state_message = models.CharField(max_length=1024, blank=True, default="")
    state_details = models.JSONField(default=dict)
    version = models.PositiveIntegerField(default=1)
    revision = models.BigIntegerField(default=1)
    # The newest version whose rollout completed: where a halted rollout returns to.
    stable_version = models.PositiveIntegerField(null=True, blank=True)
    # The number of this job's last event; taken under the job's lock, so events have an order.
    event_seq = models.BigIntegerField(default=0)
    # When the scheduler must look at this job again; null means nothing is due.
    reconcile_due_at = models.DateTimeField(null=True, blank=True)
    # Nodes came, went or changed their labels since the scheduler last looked.
    nodes_changed = models.BooleanField(default=False)
    pending_since = models.DateTimeField(null=True, blank=True)
    created_by = models.CharField(max_length=150, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField()
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["namespace", "name"],
                condition=~Q(state="deleted"),
                name="job_name_once_per_namespace",
            ),
            models.CheckConstraint(
                name="job_revision_not_below_version", condition=Q(revision__gte=F("version"))
            ),
            models.CheckConstraint(name="job_version_positive", condition=Q(version__gte=1)),
        ]
        indexes = [
            models.Index(
                fields=["reconcile_due_at"],
                condition=Q(reconcile_due_at__isnull=False),
                name="job_due",
            ),
            models.Index(fields=["namespace", "-created_at", "-id"], name="job_newest"),
        ]

    def __str__(self) -> str:
        """Return namespace and name."""
        return f"{self.namespace_id}/{self.name}"


class JobVersion(models.Model):
    """One spec of a job, as a person wrote it and as it was understood. Never changed."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    spec = models.JSONField()
    # The text as submitted, comments included; empty when it came as JSON.
    source_text = models.TextField(blank=True, default="")
    spec_hash = models.CharField(max_length=64)
    run_hash = models.CharField(max_length=64)
    # create, update, restart or rollback: what the rollout of this version is for.
    cause = models.CharField(max_length=16, default="update")
    # For a rollback: the version it left.
    rolled_back_from = models.PositiveIntegerField(null=True, blank=True)
    reason = models.CharField(max_length=1024, blank=True, default="")
    created_by = models.CharField(max_length=150, blank=True, default="")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-number"]
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="job_version_once"),
        ]

    def __str__(self) -> str:
        """Return job and number."""
        return f"{self.job} v{self.number}"


class JobDraft(models.Model):
    """A text that one person has not submitted yet."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="job_drafts"
    )
    job = models.ForeignKey(
        Job, null=True, blank=True, on_delete=models.CASCADE, related_name="drafts"
    )
    base_version = models.PositiveIntegerField(default=0)
    text = models.TextField()
    updated_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["user", "job"], nulls_distinct=False, name="draft_once_per_user_and_job"
            )
        ]

    def __str__(self) -> str:
        """Say whose it is."""
        return f"draft of {self.user}"


class FileObject(models.Model):
    """A named file of a namespace that operations put onto nodes, its bytes with it."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    namespace = models.ForeignKey(
        "access.Namespace", on_delete=models.PROTECT, related_name="file_objects"
    )
    name = models.CharField(max_length=255)
    content = models.BinaryField()
    # Of the content: its SHA-256 in hex, and its length in bytes.
    sha256 = models.CharField(max_length=64)
    size = models.PositiveIntegerField()
    content_type = models.CharField(
        max_length=8, choices=[("raw", "raw"), ("template", "template")], default="raw"
    )
    created_by = models.CharField(max_length=150, blank=True, default="")
    created_at = models.DateTimeField()
    updated_by = models.CharField(max_length=150, blank=True, default="")
    updated_at = models.DateTimeField()

    class Meta:
        # Not "namespace", which would join its table, and lock its row too.
        ordering = ["namespace_id", "name"]
        constraints = [
            models.UniqueConstraint(
                fields=["namespace", "name"], name="file_object_once_per_namespace"
            )
        ]

    def __str__(self) -> str:
        """Return namespace and name."""
        return f"{self.namespace_id}/{self.name}"


class Event(models.Model):
    """One change of state, in order; never rewritten (law 4). The id is the global number."""

    # Without an index of its own: the constraint below begins with it.
    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events", db_index=False)
    # The job's own numbering, taken under its lock: what replay and live pages follow.
    job_seq = models.BigIntegerField()
    namespace = models.CharField(max_length=63)
    job_version = models.PositiveIntegerField()
    # Plain ids: the log outlives what it tells of, and its rows name nouns of higher apps.
    rollout_id = models.UUIDField(null=True, blank=True)
    execution_id = models.UUIDField(null=True, blank=True)
    node_id = models.UUIDField(null=True, blank=True)
    kind = models.CharField(max_length=48)
    message = models.CharField(max_length=1024, blank=True, default="")
    # old_state, new_state, wave, and whatever else explains it.
    details = models.JSONField(default=dict)
    at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(fields=["job", "job_seq"], name="event_once_per_job_seq")
        ]
        indexes = [
            models.Index(fields=["rollout_id", "-id"], name="event_by_rollout"),
            models.Index(fields=["execution_id", "-id"], name="event_by_execution"),
            models.Index(fields=["namespace", "-id"], name="event_by_namespace"),
        ]

    def __str__(self) -> str:
        """Say what happened."""
        return f"{self.job_seq} {self.kind}"
