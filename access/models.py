"""Namespaces, who holds which role in them, API tokens, one-time links and the audit log."""

from django.conf import settings
from django.db import models
from django.db.models import Q
from knox.models import AbstractAuthToken


class Namespace(models.Model):
    """A walled garden of jobs and nodes; outside it nothing can be seen (law 10)."""

    name = models.CharField(primary_key=True, max_length=63)
    description = models.CharField(max_length=4096, blank=True, default="")
    require_signatures = models.BooleanField(default=False)
    min_signatures = models.PositiveSmallIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        """Return the name."""
        return self.name


class CustomRole(models.Model):
    """A role made by an administrator; it wins over a built-in one of the same name."""

    name = models.CharField(max_length=64, unique=True)
    permissions = models.JSONField(default=list)

    def __str__(self) -> str:
        """Return the name."""
        return self.name


class RoleBinding(models.Model):
    """A user or a group holds a role in one namespace, or in all, those to come included."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="role_bindings",
    )
    group = models.ForeignKey(
        "auth.Group",
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="role_bindings",
    )
    role = models.CharField(max_length=64, help_text="admin, write, read or a custom role")
    namespace = models.ForeignKey(
        Namespace,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="role_bindings",
        help_text="Empty means every namespace.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="role_binding_one_subject",
                condition=Q(user__isnull=False, group__isnull=True)
                | Q(user__isnull=True, group__isnull=False),
            ),
            models.UniqueConstraint(
                "user",
                "group",
                "role",
                "namespace",
                name="role_binding_unique",
                nulls_distinct=False,
            ),
        ]

    def __str__(self) -> str:
        """Say who holds what where."""
        where = self.namespace_id or "every namespace"
        return f"{self.user or self.group}: {self.role} in {where}"


class ApiToken(AbstractAuthToken):  # type: ignore[misc]  # knox is not typed
    """A bearer token of a user; only its digest is kept."""

    name = models.CharField(max_length=128, default="")
    # Permissions this token is cut down to; empty means all of its user's.
    scopes = models.JSONField(default=list, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        swappable = "KNOX_TOKEN_MODEL"

    def __str__(self) -> str:
        """Return the name and the visible part of the key."""
        return f"{self.name} ({self.token_key}…)"


class SignInLink(models.Model):
    """A link that signs one person in, once; only its digest is kept."""

    digest = models.CharField(max_length=64, unique=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        """Say whose link it is."""
        return f"sign-in link of {self.user}"


class Signer(models.Model):
    """A key whose signatures a namespace trusts, and for what (docs/semantics.md 3.4)."""

    name = models.CharField(max_length=128)
    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE, related_name="signers")
    public_key = models.CharField(max_length=64, help_text="Base64 of the 32 bytes.")
    fingerprint = models.CharField(max_length=80)
    job_types = models.JSONField(default=list, blank=True)
    runners = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["namespace", "public_key"], name="signer_once_per_namespace"
            )
        ]

    def __str__(self) -> str:
        """Return the name."""
        return self.name


class UsedNonce(models.Model):
    """A signature's nonce that was burnt when its job was stored; kept for 24 hours."""

    public_key = models.CharField(max_length=64)
    nonce = models.CharField(max_length=64)
    used_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["public_key", "nonce"], name="nonce_used_once")
        ]

    def __str__(self) -> str:
        """Return the nonce."""
        return self.nonce


class AuditEntry(models.Model):
    """Who asked for what, and whether it was done or refused. Rows are never changed."""

    at = models.DateTimeField(auto_now_add=True)
    # Text, not a key: the entry outlives the account.
    actor = models.CharField(max_length=150)
    token_name = models.CharField(max_length=128, blank=True, default="")
    action = models.CharField(max_length=64, help_text="For example job.submit or rollout.pause.")
    object_kind = models.CharField(max_length=32, blank=True, default="")
    object_id = models.CharField(max_length=128, blank=True, default="")
    namespace = models.CharField(max_length=63, blank=True, default="")
    outcome = models.CharField(
        max_length=8, choices=[("done", "done"), ("denied", "denied")], default="done"
    )
    reason = models.CharField(max_length=1024, blank=True, default="")
    details = models.JSONField(default=dict)
    source_ip = models.GenericIPAddressField(null=True, blank=True)
    request_id = models.CharField(max_length=64, blank=True, default="")

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["namespace", "-id"], name="audit_by_namespace")]

    def __str__(self) -> str:
        """Say who did what."""
        return f"{self.actor} {self.action} {self.object_id}"
