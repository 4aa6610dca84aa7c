"""Machines, their labels, their presence and the tokens by which they join."""

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Func, Q

from nodes.states import ConnectionState, EnrolmentState, SchedulingState


class UuidV7(Func):
    """PostgreSQL's time-ordered UUID: new rows land beside each other in the index."""

    function = "uuidv7"
    output_field = models.UUIDField()


class Node(models.Model):
    """One machine that runs an agent."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    namespace = models.ForeignKey(
        "access.Namespace", on_delete=models.PROTECT, related_name="nodes"
    )
    name = models.CharField(max_length=128)
    hostname = models.CharField(max_length=253)
    machine_id = models.CharField(max_length=128)
    os = models.CharField(max_length=32, blank=True, default="")
    arch = models.CharField(max_length=32, blank=True, default="")
    agent_version = models.CharField(max_length=32, blank=True, default="")
    hardware_fingerprint = models.CharField(max_length=128, blank=True, default="")
    # What the agent declares, what an operator set, and the two merged (operator wins).
    reported_labels = models.JSONField(default=dict, blank=True)
    operator_labels = models.JSONField(default=dict, blank=True)
    labels = models.JSONField(default=dict, blank=True)
    capabilities = models.JSONField(default=dict, blank=True)
    facts = models.JSONField(default=dict, blank=True)
    conditions = models.JSONField(default=list, blank=True)
    resource_usage = models.JSONField(default=dict, blank=True)
    max_jobs = models.PositiveIntegerField(default=10)

    connection_state = models.CharField(
        max_length=16,
        choices=[(s, s) for s in ConnectionState],
        default=ConnectionState.DISCONNECTED,
    )
    scheduling_state = models.CharField(
        max_length=16, choices=[(s, s) for s in SchedulingState], default=SchedulingState.READY
    )
    enrolment_state = models.CharField(
        max_length=16, choices=[(s, s) for s in EnrolmentState], default=EnrolmentState.PENDING
    )
    drain_evicts = models.BooleanField(default=False)
    message = models.CharField(max_length=1024, blank=True, default="")
    connected_since = models.DateTimeField(null=True, blank=True)
    disconnected_since = models.DateTimeField(null=True, blank=True)
    revision = models.BigIntegerField(default=1)
    last_edge_seq_num = models.BigIntegerField(default=0)
    last_orchestrator_seq_num = models.BigIntegerField(default=0)

    public_key = models.CharField(max_length=64, help_text="Base64 of the Ed25519 key.")
    fingerprint = models.CharField(max_length=80)
    enrolled_at = models.DateTimeField(null=True, blank=True)
    enrolled_by = models.CharField(max_length=150, blank=True, default="")
    enrollment_source_type = models.CharField(max_length=32, blank=True, default="bootstrap_token")
    enrollment_identity_uri = models.CharField(max_length=253, blank=True, default="")
    enrollment_claims = models.JSONField(default=dict, blank=True)
    credential_valid_until = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    # Set whenever something changed that can move work; cleared when jobs have looked at it.
    changed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(
                fields=["machine_id"],
                condition=~Q(connection_state="deleted")
                & Q(enrolment_state__in=["pending", "accepted"]),
                name="node_machine_once",
            ),
            models.CheckConstraint(name="node_revision_positive", condition=Q(revision__gte=1)),
        ]
        indexes = [
            GinIndex(fields=["labels"], name="node_labels", opclasses=["jsonb_path_ops"]),
            models.Index(fields=["namespace", "name"], name="node_by_name"),
            # What dashboards count, from the index alone.
            models.Index(
                fields=["namespace", "connection_state", "scheduling_state", "enrolment_state"],
                name="node_by_state",
            ),
            models.Index(
                fields=["changed_at"], condition=Q(changed_at__isnull=False), name="node_changed"
            ),
        ]

    def __str__(self) -> str:
        """Return the name."""
        return self.name


class NodePresence(models.Model):
    """When a node was last heard: a narrow table, since it is written all the time."""

    node = models.OneToOneField(
        Node, primary_key=True, on_delete=models.CASCADE, related_name="presence"
    )
    last_seen_at = models.DateTimeField()
    # When its present session opened: before that nothing could be heard of it.
    session_since = models.DateTimeField(null=True, blank=True)
    gateway = models.CharField(max_length=64, blank=True, default="")

    def __str__(self) -> str:
        """Say when it was heard."""
        return f"{self.node_id} seen {self.last_seen_at}"


class NodeEvent(models.Model):
    """One change of one node; never rewritten."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField()
    kind = models.CharField(max_length=48)
    message = models.CharField(max_length=1024, blank=True, default="")
    details = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["node", "-id"], name="node_event_by_node")]

    def __str__(self) -> str:
        """Say what happened."""
        return f"{self.kind}: {self.message}"


class EnrolmentToken(models.Model):
    """A secret by which machines may ask to join; only its digest is kept."""

    digest = models.CharField(max_length=64, unique=True)
    namespace = models.ForeignKey(
        "access.Namespace", on_delete=models.CASCADE, related_name="enrolment_tokens"
    )
    # Labels that win over what the agent claims (docs/security.md).
    labels = models.JSONField(default=dict, blank=True)
    auto_accept = models.BooleanField(default=False)
    max_uses = models.PositiveIntegerField(default=1)
    uses = models.PositiveIntegerField(default=0)
    expires_at = models.DateTimeField()
    created_by = models.CharField(max_length=150, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="enrolment_token_not_overused",
                condition=Q(uses__lte=models.F("max_uses")),
            )
        ]

    def __str__(self) -> str:
        """Say where it leads."""
        return f"enrolment token for {self.namespace_id}"


class IngestClock(models.Model):
    """One row: when the control plane was last able to take in reports (law 7)."""

    last_ok_at = models.DateTimeField()
    started_at = models.DateTimeField()

    def __str__(self) -> str:
        """Say when it last ticked."""
        return f"ingest alive at {self.last_ok_at}"


class IngestGap(models.Model):
    """A span in which the control plane heard nobody, so that silence proves nothing."""

    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        """Say how long it was."""
        return f"no ingest from {self.started_at} to {self.ended_at}"
