"""The services of systemd (docs/semantics.md 2.7, domain service)."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from agent.operations.base import (
    Answer,
    Handler,
    OperationError,
    Params,
    at,
    has_systemd,
    offered,
    program,
    read,
    remove,
    run,
    write,
)
from agent.operations.objects import text_of_object

FOLDER = "/etc/systemd/system"
# The first line of a unit that the control plane made; behind it stands the object it came from.
MARK = "# jobsite: "
_NAME_RE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@\\-]{0,245}")
# systemctl would take these for units of another kind.
_OTHER_KINDS = (
    ".automount",
    ".device",
    ".mount",
    ".path",
    ".scope",
    ".slice",
    ".socket",
    ".swap",
    ".target",
    ".timer",
)
_PROPERTIES = (
    "Id",
    "Description",
    "LoadState",
    "ActiveState",
    "SubState",
    "UnitFileState",
    "FragmentPath",
    "NeedDaemonReload",
    "MainPID",
    "MemoryCurrent",
    "NRestarts",
    "Result",
    "ExecMainStatus",
)
# States of a unit file that starts its unit by itself, so that there is something to disable.
_ENABLED = frozenset(
    {"enabled", "enabled-runtime", "linked", "linked-runtime", "alias", "generated"}
)


def _systemctl(*arguments: str) -> str:
    tool = program("systemctl")
    if tool is None:
        raise OperationError("this node has no systemctl; install systemd", "not_found")
    return run([tool, "--no-pager", *arguments]).stdout


def _unit(params: Params) -> str:
    """Return the full name of the unit. Raises OperationError."""
    name = str(params["name"]).removesuffix(".service")
    plain = _NAME_RE.fullmatch(name) and ".." not in name
    # A template (foo@) is no service, but what services are made of.
    if not plain or name.endswith((*_OTHER_KINDS, "@")):
        raise OperationError(f"{name!r} is no name of a service", "invalid_value")
    return f"{name}.service"


def _file(unit: str) -> str:
    return f"{FOLDER}/{unit}"


def _object_of(unit: str) -> str | None:
    """Return the object that our unit came from, None for a unit that is not ours."""
    first = read(_file(unit), "").partition("\n")[0]
    return first.removeprefix(MARK) if first.startswith(MARK) else None


def _properties(unit: str) -> dict[str, str]:
    said = _systemctl("show", f"--property={','.join(_PROPERTIES)}", "--", unit)
    pairs = (line.partition("=") for line in said.splitlines())
    return {"LoadState": "", "ActiveState": "", **{key: value for key, _, value in pairs}}


def _known(unit: str) -> dict[str, str]:
    """Return the properties of a service that there is. Raises OperationError (`not_found`)."""
    found = _properties(unit)
    # A service whose file is gone may still be running.
    if found["LoadState"] == "not-found" and found["ActiveState"] in {"", "inactive"}:
        raise OperationError(f"there is no service {unit}", "not_found")
    return found


def _number(text: str) -> int | None:
    # systemd says 2^64-1 for what it does not know.
    return int(text) if text.isdecimal() and int(text) < 2**63 else None


def _told(unit: str, found: Mapping[str, str] | None = None) -> dict[str, Any]:
    found = _properties(unit) if found is None else found
    service = {
        "name": unit,
        "description": found.get("Description", ""),
        "load_state": found.get("LoadState", ""),
        "active_state": found.get("ActiveState", ""),
        "sub_state": found.get("SubState", ""),
        "unit_file_state": found.get("UnitFileState", ""),
        "path": found.get("FragmentPath") or None,
        "main_pid": _number(found.get("MainPID", "")) or None,
        "memory_bytes": _number(found.get("MemoryCurrent", "")),
        "restarts": _number(found.get("NRestarts", "")),
        "result": found.get("Result", ""),
        "exit_status": _number(found.get("ExecMainStatus", "")),
        "object": _object_of(unit),
    }
    return {"service": service}


def _rows(command: str, *columns: str) -> list[dict[str, str]]:
    """Return a list of systemctl as rows of texts."""
    said = _systemctl(
        command, "--type=service", "--all", "--full", "--plain", "--no-legend", "--output=json"
    )
    # systemd knows JSON here since version 246; an older one writes columns.
    if not said.lstrip().startswith("["):
        lines = (line.split(None, len(columns) - 1) for line in said.splitlines())
        return [dict(zip(columns, line, strict=False)) for line in lines if line]
    try:
        rows = json.loads(said)
    except ValueError as error:
        raise OperationError(f"systemctl {command} gave no JSON: {error}") from error
    return [{name: str(row.get(name) or "") for name in columns} for row in rows]


def _list(_: Params) -> Answer:
    files = {
        row["unit_file"]: row.get("state", "")
        for row in _rows("list-unit-files", "unit_file", "state")
        if not row["unit_file"].endswith("@.service")
    }
    found = {name: _listed({"unit": name}, state) for name, state in files.items()}
    for row in _rows("list-units", "unit", "load", "active", "sub", "description"):
        found[row["unit"]] = _listed(row, files.get(row["unit"], ""))
    return Answer(data={"services": [found[name] for name in sorted(found)]})


def _listed(row: Mapping[str, str], file_state: str) -> dict[str, str]:
    """Return one row of the list; what is not loaded has a file and no state."""
    return {
        "name": row["unit"],
        "description": row.get("description", ""),
        "load_state": row.get("load", "not-loaded"),
        "active_state": row.get("active", "inactive"),
        "sub_state": row.get("sub", "dead"),
        "unit_file_state": file_state,
    }


def _get(params: Params) -> Answer:
    unit = _unit(params)
    return Answer(data=_told(unit, _known(unit)))


def _start(params: Params) -> Answer:
    return _turn(_unit(params), "start", "ActiveState", lambda state: state == "active")


def _stop(params: Params) -> Answer:
    return _turn(
        _unit(params), "stop", "ActiveState", lambda state: state in {"inactive", "failed"}
    )


def _restart(params: Params) -> Answer:
    return _turn(_unit(params), "restart", "ActiveState", lambda _: False)


def _enable(params: Params) -> Answer:
    unit = _unit(params)
    answer = _turn(unit, "enable", "UnitFileState", lambda state: state == "enabled")
    # systemctl only warns of this.
    if answer.data["service"]["unit_file_state"] == "static":
        text = f"{unit} cannot be enabled: give its unit an [Install] section"
        raise OperationError(text)
    return answer


def _disable(params: Params) -> Answer:
    return _turn(_unit(params), "disable", "UnitFileState", lambda state: state not in _ENABLED)


def _turn(unit: str, verb: str, name: str, holds: Callable[[str], bool]) -> Answer:
    """Have systemctl do `verb` unless the property of this name says that it holds already."""
    found = _known(unit)
    if holds(found.get(name, "")):
        return Answer(changed=False, data=_told(unit, found))
    _systemctl(verb, "--", unit)
    return Answer(changed=True, data=_told(unit))


def _text(params: Params) -> str:
    """Return the text of the unit with our mark before it. Raises OperationError."""
    origin, content = str(params["object"]), text_of_object(params)
    if not origin.isprintable():
        raise OperationError(f"{origin!r} is no name of an object", "invalid_value")
    return f"{MARK}{origin}\n{content.rstrip()}\n"


def _create(params: Params) -> Answer:
    unit, text = _unit(params), _text(params)
    if os.path.lexists(at(_file(unit))):
        if _object_of(unit) is None:
            reason = (
                f"{_file(unit)} is there and was not made from here; name the service otherwise"
            )
            raise OperationError(reason, "conflict")
        if read(_file(unit)) != text:
            reason = f"{unit} is there with another content; update it instead"
            raise OperationError(reason, "conflict")
    elif (path := _properties(unit).get("FragmentPath")) and at(path).exists():
        reason = f"there is a service {unit} already, at {path}; name the service otherwise"
        raise OperationError(reason, "conflict")
    return _put(unit, text)


def _update(params: Params) -> Answer:
    unit, text = _unit(params), _text(params)
    if not os.path.lexists(at(_file(unit))):
        raise OperationError(f"there is no unit {_file(unit)}; create it first", "not_found")
    _must_be_ours(unit)
    return _put(unit, text)


def _must_be_ours(unit: str) -> None:
    if _object_of(unit) is None:
        text = f"{unit} was not made from here, so it is not changed from here"
        raise OperationError(text, "forbidden")


def _put(unit: str, text: str) -> Answer:
    is_changed = write(_file(unit), text, 0o644)
    # An earlier reload may have failed after the file was written.
    if is_changed or _properties(unit).get("NeedDaemonReload") == "yes":
        _systemctl("daemon-reload")
    return Answer(changed=is_changed, data=_told(unit))


def _delete(params: Params) -> Answer:
    unit = _unit(params)
    path = _file(unit)
    if not os.path.lexists(at(path)):
        found = _properties(unit).get("FragmentPath")
        if found and at(found).exists():
            _must_be_ours(unit)
        return Answer(changed=False, data={"name": unit, "path": path})
    _must_be_ours(unit)
    # Once the file is gone, systemd no longer knows how to stop it or what links to remove.
    _systemctl("disable", "--now", "--", unit)
    remove(path)
    _systemctl("daemon-reload")
    return Answer(changed=True, data={"name": unit, "path": path})


_QUERIES: dict[str, Handler] = {"service.unit.list": _list, "service.unit.get": _get}
HANDLERS: dict[str, Handler] = {
    **_QUERIES,
    "service.unit.create": _create,
    "service.unit.update": _update,
    "service.unit.delete": _delete,
    "service.unit.start": _start,
    "service.unit.stop": _stop,
    "service.unit.restart": _restart,
    "service.unit.enable": _enable,
    "service.unit.disable": _disable,
}


def available() -> Collection[str]:
    """Return what this machine can do: where systemd runs it; changes are made by root alone."""
    if not has_systemd():
        return []
    return offered(HANDLERS if os.geteuid() == 0 else _QUERIES, "systemctl")
