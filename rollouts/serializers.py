"""The shapes of the rollouts API, for its OpenAPI document; records.py fills them."""

from typing import Any

from rest_framework import serializers as s

from jobs.serializers import Event, StateShape


class WaitingOn(s.Serializer[Any]):
    """Why nothing moves: the rule, its sentence and its numbers."""

    rule = s.CharField()
    reason = s.CharField()
    facts = s.DictField()
    since = s.DateTimeField()
    until = s.DateTimeField(allow_null=True)


class Rollout(s.Serializer[Any]):
    """One rollout."""

    id = s.UUIDField()
    status = s.CharField()
    type = s.CharField()
    strategy = s.CharField()
    version = s.IntegerField(allow_null=True)
    pause_reason = s.CharField()
    canary_nodes = s.ListField(child=s.CharField())
    canary_promoted = s.BooleanField()
    current_wave = s.IntegerField()
    total_waves = s.IntegerField()
    total_nodes = s.IntegerField()
    failed_nodes = s.IntegerField()
    updated_nodes = s.IntegerField()
    rollback_to_version = s.IntegerField()
    started_at = s.DateTimeField()
    completed_at = s.DateTimeField(allow_null=True)
    waiting_on = WaitingOn(required=False)


class RolloutPage(s.Serializer[Any]):
    """A page of rollouts."""

    items = Rollout(many=True)
    next_token = s.CharField()


class RollbackRequest(s.Serializer[Any]):
    """Which version to return to; absent: the last that completed and differs."""

    target_version = s.IntegerField(required=False)
    reason = s.CharField(required=False)


class Reason(s.Serializer[Any]):
    """Why, for the audit log."""

    reason = s.CharField(required=False)


class RolloutAct(Reason):
    """Why, and which rollout is meant: another one that is active by now is left alone."""

    rollout = s.UUIDField(required=False)


class ExecutionStatus(s.Serializer[Any]):
    """What the system wants and observed."""

    created_at = s.DateTimeField()
    updated_at = s.DateTimeField()
    desired_state = StateShape()
    observed_state = StateShape()
    details = s.DictField()
    previous_execution_id = s.CharField()
    next_execution_id = s.CharField()
    revision = s.IntegerField()
    stable_at = s.DateTimeField(allow_null=True)


class Execution(s.Serializer[Any]):
    """One version of one job on one node."""

    id = s.UUIDField()
    eval_id = s.CharField()
    job_id = s.UUIDField()
    job_spec = s.DictField()
    job_type = s.CharField()
    job_version = s.IntegerField()
    namespace = s.CharField()
    node_id = s.UUIDField()
    node_name = s.CharField()
    rollout_id = s.CharField()
    rollout_wave = s.IntegerField()
    status = ExecutionStatus()


class ExecutionPage(s.Serializer[Any]):
    """A page of executions."""

    items = Execution(many=True)
    next_token = s.CharField()


class Result(s.Serializer[Any]):
    """How an execution ended."""

    execution_id = s.UUIDField()
    job_id = s.UUIDField()
    job_version = s.IntegerField()
    node_id = s.UUIDField()
    hostname = s.CharField()
    status = s.CharField()
    output = s.CharField()
    error = s.CharField()
    exit_code = s.IntegerField(allow_null=True)
    changed = s.BooleanField(allow_null=True)
    data = s.JSONField(allow_null=True)  # type: ignore[assignment]
    started_at = s.DateTimeField(allow_null=True)
    completed_at = s.DateTimeField(allow_null=True)
    duration_ms = s.IntegerField(allow_null=True)
    truncated = s.BooleanField()
    attempt = s.IntegerField()


class ResultPage(s.Serializer[Any]):
    """A page of results."""

    items = Result(many=True)
    next_token = s.CharField()


class EvaluationStatus(s.Serializer[Any]):
    """Where an evaluation stands."""

    state = s.CharField()
    message = s.CharField()
    revision = s.IntegerField()
    created_at = s.DateTimeField()
    updated_at = s.DateTimeField()
    wait_until = s.DateTimeField(allow_null=True)


class Evaluation(s.Serializer[Any]):
    """One run of the planner."""

    id = s.UUIDField()
    job_id = s.UUIDField()
    rollout_id = s.CharField()
    namespace = s.CharField()
    priority = s.IntegerField()
    type = s.CharField()
    triggered_by = s.CharField()
    rule = s.CharField()
    facts = s.DictField()
    wave = s.IntegerField()
    status = EvaluationStatus()


class EvaluationPage(s.Serializer[Any]):
    """A page of evaluations."""

    items = Evaluation(many=True)
    next_token = s.CharField()


class LogLines(s.Serializer[Any]):
    """Some lines of a log."""

    seq = s.IntegerField()
    stream = s.CharField()
    at = s.DateTimeField()
    lines = s.ListField(child=s.CharField())


class LogPage(s.Serializer[Any]):
    """Lines in order; `next_after` continues where they end."""

    items = LogLines(many=True)
    next_after = s.IntegerField()


class HistoryPage(s.Serializer[Any]):
    """A page of events."""

    items = Event(many=True)
    next_token = s.CharField()


class OperationAnswer(s.Serializer[Any]):
    """What one node answered; members of the operation's own stand beside these."""

    execution_id = s.UUIDField()
    node_id = s.UUIDField()
    node_name = s.CharField()
    hostname = s.CharField()
    status = s.ChoiceField(choices=("ok", "failed", "skipped"))
    changed = s.BooleanField(required=False)
    error = s.CharField(required=False)
    error_code = s.CharField(required=False)
    stdout = s.CharField(required=False)
    stderr = s.CharField(required=False)
    exit_code = s.IntegerField(required=False, allow_null=True)


class OperationMissing(s.Serializer[Any]):
    """A node that has not answered yet."""

    node_id = s.UUIDField()
    node_name = s.CharField()
    hostname = s.CharField()


class OperationAnswers(s.Serializer[Any]):
    """What the nodes of a call answered; with 202 also who has not yet."""

    job_id = s.UUIDField()
    results = OperationAnswer(many=True)
    missing = OperationMissing(many=True, required=False)
    more = s.CharField(required=False)
