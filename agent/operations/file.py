"""Files that are made from the control plane's objects (docs/semantics.md 2.7, domain file).

The control plane puts an object's bytes into the parameters: `content` in base64, `sha256` in hex.
What was deployed is remembered, one record for each path, so that nothing else is ever removed.
"""

from __future__ import annotations

import base64
import contextlib
import grp
import hashlib
import json
import os
import posixpath
import pwd
import re
import stat
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.operations.base import Answer, Handler, OperationError, Params, at, read, remove, write
from agent.operations.tokens import facts_of_node

RECORDS = "/var/lib/jobsite/files"
# Nothing is deployed below these; the last is the agents' own.
CLOSED = ("/proc", "/sys", "/dev", "/var/lib/jobsite")
NEW_MODE = 0o644
_MODE_RE = re.compile(r"0?[0-7]{3,4}")
_NUMBER_RE = re.compile(r"[0-9]{1,9}")
_PLACE_RE = re.compile(r"\{\{(.*?)\}\}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What a file is to be; None is whatever it is now."""

    data: bytes
    mode: int | None
    uid: int | None
    gid: int | None

    def holds(self, before: os.stat_result | None) -> bool:
        """Say whether a file's mode, owner, group and size are as wished."""
        return (
            before is not None
            and stat.S_ISREG(before.st_mode)
            and before.st_size == len(self.data)
            and self.mode in (None, before.st_mode & 0o7777)
            and self.uid in (None, before.st_uid)
            and self.gid in (None, before.st_gid)
        )


def _deploy(params: Params) -> Answer:
    path, name = _path(params), str(params["object_name"])
    data = _content(name, params)
    if params.get("content_type") == "template":
        data = _template(name, data, params.get("vars") or {})
    wish = _Wish(
        data=data,
        mode=_mode(str(params.get("mode") or "")),
        uid=_uid(str(params.get("owner") or "")),
        gid=_gid(str(params.get("group") or "")),
    )
    is_changed = _place(path, wish)
    digest = hashlib.sha256(data).hexdigest()
    about = {"path": path, "object_name": name, "sha256": digest, "size": len(data)}
    about |= _now(path)
    # The file comes first: a record without it would let undeploy remove what is not ours.
    write(_record_of(path), json.dumps(about, sort_keys=True), 0o600)
    return Answer(changed=is_changed, data=about)


def _undeploy(params: Params) -> Answer:
    path = _path(params)
    before, record = _stat(path), _recall(path)
    if before is not None and (record is None or not stat.S_ISREG(before.st_mode)):
        text = f"{path} was not deployed by Jobsite, so it stays; remove it by hand"
        raise OperationError(text, "conflict")
    is_changed = before is not None and remove(path)
    remove(_record_of(path))
    name = record["object_name"] if record else ""
    return Answer(changed=is_changed, data={"path": path, "object_name": name})


def _status(params: Params) -> Answer:
    path = _path(params)
    record = _recall(path)
    # Of what is not ours nothing is told, not even whether it is there.
    status = "missing" if record is None else _compare(path, record)
    told = {name: (record or {}).get(name, "") for name in ("object_name", "sha256")}
    return Answer(data={"path": path, "state": status, "deployed": record is not None, **told})


def _compare(path: str, record: Mapping[str, Any]) -> str:
    now = _stat(path)
    if now is None:
        return "missing"
    if not stat.S_ISREG(now.st_mode) or now.st_size != record["size"]:
        return "drifted"
    try:
        digest = hashlib.sha256(at(path).read_bytes()).hexdigest()
    except OSError as error:
        raise OperationError(f"{path} cannot be read: {error.strerror}") from error
    return "in-sync" if digest == record["sha256"] else "drifted"


# --- Parameters ----------------------------------------------------------------------------------


def _path(params: Params) -> str:
    path = str(params["path"])
    is_plain = path == posixpath.normpath(path) and path.isprintable()
    if not is_plain or not path.startswith("/") or path.startswith("//") or path == "/":
        text = f"{path!r} is no absolute path of a file, without '..', '.' and doubled slashes"
        raise OperationError(text, "invalid_value")
    if _is_closed(path):
        raise OperationError(f"nothing is deployed to {path}: choose another folder", "forbidden")
    return path


def _is_closed(path: str) -> bool:
    """Say whether a path leads, also by links, to where nothing is deployed."""
    target = at(path)
    real = Path(os.path.realpath(target.parent), target.name)
    places = [Path(os.path.realpath(at(place))) for place in CLOSED]
    work = Path.cwd()
    # Operations work in a folder below the agent's data, which is where the node's key is.
    places += [folder for folder in (work, *work.parents) if (folder / "node.key").exists()]
    return any(real.is_relative_to(place) for place in places)


def _content(name: str, params: Params) -> bytes:
    if params.get("content") is None:
        raise OperationError(f"there is no object {name!r}: upload it and try again", "not_found")
    try:
        data = base64.b64decode(str(params["content"]), validate=True)
    except ValueError as error:
        raise OperationError(f"object {name!r} is not base64: {error}", "invalid_value") from error
    if hashlib.sha256(data).hexdigest() != params.get("sha256"):
        raise OperationError(f"object {name!r} is not what its sha256 says", "invalid_value")
    return data


def _mode(text: str) -> int | None:
    if not text:
        return None
    if not _MODE_RE.fullmatch(text):
        raise OperationError(f"mode {text!r} is not octal, such as 0644", "invalid_value")
    return int(text, 8)


def _uid(name: str) -> int | None:
    if not name or _NUMBER_RE.fullmatch(name):
        return int(name) if name else None
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError) as error:
        raise OperationError(f"this node has no user {name!r}", "not_found") from error


def _gid(name: str) -> int | None:
    if not name or _NUMBER_RE.fullmatch(name):
        return int(name) if name else None
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError) as error:
        raise OperationError(f"this node has no group {name!r}", "not_found") from error


# --- Templates -----------------------------------------------------------------------------------


def _template(name: str, data: bytes, variables: Mapping[str, Any]) -> bytes:
    try:
        return render(data.decode(), variables).encode()
    except UnicodeDecodeError as error:
        text = f"object {name!r} is no UTF-8 text, so it cannot be a template"
        raise OperationError(text, "invalid_value") from error


def render(text: str, variables: Mapping[str, Any]) -> str:
    """Return a text with each `{{ name }}` replaced: by the variable, else by the node's fact.

    Facts go by `hostname` and by `fact.hostname`. What was put in is not looked at again, so a
    variable may hold braces. Raises OperationError `invalid_value`, which names the line.
    """
    values = {name: _text_of(name, value) for name, value in variables.items()}
    # Gathering facts takes a moment.
    if any(match[1].strip() not in values for match in _PLACE_RE.finditer(text)):
        facts = facts_of_node()
        named = {f"fact.{name}": value for name, value in facts.items()}
        values = {**facts, **named, **values}
    return _PLACE_RE.sub(lambda match: _value(match, values), text)


def _value(match: re.Match[str], values: Mapping[str, str]) -> str:
    name = match[1].strip()
    if name not in values:
        line = match.string.count("\n", 0, match.start()) + 1
        text = f"line {line}: neither vars nor the node's facts have {name!r}"
        raise OperationError(text, "invalid_value")
    return values[name]


def _text_of(name: str, value: Any) -> str:  # noqa: ANN401 - any JSON value
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        raise OperationError(f"vars: {name!r} must be a text or a number", "invalid_value")
    return str(value)


# --- Files and records ---------------------------------------------------------------------------


def _place(path: str, wish: _Wish) -> bool:
    """Make a file what is wished, whole or not at all; say whether that changed anything."""
    before = _stat(path)
    if before is not None and not (stat.S_ISREG(before.st_mode) or stat.S_ISLNK(before.st_mode)):
        raise OperationError(f"{path} is there and is no file: move it away", "conflict")
    try:
        if wish.holds(before) and at(path).read_bytes() == wish.data:
            return False
        _replace(at(path), wish, before)
    except OSError as error:
        raise OperationError(f"{path} cannot be written: {error.strerror}") from error
    return True


def _replace(target: Path, wish: _Wish, before: os.stat_result | None) -> None:
    # A link is replaced, never written through, and its own mode means nothing.
    kept = before if before is not None and stat.S_ISREG(before.st_mode) else None
    uid = wish.uid if wish.uid is not None else kept.st_uid if kept else -1
    gid = wish.gid if wish.gid is not None else kept.st_gid if kept else -1
    # Other bytes do not inherit that they run as somebody else.
    mode = wish.mode if wish.mode is not None else kept.st_mode & 0o777 if kept else NEW_MODE
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".jobsite-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(wish.data)
            file.flush()
            # In this order: a new owner takes away the bits for running as somebody else.
            os.fchown(file.fileno(), uid, gid)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def _stat(path: str) -> os.stat_result | None:
    """Return what is at a path, a link itself and not its end; None if nothing is."""
    try:
        return at(path).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise OperationError(f"{path} cannot be looked at: {error.strerror}") from error


def _now(path: str) -> dict[str, str]:
    """Return mode, owner and group of a file, as names where there are some."""
    found = _stat(path)
    if found is None:
        raise OperationError(f"{path} was removed by somebody else meanwhile", "conflict")
    owner, group = str(found.st_uid), str(found.st_gid)
    with contextlib.suppress(KeyError):
        owner = pwd.getpwuid(found.st_uid).pw_name
    with contextlib.suppress(KeyError):
        group = grp.getgrgid(found.st_gid).gr_name
    return {"mode": f"{found.st_mode & 0o7777:04o}", "owner": owner, "group": group}


def _record_of(path: str) -> str:
    return f"{RECORDS}/{hashlib.sha256(path.encode()).hexdigest()}.json"


def _recall(path: str) -> dict[str, Any] | None:
    """Return what was deployed to a path, None if nothing was."""
    text = read(_record_of(path), "")
    if not text:
        return None
    try:
        record: dict[str, Any] = json.loads(text)
    except ValueError as error:
        text = f"what is remembered of {path} cannot be read: deploy it again"
        raise OperationError(text) from error
    return record


HANDLERS: dict[str, Handler] = {
    "file.deploy.execute": _deploy,
    "file.undeploy.execute": _undeploy,
    "file.status.get": _status,
}


def available() -> Collection[str]:
    """Return what this machine can do: to deploy, the agent must be able to remember it."""
    folder = at(RECORDS)
    nearest = next(place for place in (folder, *folder.parents) if place.exists())
    is_kept = os.access(nearest, os.W_OK | os.X_OK)
    return list(HANDLERS) if is_kept else ["file.status.get"]
