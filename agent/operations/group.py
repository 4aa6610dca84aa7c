"""The groups of a node, from /etc/group (docs/semantics.md 2.7, domain group).

What reads and changes these files of the machine is here; user.py uses it for accounts too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from typing import Any

from agent.operations import base
from agent.operations.base import Answer, Handler, OperationError, Params, at, program, read, run

TOOLS = ("groupadd", "groupdel", "gpasswd")
_NAME_RE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?", re.ASCII)
# What the tools of the shadow suite end with -> our code; any other is operation_failed.
_CODES = {
    2: "invalid_value",
    3: "invalid_value",
    4: "conflict",
    6: "not_found",
    8: "conflict",
    9: "conflict",
}


def name_of(params: Params) -> str:
    """Return the name of the group or account that is meant. Raises OperationError."""
    return checked_name(str(params["name"]))


def checked_name(name: str) -> str:
    """Return a name that can be neither an option nor a path nor two fields of a file.

    Raises OperationError (`invalid_value`).
    """
    if _NAME_RE.fullmatch(name) is None:
        message = f"{name!r} is no name: letters, digits, '_', '.' and '-', not '-' or '.' first"
        raise OperationError(message, "invalid_value")
    return name


def change(tool: str, *arguments: str, text: str | None = None) -> None:
    """Run a tool that changes accounts or groups, on the files below base.ROOT.

    Raises OperationError with the tool's words.
    """
    path = program(tool)
    if path is None:
        raise OperationError(f"this machine has no {tool}")
    root = [] if str(base.ROOT) == "/" else ["--root", str(base.ROOT)]
    done = run([path, *root, *arguments], text=text, check=False)
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip() or f"it ended with {done.returncode}"
        code = _CODES.get(done.returncode, "operation_failed")
        # gpasswd tells an unknown member from a bad option by its words alone.
        code = "not_found" if "does not exist" in said else code
        raise OperationError(f"{tool}: {said[-2000:]}", code)


def rows(path: str, fields: int) -> list[list[str]]:
    """Return the lines of a file like /etc/passwd, split; other lines (`+::::::`) are left out.

    Raises OperationError.
    """
    split = (line.split(":") for line in read(path, "").splitlines())
    return [row for row in split if len(row) >= fields and row[0] and row[0][0] not in "+-#"]


def groups() -> list[dict[str, Any]]:
    """Return all groups, sorted by name; members are those named in the file, sorted.

    Raises OperationError.
    """
    found = [
        {
            "name": row[0],
            "gid": int(row[2]),
            "members": sorted({name for name in row[3].split(",") if name}),
        }
        for row in rows("/etc/group", 4)
        if row[2].isdecimal()
    ]
    return sorted(found, key=lambda group: str(group["name"]))


def _find(name: str) -> dict[str, Any] | None:
    return next((group for group in groups() if group["name"] == name), None)


def _existing(name: str) -> dict[str, Any]:
    group = _find(name)
    if group is None:
        raise OperationError(f"there is no group {name} in /etc/group", "not_found")
    return group


def _list(_: Params) -> Answer:
    return Answer(data={"groups": groups()})


def _get(params: Params) -> Answer:
    return Answer(data={"group": _existing(name_of(params))})


def _create(params: Params) -> Answer:
    name, gid = name_of(params), params.get("gid")
    if (group := _find(name)) is not None:
        if gid is not None and group["gid"] != int(gid):
            message = f"the group {name} is there with gid {group['gid']}, not {gid}"
            raise OperationError(message, "conflict")
        return Answer(changed=False, data={"group": group})
    wanted = [] if gid is None else ["--gid", str(int(gid))]
    change("groupadd", *wanted, *(["--system"] if params.get("system") else []), "--", name)
    return Answer(changed=True, data={"group": _existing(name)})


def _update(params: Params) -> Answer:
    """Make the members of a group exactly those given; without any given nothing is changed."""
    name = name_of(params)
    group = _existing(name)
    members = params.get("members")
    wanted = group["members"] if members is None else sorted({checked_name(m) for m in members})
    if wanted == group["members"]:
        return Answer(changed=False, data={"group": group})
    change("gpasswd", "--members", ",".join(wanted), "--", name)
    return Answer(changed=True, data={"group": _existing(name)})


def _delete(params: Params) -> Answer:
    name = name_of(params)
    group = _find(name)
    if group is None:
        return Answer(changed=False, data={"name": name})
    if group["gid"] == 0:
        raise OperationError(f"{name} is the group of root and stays", "forbidden")
    change("groupdel", "--", name)
    return Answer(changed=True, data={"name": name})


HANDLERS: dict[str, Handler] = {
    "group.entry.list": _list,
    "group.entry.get": _get,
    "group.entry.create": _create,
    "group.entry.update": _update,
    "group.entry.delete": _delete,
}
_QUERIES = ("group.entry.list", "group.entry.get")


def available() -> Collection[str]:
    """Return what this machine can do: groups are changed by root and the shadow tools alone."""
    if not at("/etc/group").is_file():
        return []
    return list(HANDLERS) if os.geteuid() == 0 and all(map(program, TOOLS)) else _QUERIES
