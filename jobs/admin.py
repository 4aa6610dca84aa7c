"""Jobs and their versions to look at: changes go through pages and REST."""

from django.contrib import admin

from access.admin import ReadOnlyAdmin
from jobs.models import Job, JobVersion


@admin.register(Job)
class JobAdmin(ReadOnlyAdmin):
    list_display = ["name", "namespace", "job_type", "state", "version", "revision", "created_at"]
    list_filter = ["namespace", "job_type", "state"]
    search_fields = ["name"]


@admin.register(JobVersion)
class JobVersionAdmin(ReadOnlyAdmin):
    list_display = ["job", "number", "cause", "created_by", "created_at"]
    list_select_related = ["job"]
    ordering = ["-created_at"]
