"""Rollouts, their targets, executions and all that is recorded about them."""

from django.db import models
from django.db.models import F, Q

from nodes.models import UuidV7
from rollouts.states import (
    STARTED,
    DesiredState,
    ObservedState,
    PauseReason,
    RolloutState,
    RolloutType,
    Strategy,
    TargetState,
)


class Rollout(models.Model):
    """One version on its way to the nodes of its job."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="rollouts")
    version = models.ForeignKey(
        "jobs.JobVersion", on_delete=models.CASCADE, related_name="rollouts"
    )
    namespace = models.CharField(max_length=63)
    rollout_type = models.CharField(max_length=16, choices=[(s, s) for s in RolloutType])
    strategy = models.CharField(max_length=16, choices=[(s, s) for s in Strategy])
    state = models.CharField(
        max_length=16, choices=[(s, s) for s in RolloutState], default=RolloutState.ACTIVE
    )
    pause_reason = models.CharField(
        max_length=24, blank=True, default="", choices=[(s, s) for s in PauseReason]
    )
    promote_requested = models.BooleanField(default=False)
    canary_promoted = models.BooleanField(default=False)
    canary_size = models.PositiveIntegerField(default=0)
    wave_size = models.PositiveIntegerField(default=0)
    current_wave = models.PositiveIntegerField(default=0)
    total_waves = models.PositiveIntegerField(default=0)
    # Counts of nodes (docs/semantics.md C01, C08): matched, updated or already current, failed.
    total_nodes = models.PositiveIntegerField(default=0)
    updated_nodes = models.PositiveIntegerField(default=0)
    failed_nodes = models.PositiveIntegerField(default=0)
    # The number of nodes when one failed last: leaving later never halts (docs/semantics.md C08).
    total_at_failure = models.PositiveIntegerField(default=0)
    # The stable version behind an update; for a rollback the version that it leaves.
    rollback_to_version = models.PositiveIntegerField(default=0)
    halted_by = models.CharField(max_length=64, blank=True, default="")
    # What it waits on now: rule, reason, facts, until (shown to people; law 2).
    waiting_on = models.JSONField(default=dict)
    revision = models.BigIntegerField(default=1)
    started_by = models.CharField(max_length=150, blank=True, default="")
    reason = models.CharField(max_length=1024, blank=True, default="")
    started_at = models.DateTimeField()
    completed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-started_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["job"],
                condition=Q(state__in=["active", "paused"]),
                name="rollout_one_active_per_job",
            ),
            models.CheckConstraint(
                name="rollout_counts_within_total",
                condition=Q(total_nodes__gte=F("updated_nodes"))
                & Q(total_nodes__gte=F("failed_nodes")),
            ),
            models.CheckConstraint(
                name="rollout_completed_at_when_finished",
                condition=Q(state__in=["active", "paused"], completed_at__isnull=True)
                | Q(
                    state__in=["completed", "halted", "cancelled", "superseded"],
                    completed_at__isnull=False,
                ),
            ),
        ]
        indexes = [
            models.Index(fields=["job", "-started_at"], name="rollout_by_job"),
            models.Index(fields=["namespace", "-started_at", "-id"], name="rollout_newest"),
        ]

    def __str__(self) -> str:
        """Say what it brings."""
        return f"rollout {self.id} of {self.job_id}"


class RolloutTarget(models.Model):
    """One node of one rollout: its place in the order, and what became of it."""

    # Without indexes of their own: a release writes each index of a row anew.
    rollout = models.ForeignKey(
        Rollout, on_delete=models.CASCADE, related_name="targets", db_index=False
    )
    node = models.ForeignKey(
        "nodes.Node", on_delete=models.CASCADE, related_name="targets", db_index=False
    )
    position = models.BigIntegerField()
    ring = models.PositiveIntegerField(default=0)
    # 0 while it is not released, and for the only wave of an immediate rollout.
    wave = models.PositiveIntegerField(default=0)
    state = models.CharField(
        max_length=12, choices=[(s, s) for s in TargetState], default=TargetState.REMAINING
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rollout", "node"], name="target_node_once"),
        ]
        indexes = [
            models.Index(
                fields=["rollout", "position"],
                condition=Q(state="remaining"),
                name="target_remaining",
            ),
            # For opened waves alone: an index of every target that began with its rollout would
            # be taken for the unique one above while the table grows (`rollouts/0009`).
            models.Index(
                fields=["rollout", "wave"], condition=Q(wave__gt=0), name="target_by_wave"
            ),
        ]

    def __str__(self) -> str:
        """Say which node it is."""
        return f"{self.rollout_id} #{self.position}"


class RolloutTally(models.Model):
    """How many nodes of a rollout share a place and a look, kept by triggers (ADR 0012).

    Pages of any fleet read these few rows instead of counting targets and executions. Nothing but
    the triggers of migration 0006 writes them; all writers of what they count hold the job's lock.
    """

    # Without an index of its own: the constraint below begins with it.
    rollout = models.ForeignKey(
        Rollout, on_delete=models.CASCADE, related_name="tallies", db_index=False
    )
    wave = models.PositiveIntegerField()
    # A target's state, or empty in the one row of each rollout that holds its moves.
    state = models.CharField(max_length=12)
    ring = models.PositiveIntegerField()
    # The observed state of the target's execution, or empty while it has none.
    seen = models.CharField(max_length=12)
    count = models.BigIntegerField()
    # By how much the revisions of the rollout's executions have grown: it never falls.
    moves = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["rollout", "wave", "state", "ring", "seen"], name="tally_once"
            )
        ]

    def __str__(self) -> str:
        """Say how many are where."""
        return f"{self.count} {self.state} in wave {self.wave} of {self.rollout_id}"


class JobTally(models.Model):
    """How many executions of a job share a desired and an observed state (ADR 0017).

    Kept by the triggers of migration 0010, as rollouts' tallies are, and under the same lock.
    """

    # Without an index of its own: the constraint below begins with it.
    job = models.ForeignKey(
        "jobs.Job", on_delete=models.CASCADE, related_name="tallies", db_index=False
    )
    desired_state = models.CharField(max_length=8)
    observed_state = models.CharField(max_length=12)
    count = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["job", "desired_state", "observed_state"], name="job_tally_once"
            )
        ]

    def __str__(self) -> str:
        """Say how many are where."""
        return f"{self.count} {self.observed_state} of {self.job_id}"


class Evaluation(models.Model):
    """One run of the planner: what set it off, what it saw, which rule decided, what it did."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="evaluations")
    rollout = models.ForeignKey(
        Rollout, null=True, blank=True, on_delete=models.CASCADE, related_name="evaluations"
    )
    namespace = models.CharField(max_length=63)
    priority = models.IntegerField(default=50)
    job_type = models.CharField(max_length=16)
    triggered_by = models.CharField(max_length=32)
    state = models.CharField(max_length=16, default="complete")
    message = models.CharField(max_length=1024, blank=True, default="")
    # One decision, once (law 3): what was decided about which wave of which rollout.
    wave = models.PositiveIntegerField(default=0)
    kind = models.CharField(max_length=32, blank=True, default="")
    generation = models.PositiveIntegerField(default=0)
    rule = models.CharField(max_length=64, blank=True, default="")
    facts = models.JSONField(default=dict)
    wait_until = models.DateTimeField(null=True, blank=True)
    revision = models.BigIntegerField(default=1)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["rollout", "wave", "kind", "generation"],
                condition=Q(rollout__isnull=False) & ~Q(kind=""),
                name="evaluation_decided_once",
            )
        ]
        indexes = [models.Index(fields=["job", "-id"], name="evaluation_by_job")]

    def __str__(self) -> str:
        """Say what was decided."""
        return f"{self.rule or self.triggered_by}: {self.message}"


class Execution(models.Model):
    """One version of one job on one node."""

    id = models.UUIDField(primary_key=True, db_default=UuidV7(), editable=False)
    namespace = models.CharField(max_length=63)
    # The keys without an index of their own lead one of those below, or are never looked up.
    job = models.ForeignKey(
        "jobs.Job", on_delete=models.CASCADE, related_name="executions", db_index=False
    )
    # The version row is never changed, so it is the copy of the spec that the seed asks for.
    version = models.ForeignKey(
        "jobs.JobVersion", on_delete=models.CASCADE, related_name="executions", db_index=False
    )
    job_version = models.PositiveIntegerField()
    run_hash = models.CharField(max_length=64)
    node = models.ForeignKey(
        "nodes.Node", on_delete=models.CASCADE, related_name="executions", db_index=False
    )
    rollout = models.ForeignKey(
        Rollout,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="executions",
        db_index=False,
    )
    evaluation = models.ForeignKey(
        Evaluation, null=True, blank=True, on_delete=models.SET_NULL, related_name="executions"
    )
    rollout_wave = models.PositiveIntegerField(default=0)
    previous = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    next = models.ForeignKey(
        "self",
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        db_index=False,
    )

    desired_state = models.CharField(max_length=8, choices=[(s, s) for s in DesiredState])
    desired_message = models.CharField(max_length=256, blank=True, default="")
    # Raised with every change of the desired state; the agent confirms the one it knows.
    desired_seq = models.PositiveIntegerField(default=1)
    delivered_seq = models.PositiveIntegerField(default=0)
    observed_state = models.CharField(
        max_length=12, choices=[(s, s) for s in ObservedState], default=ObservedState.PENDING
    )
    observed_message = models.CharField(max_length=1024, blank=True, default="")
    error_code = models.CharField(max_length=64, blank=True, default="")
    details = models.JSONField(default=dict)
    revision = models.BigIntegerField(default=1)

    attempt = models.PositiveIntegerField(default=1)
    restarts = models.PositiveIntegerField(default=0)
    healthy_streak = models.PositiveIntegerField(default=0)
    unhealthy_streak = models.PositiveIntegerField(default=0)
    window_count = models.PositiveIntegerField(default=0)
    last_window_at = models.DateTimeField(null=True, blank=True)
    # From here the start clock runs; moved later while the node is away or the old one stops.
    released_at = models.DateTimeField()
    validating_at = models.DateTimeField(null=True, blank=True)
    # When a clock of this execution runs out; null when none is running.
    deadline_at = models.DateTimeField(null=True, blank=True)
    # The longest a clock may be held off by a node that is away (docs/semantics.md 1.8: twice).
    deadline_cap_at = models.DateTimeField(null=True, blank=True)
    stable_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ["-created_at", "-id"]
        constraints = [
            models.UniqueConstraint(
                fields=["job", "node"],
                condition=Q(desired_state="running"),
                name="execution_one_wanted_per_job_and_node",
            ),
            models.UniqueConstraint(
                fields=["job", "node"],
                condition=Q(observed_state__in=sorted(STARTED)),
                name="execution_one_live_per_job_and_node",
            ),
        ]
        indexes = [
            models.Index(fields=["job", "-created_at", "-id"], name="execution_by_job"),
            models.Index(fields=["namespace", "-created_at", "-id"], name="execution_newest"),
            # What nobody is in, or few are, would else be looked for in every row. A change of
            # state ends its row's place in every index as it is: conditions below name the state.
            models.Index(
                fields=["namespace", "observed_state", "-created_at", "-id"],
                name="execution_by_state",
            ),
            models.Index(
                fields=["namespace", "job_version", "-created_at", "-id"],
                name="execution_by_version",
            ),
            # What became of a target, and what its node had before: exact, so that a wave costs
            # the same whatever the planner believes of rows that were just written.
            models.Index(fields=["rollout", "node"], name="execution_of_target"),
            models.Index(fields=["node", "job", "-created_at"], name="execution_by_node"),
            models.Index(
                fields=["node"],
                condition=Q(delivered_seq__lt=F("desired_seq")),
                name="execution_undelivered",
            ),
            models.Index(
                fields=["node"],
                condition=Q(desired_state="running")
                | Q(observed_state__in=["pending", "stopping", *sorted(STARTED)]),
                name="execution_on_node",
            ),
            # Nodes that a job may have left with nothing but a failure.
            models.Index(
                fields=["job", "job_version"],
                condition=Q(desired_state="stopped", observed_state="failed", next__isnull=True),
                name="execution_given_up",
            ),
            # What nodes refused and is still wanted: looked for whenever a job is.
            models.Index(
                fields=["job"],
                condition=Q(desired_state="running", observed_state="stopped"),
                name="execution_refused",
            ),
            models.Index(
                fields=["deadline_at"],
                condition=Q(deadline_at__isnull=False),
                name="execution_due",
            ),
            # The two questions of a rollout's page that look at single rows: which failed, and
            # which do worst. Partial, so that a report of good health touches neither.
            models.Index(
                fields=["rollout"],
                condition=Q(observed_state__in=["failed", "lost"]),
                name="execution_failed",
            ),
            models.Index(
                fields=["rollout", "-unhealthy_streak"],
                condition=Q(unhealthy_streak__gt=0),
                name="execution_unwell",
            ),
        ]

    def __str__(self) -> str:
        """Say where it stands."""
        return f"execution {self.id} ({self.observed_state})"


class HealthWindow(models.Model):
    """What one execution did in one interval, and how it was judged."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="windows")
    number = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField()
    messages_in = models.BigIntegerField(default=0)
    messages_ok = models.BigIntegerField(default=0)
    errors = models.BigIntegerField(default=0)
    processor_errors = models.BigIntegerField(default=0)
    output_errors = models.BigIntegerField(default=0)
    process_alive = models.BooleanField(default=True)
    restarts = models.PositiveIntegerField(default=0)
    cpu_percent = models.FloatField(null=True, blank=True)
    rss_bytes = models.BigIntegerField(null=True, blank=True)
    last_error = models.CharField(max_length=1024, blank=True, default="")
    is_healthy = models.BooleanField()
    # Measured while the node was away: stored, never judged (docs/semantics.md X16).
    is_late = models.BooleanField(default=False)
    reason = models.CharField(max_length=256, blank=True, default="")

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["execution", "number"], name="window_once")]

    def __str__(self) -> str:
        """Say which it is."""
        return f"window {self.number} of {self.execution_id}"


class Result(models.Model):
    """How an execution ended: exactly one each, of its last attempt (docs/semantics.md 4.7, X98)."""

    execution = models.OneToOneField(
        Execution, primary_key=True, on_delete=models.CASCADE, related_name="result"
    )
    status = models.CharField(max_length=12)
    output = models.TextField(blank=True, default="")
    error = models.TextField(blank=True, default="")
    exit_code = models.IntegerField(null=True, blank=True)
    changed = models.BooleanField(null=True, blank=True)
    data = models.JSONField(null=True, blank=True)
    truncated = models.BooleanField(default=False)
    attempt = models.PositiveIntegerField(default=1)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    duration_ms = models.BigIntegerField(null=True, blank=True)

    def __str__(self) -> str:
        """Return the status."""
        return self.status


class LogChunk(models.Model):
    """Some lines that an execution wrote, in the order in which its node sent them."""

    execution = models.ForeignKey(Execution, on_delete=models.CASCADE, related_name="log_chunks")
    seq = models.BigIntegerField()
    stream = models.CharField(max_length=12, default="stdout")
    lines = models.TextField()
    line_count = models.PositiveIntegerField(default=0)
    at = models.DateTimeField()

    class Meta:
        ordering = ["seq"]
        constraints = [models.UniqueConstraint(fields=["execution", "seq"], name="log_chunk_once")]

    def __str__(self) -> str:
        """Say which it is."""
        return f"log {self.seq} of {self.execution_id}"
