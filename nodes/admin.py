"""Nodes and their events to look at; enrolment tokens to end."""

from django.contrib import admin
from django.http import HttpRequest

from access.admin import AuditedAdmin, ReadOnlyAdmin
from nodes.models import EnrolmentToken, IngestGap, Node, NodeEvent


@admin.register(Node)
class NodeAdmin(ReadOnlyAdmin):
    list_display = ["name", "namespace", "connection_state", "scheduling_state", "enrolment_state"]
    list_filter = ["namespace", "connection_state", "scheduling_state", "enrolment_state"]
    search_fields = ["name", "hostname", "machine_id"]


@admin.register(NodeEvent)
class NodeEventAdmin(ReadOnlyAdmin):
    list_display = ["at", "node", "kind", "message"]
    list_select_related = ["node"]


@admin.register(EnrolmentToken)
class EnrolmentTokenAdmin(AuditedAdmin):
    """Tokens are made by the service, which alone sees their text; here they are cut or ended."""

    list_display = ["id", "namespace", "labels", "auto_accept", "uses", "max_uses", "expires_at"]
    list_filter = ["namespace"]
    readonly_fields = ["namespace", "labels", "uses", "created_by", "created_at"]
    exclude = ["digest"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(IngestGap)
class IngestGapAdmin(ReadOnlyAdmin):
    list_display = ["started_at", "ended_at"]
