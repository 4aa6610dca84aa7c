"""Rollouts, executions and the planner's records to look at."""

from django.contrib import admin

from access.admin import ReadOnlyAdmin
from rollouts.models import Evaluation, Execution, Result, Rollout


@admin.register(Rollout)
class RolloutAdmin(ReadOnlyAdmin):
    list_display = ["id", "job", "strategy", "state", "current_wave", "total_waves", "started_at"]
    list_filter = ["namespace", "state", "strategy"]
    list_select_related = ["job"]


@admin.register(Execution)
class ExecutionAdmin(ReadOnlyAdmin):
    list_display = ["id", "job", "job_version", "node", "desired_state", "observed_state"]
    list_filter = ["namespace", "desired_state", "observed_state"]
    list_select_related = ["job", "node"]


@admin.register(Evaluation)
class EvaluationAdmin(ReadOnlyAdmin):
    list_display = ["id", "job", "triggered_by", "rule", "message", "created_at"]
    list_select_related = ["job"]


@admin.register(Result)
class ResultAdmin(ReadOnlyAdmin):
    list_display = ["execution", "status", "exit_code", "completed_at"]
