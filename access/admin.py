"""Administration of namespaces, roles and signers; what happened can only be read."""

from typing import Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from access.authentication import actor_of
from access.models import ApiToken, AuditEntry, CustomRole, Namespace, RoleBinding, Signer
from access.services import record_audit


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows that services alone may change, as pages and REST ask them to."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


class AuditedAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Rows that an administrator changes here; the audit log says so."""

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:  # noqa: ANN401
        self._audit(request, "add", obj)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:  # noqa: ANN401
        self._audit(request, "change", obj)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:  # noqa: ANN401
        for obj in queryset:
            self._audit(request, "delete", obj)
        return super().log_deletions(request, queryset)

    def _audit(self, request: HttpRequest, verb: str, obj: Model) -> None:
        kind = obj._meta.model_name or ""
        namespace = getattr(obj, "namespace_id", None) or ""
        details = {"is": str(obj)}
        record_audit(actor_of(request), f"{kind}.{verb}", kind, obj.pk, namespace, details=details)


@admin.register(Namespace)
class NamespaceAdmin(AuditedAdmin):
    list_display = ["name", "description", "require_signatures", "min_signatures", "created_at"]
    search_fields = ["name"]

    def get_readonly_fields(self, request: HttpRequest, obj: Model | None = None) -> list[str]:
        """Keep the name of an existing namespace: it is the key of everything in it."""
        return ["name"] if obj else []


@admin.register(CustomRole)
class CustomRoleAdmin(AuditedAdmin):
    list_display = ["name", "permissions"]


@admin.register(RoleBinding)
class RoleBindingAdmin(AuditedAdmin):
    list_display = ["user", "group", "role", "namespace", "created_at"]
    list_filter = ["role", "namespace"]
    autocomplete_fields = ["user", "namespace"]


@admin.register(Signer)
class SignerAdmin(AuditedAdmin):
    list_display = ["name", "namespace", "fingerprint", "created_at", "retired_at"]
    list_filter = ["namespace"]


@admin.register(ApiToken)
class ApiTokenAdmin(AuditedAdmin):
    """Tokens of all people: to be seen and deleted; each person makes their own."""

    list_display = ["name", "token_key", "user", "created", "expiry", "last_used_at"]
    readonly_fields = ["name", "token_key", "user", "scopes", "created", "expiry", "last_used_at"]
    exclude = ["digest"]
    list_select_related = ["user"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ["at", "actor", "action", "object_kind", "object_id", "namespace", "outcome"]
    list_filter = ["outcome", "namespace"]
    search_fields = ["actor", "action", "object_id"]
