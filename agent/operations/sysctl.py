"""The settings of the kernel under /proc/sys (docs/semantics.md 2.7, domain sysctl).

What is set from here lasts: each key has a file of its own in /etc/sysctl.d.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from agent.operations.base import (
    Answer,
    Handler,
    OperationError,
    Params,
    at,
    read,
    remove,
    write,
)

PROC = "/proc/sys"
KEPT = "/etc/sysctl.d"
_PREFIX = "90-jobsite-"
# What a list tells at most: keys, and characters of each value; `get` tells a value whole.
KEYS_MAX = 5000
VALUE_MAX = 512
_PART = r"[A-Za-z0-9_][A-Za-z0-9_-]*"
_PART_RE = re.compile(_PART)
_KEY_RE = re.compile(rf"{_PART}(\.{_PART})+")
_CODES = {
    errno.EINVAL: "invalid_value",
    errno.ERANGE: "invalid_value",
    errno.EACCES: "forbidden",
    errno.EPERM: "forbidden",
    errno.EROFS: "forbidden",
}


def _key(params: Params) -> str:
    key = str(params["key"])
    if not _KEY_RE.fullmatch(key) or len(key) > 200:
        text = f"{key!r} is no key of the kernel's settings, such as net.ipv4.ip_forward"
        raise OperationError(text, "invalid_value")
    return key


def _wanted(params: Params) -> str:
    value = _plain(str(params["value"]))
    if not value or not value.isprintable():
        raise OperationError("a value is one line of text", "invalid_value")
    return " ".join(value.split())


def _proc(key: str) -> str:
    return f"{PROC}/{key.replace('.', '/')}"


def _file(key: str) -> str:
    return f"{KEPT}/{_PREFIX}{key}.conf"


def _plain(text: str) -> str:
    return text.strip().replace("\t", " ")


def _running(key: str) -> str:
    """Return the value that the kernel has. Raises OperationError."""
    if not at(_proc(key)).is_file():
        raise OperationError(f"this kernel has no setting {key}", "not_found")
    return _plain(read(_proc(key)))


def _kept(key: str) -> str | None:
    """Return the value that is set from here, None if none is."""
    for line in read(_file(key), "").splitlines():
        name, is_there, value = line.partition("=")
        if is_there and name.strip() == key:
            return value.strip()
    return None


def _is_same(one: str, other: str) -> bool:
    return one.split() == other.split()


def _told(key: str) -> dict[str, Any]:
    return {"key": key, "value": _running(key), "persisted_value": _kept(key)}


def _get(params: Params) -> Answer:
    return Answer(data=_told(_key(params)))


def _walk() -> Iterator[tuple[str, Path]]:
    """Give the keys of all settings with their files, in order."""
    top = at(PROC)
    for folder, folders, files in os.walk(top):
        # A name with a dot, such as a VLAN's, cannot be told apart in a key.
        folders[:] = sorted(name for name in folders if _PART_RE.fullmatch(name))
        parts = Path(folder).relative_to(top).parts
        for name in sorted(files):
            key = ".".join((*parts, name))
            if _KEY_RE.fullmatch(key):
                yield key, Path(folder, name)


def _start_of(path: Path) -> str | None:
    """Return the value in a file, cut; None if it cannot be read."""
    try:
        # To root everything seems readable, also what the kernel only lets be written.
        if not path.stat().st_mode & 0o444:
            return None
        with path.open(errors="replace") as file:
            return _plain(file.read(VALUE_MAX))
    except OSError:
        return None


def _list(_: Params) -> Answer:
    kept = {path.name for path in at(KEPT).glob(f"{_PREFIX}*.conf")}
    found: list[dict[str, Any]] = []
    is_cut = False
    for key, path in _walk():
        if len(found) == KEYS_MAX:
            is_cut = True
            break
        if (value := _start_of(path)) is not None:
            found.append({"key": key, "value": value, "persisted": f"{_PREFIX}{key}.conf" in kept})
    found.sort(key=lambda row: str(row["key"]))
    return Answer(data={"keys": found, "truncated": is_cut})


def _set(key: str, value: str) -> None:
    # Not base.write: nothing can be replaced in /proc, only written.
    try:
        at(_proc(key)).write_text(f"{value}\n")
    except OSError as error:
        text = f"{key} cannot be set to {value!r}: {error.strerror}"
        raise OperationError(text, _CODES.get(error.errno or 0, "operation_failed")) from error


def _create(params: Params) -> Answer:
    key, value = _key(params), _wanted(params)
    kept = _kept(key)
    if kept is not None and not _is_same(kept, value):
        text = f"{key} is set from here to {kept!r}; update it instead"
        raise OperationError(text, "conflict")
    return _hold(key, value)


def _update(params: Params) -> Answer:
    key, value = _key(params), _wanted(params)
    if _kept(key) is None:
        raise OperationError(f"{key} is not set from here; create it first", "not_found")
    return _hold(key, value)


def _hold(key: str, value: str) -> Answer:
    """Set a value now and for every start of the machine."""
    before = _running(key)
    if not _is_same(before, value):
        _set(key, value)
    # The kernel may make something else of it: of `4`, say, the first of four numbers.
    is_set = _running(key) != before
    is_kept = write(_file(key), f"# Set by jobsite.\n{key} = {value}\n", 0o644)
    return Answer(changed=is_set or is_kept, data={**_told(key), "before": before})


def _delete(params: Params) -> Answer:
    key = _key(params)
    is_removed = remove(_file(key))
    value = _start_of(at(_proc(key)))
    note = "the running value stays until the machine starts again" if is_removed else ""
    return Answer(changed=is_removed, data={"key": key, "value": value, "note": note})


_QUERIES: dict[str, Handler] = {"sysctl.key.list": _list, "sysctl.key.get": _get}
HANDLERS: dict[str, Handler] = {
    **_QUERIES,
    "sysctl.key.create": _create,
    "sysctl.key.update": _update,
    "sysctl.key.delete": _delete,
}


def available() -> Collection[str]:
    """Return what this machine can do: root alone sets, and not in a container that only reads."""
    if not at(PROC).is_dir():
        return []
    is_fixed = os.statvfs(at(PROC)).f_flag & os.ST_RDONLY
    return list(HANDLERS if os.geteuid() == 0 and not is_fixed else _QUERIES)
