"""Reads of file objects: for people in their namespaces (law 10), and for what nodes are sent."""

import base64
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from django.db.models import Q, QuerySet

from access.problems import Refused
from access.queries import Person, namespaces_for, require
from jobs.models import FileObject
from jobs.records import iso
from nodes.operations import OPERATIONS

READ = "file:read"
WRITE = "file:write"
# The parameters that name an object, where an operation has one of them (docs/semantics.md 2.7).
_NAMING = ("object_name", "object")
ObjectKey = tuple[str, str]


def objects_for(
    user: Person, *, namespaces: Collection[str] = (), name: str = ""
) -> QuerySet[FileObject]:
    """Return the objects a person may see, without their content; `name` is a part of theirs."""
    readable = [n for n in namespaces_for(user, READ) if not namespaces or n in namespaces]
    objects = FileObject.objects.filter(namespace_id__in=readable).defer("content")
    return objects.filter(name__icontains=name) if name else objects


def find_object(
    user: Person, name: str, permission: str = READ, namespace: str | None = None
) -> FileObject:
    """Return an object by its name, its content unread until it is asked for.

    A name may need `namespace` when several of the user's namespaces have it.
    Raises Refused `not_found`, `forbidden`, `conflict`.
    """
    namespaces = namespaces_for(user, READ) if namespace is None else (namespace,)
    found = list(objects_for(user, namespaces=namespaces).filter(name=name)[:2])
    if not found:
        raise Refused("not_found", f"There is no file {name[:255]}, or you may not see it.")
    if len(found) > 1:
        raise Refused(
            "conflict",
            f"The name {name[:255]} exists in several namespaces.",
            hint="Add ?namespace=NAME.",
        )
    require(user, permission, found[0].namespace_id)
    return found[0]


def object_record(row: FileObject) -> dict[str, Any]:
    """Return what REST tells of an object: everything but its content."""
    return {
        "id": str(row.pk),
        "namespace": row.namespace_id,
        "name": row.name,
        "content_type": row.content_type,
        "size": row.size,
        "sha256": row.sha256,
        "created_by": row.created_by,
        "created_at": iso(row.created_at),
        "updated_by": row.updated_by,
        "updated_at": iso(row.updated_at),
    }


# --- For nodes: what an operation names goes with it ---------------------------------------------


def naming_param(operation: str) -> str:
    """Return the parameter by which an operation names an object, "" if it has none."""
    row = OPERATIONS.get(operation)
    names = [param.name for param in row.params if param.name in _NAMING] if row else []
    return names[0] if names else ""


def object_named(operation: str, params: Mapping[str, Any]) -> str:
    """Return the name of the object that an operation's parameters name, "" if none."""
    return str(params.get(naming_param(operation)) or "")


def contents_of(wanted: Iterable[ObjectKey]) -> dict[ObjectKey, FileObject]:
    """Return the objects of these (namespace, name) that exist, content included: one query."""
    names: dict[str, set[str]] = defaultdict(set)
    for namespace, name in wanted:
        names[namespace].add(name)
    if not names:
        return {}
    is_wanted = Q()
    for namespace, some in names.items():
        is_wanted |= Q(namespace_id=namespace, name__in=some)
    rows = FileObject.objects.filter(is_wanted).order_by()
    return {(row.namespace_id, row.name): row for row in rows}


def with_objects(
    namespace: str,
    operation: str,
    params: Mapping[str, Any],
    found: Mapping[ObjectKey, FileObject] | None = None,
) -> dict[str, Any]:
    """Return an operation's parameters with the content of the object that they name.

    `found` are objects that were read for many operations at once (`contents_of`); without it one
    query reads this one's. The domain file gets `content` in base64 with its `sha256`, all others
    `content` as text. Without such an object, or if it is no text where text is needed, the
    parameters stay as they are, and the node says what it misses.
    """
    name = object_named(operation, params)
    if not name:
        return dict(params)
    key = (namespace, name)
    row = (contents_of([key]) if found is None else found).get(key)
    return {**params, **(_content(operation, row) if row else {})}


def _content(operation: str, row: FileObject) -> dict[str, str]:
    data = bytes(row.content)
    if OPERATIONS[operation].domain == "file":
        return {"content": base64.b64encode(data).decode(), "sha256": row.sha256}
    try:
        return {"content": data.decode()}
    except UnicodeDecodeError:
        return {}


def bytes_named(namespace: str, steps: Sequence[tuple[str, Mapping[str, Any]]]) -> int:
    """Return how many bytes of objects these operations bring to a node; one query if any does."""
    names = [name for step in steps if (name := object_named(*step))]
    if not names:
        return 0
    rows = FileObject.objects.filter(namespace_id=namespace, name__in=names)
    sizes = dict(rows.values_list("name", "size"))
    return sum(sizes.get(name, 0) for name in names)


def missing_objects(
    namespace: str, steps: Sequence[tuple[str, Mapping[str, Any]]]
) -> list[tuple[int, str]]:
    """Return index and name of each object that these operations name and that is not there.

    A step is an operation's name with its parameters; at most one query for all of them.
    """
    named = [(index, object_named(*step)) for index, step in enumerate(steps)]
    names = {name for _, name in named if name}
    if not names:
        return []
    rows = FileObject.objects.filter(namespace_id=namespace, name__in=names)
    there = set(rows.values_list("name", flat=True))
    return [(index, name) for index, name in named if name and name not in there]
