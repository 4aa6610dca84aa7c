"""Puts file objects into namespaces and takes them away, each change with its audit entry."""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from access.problems import Refused
from access.services import Actor, record_audit
from jobs.models import FileObject

# Bytes of one object: with what is around it, it must fit into one frame to a node.
MAX_BYTES = 1024 * 1024
NAME_MAX = 255
CONTENT_TYPES = ("raw", "template")
# What the product itself brings.
RESERVED = "jobsite/"
_NAME_RE = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file on its way in; `force` lets it replace another content of the same name."""

    namespace: str
    name: str
    content: bytes
    content_type: str = "raw"
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """What became of an upload; `created` is a change as well."""

    row: FileObject
    created: bool
    changed: bool


@transaction.atomic
def put_object(actor: Actor, upload: Upload) -> Put:
    """Store an upload under its name, which changes nothing if it is there just so.

    The namespace exists and the permission has been checked.
    Raises Refused: invalid_value, forbidden, body_too_large, conflict.
    """
    _check(upload)
    now = timezone.now()
    values = _values(actor, upload, now)
    created = {**values, "created_by": actor.name[:150], "created_at": now}
    rows = FileObject.objects.select_for_update(no_key=True).defer("content")
    row, is_new = rows.get_or_create(
        namespace_id=upload.namespace, name=upload.name, defaults=created
    )
    if is_new:
        _audit(actor, "file.put", row)
        return Put(row=row, created=True, changed=True)
    old = row.sha256
    if (old, row.content_type) == (values["sha256"], upload.content_type):
        return Put(row=row, created=False, changed=False)
    if not upload.force:
        raise Refused(
            "conflict",
            f"The file {upload.name} exists with another content.",
            hint="Choose another name, or replace it with ?force=1.",
        )
    FileObject.objects.filter(pk=row.pk).update(**values)
    row = FileObject.objects.defer("content").get(pk=row.pk)
    _audit(actor, "file.put", row, old_sha256=old)
    return Put(row=row, created=False, changed=True)


def _values(actor: Actor, upload: Upload, now: datetime) -> dict[str, Any]:
    return {
        "content": upload.content,
        "sha256": hashlib.sha256(upload.content).hexdigest(),
        "size": len(upload.content),
        "content_type": upload.content_type,
        "updated_by": actor.name[:150],
        "updated_at": now,
    }


@transaction.atomic
def delete_object(actor: Actor, object_id: UUID) -> None:
    """Delete an object; what nodes were given of it stays there. Raises Refused `not_found`."""
    rows = FileObject.objects.select_for_update().defer("content")
    row = rows.filter(pk=object_id).first()
    if row is None:
        raise Refused("not_found", "The file was deleted meanwhile.")
    _audit(actor, "file.delete", row)
    row.delete()


def _check(upload: Upload) -> None:
    _check_name(upload.name)
    if upload.content_type not in CONTENT_TYPES:
        raise Refused("invalid_value", f"content_type is one of {', '.join(CONTENT_TYPES)}.")
    if len(upload.content) > MAX_BYTES:
        raise Refused("body_too_large", f"A file has at most {MAX_BYTES} bytes.")
    if upload.content_type == "template":
        try:
            upload.content.decode()
        except UnicodeDecodeError:
            raise Refused("invalid_value", "A template is a text in UTF-8.") from None


def _check_name(name: str) -> None:
    parts = name.split("/")
    if not _NAME_RE.fullmatch(name) or len(name) > NAME_MAX or {".", ".."} & set(parts):
        raise Refused(
            "invalid_value",
            f"A file's name has 1 to {NAME_MAX} letters, digits, '.', '_', '-' and single '/' "
            "between them, and no part of it is '.' or '..'.",
        )
    if name.startswith(RESERVED):
        raise Refused("forbidden", f"Names that begin with {RESERVED} are the product's own.")


def _audit(actor: Actor, action: str, row: FileObject, **more: str) -> None:
    details = {"name": row.name, "sha256": row.sha256, "size": row.size, **more}
    record_audit(actor, action, "file", str(row.pk), row.namespace_id, details=details)
