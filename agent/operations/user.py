"""The accounts of a node and their SSH keys (docs/semantics.md 2.7, domain user).

A spec is kept for ever, so a password comes as its hash, and no answer ever holds one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from agent.operations.base import Answer, Handler, OperationError, Params, at, program
from agent.operations.group import change, checked_name, groups, name_of, rows
from agent.operations.ssh_keys import KeyFile, fingerprint_of, has_fingerprint, key_of, single_key

TOOLS = ("useradd", "usermod", "userdel", "chpasswd")
Account = dict[str, Any]
# crypt(5): a method, its settings, the salt and the hash, each after a dollar sign.
_HASH_RE = re.compile(r"\$[0-9A-Za-z]{1,8}(?:\$[./0-9A-Za-z=,+-]*)*\$[./0-9A-Za-z+]{22,128}")
_PATH_RE = re.compile(r"/[^:,\x00-\x1f\x7f]*")


def _passwords() -> dict[str, str]:
    """Return the password field of every account; raises OperationError unless root asks."""
    return {row[0]: row[1] for row in rows("/etc/shadow", 2)}


def _accounts() -> list[Account]:
    """Return all accounts, sorted by name; without root nothing is known of their passwords."""
    known = groups()
    names = {group["gid"]: group["name"] for group in known}
    try:
        passwords = _passwords()
    except OperationError:
        passwords = {}
    found = [
        {
            "name": row[0],
            "uid": int(row[2]),
            "gid": int(row[3]),
            "group": names.get(int(row[3]), ""),
            "groups": [
                group["name"]
                for group in known
                if row[0] in group["members"] and group["gid"] != int(row[3])
            ],
            "comment": row[4],
            "home": row[5],
            "shell": row[6],
            **_password_state(passwords.get(row[0])),
        }
        for row in rows("/etc/passwd", 7)
        if row[2].isdecimal() and row[3].isdecimal()
    ]
    return sorted(found, key=lambda account: str(account["name"]))


def _password_state(field: str | None) -> dict[str, bool | None]:
    """Tell locked from never set: the tools write "!" for both, a lock before a hash."""
    if field is None:
        return {"has_password": None, "locked": None}
    return {"has_password": bool(_hash_in(field)), "locked": field.startswith("!")}


def _hash_in(field: str) -> str:
    """Return the hash of a password field, locked or not; a star means that none can fit."""
    return "" if "*" in field else field.lstrip("!")


def _find(name: str) -> Account | None:
    return next((account for account in _accounts() if account["name"] == name), None)


def _existing(name: str) -> Account:
    account = _find(name)
    if account is None:
        raise OperationError(f"there is no account {name} in /etc/passwd", "not_found")
    return account


def _list(_: Params) -> Answer:
    return Answer(data={"users": _accounts()})


def _get(params: Params) -> Answer:
    return Answer(data={"user": _existing(name_of(params))})


def _path(params: Params, name: str) -> str | None:
    """Return the home folder or the shell that is asked for, None where none is."""
    value = params.get(name)
    if value is None:
        return None
    path = str(value)
    if _PATH_RE.fullmatch(path) is None or ".." in path.split("/"):
        message = f"{name} must be an absolute path without '..', ':' and ',', not {path!r}"
        raise OperationError(message, "invalid_value")
    if name == "shell" and not at(path).is_file():
        raise OperationError(f"there is no shell {path} on this machine", "invalid_value")
    return path


def _groups(params: Params) -> list[str] | None:
    wanted = params.get("groups")
    return None if wanted is None else sorted({checked_name(str(name)) for name in wanted})


def _hash(params: Params) -> str:
    """Return the hash of the wished password; an error must not repeat what was given."""
    given = str(params["password"])
    if not given.startswith("$"):
        message = "give the hash that `openssl passwd -6` prints, not the password itself"
        raise OperationError(message, "invalid_value")
    if _HASH_RE.fullmatch(given) is None:
        message = "password is no whole crypt(3) hash; give all that `openssl passwd -6` prints"
        raise OperationError(message, "invalid_value")
    return given


def _set_password(name: str, wanted: str) -> bool:
    """Give an account its password, a locked one stays locked; say whether it had another."""
    field = _passwords().get(name, "")
    if _hash_in(field) == wanted:
        return False
    lock = "!" if field.startswith("!") and _hash_in(field) else ""
    # On its standard input, because arguments are seen by everybody on the machine.
    change("chpasswd", "--encrypted", text=f"{name}:{lock}{wanted}\n")
    return True


def _create(params: Params) -> Answer:
    name = name_of(params)
    password = _hash(params) if params.get("password") is not None else None
    wanted = {
        "uid": params.get("uid"),
        "gid": params.get("gid"),
        "home": _path(params, "home"),
        "shell": _path(params, "shell"),
        "groups": _groups(params),
    }
    account = _find(name)
    if account is None:
        _add(name, {key: value for key, value in wanted.items() if value is not None}, params)
    else:
        _refuse_another(account, wanted, password)
    has_changed = password is not None and _set_password(name, password)
    return Answer(changed=account is None or has_changed, data={"user": _existing(name)})


def _add(name: str, wanted: Mapping[str, Any], params: Params) -> None:
    options = {"uid": "--uid", "gid": "--gid", "home": "--home-dir", "shell": "--shell"}
    arguments = [
        text for key, option in options.items() if key in wanted for text in (option, wanted[key])
    ]
    if wanted.get("groups"):
        arguments += ["--groups", ",".join(wanted["groups"])]
    arguments += ["--system", "--no-create-home"] if params.get("system") else ["--create-home"]
    change("useradd", *map(str, arguments), "--", name)


def _refuse_another(account: Account, wanted: Mapping[str, Any], password: str | None) -> None:
    """Raise OperationError (`conflict`) if an account is not the one that is asked for."""
    different = [
        key
        for key, value in wanted.items()
        if value is not None and value != _comparable(account, key, value)
    ]
    present = _hash_in(_passwords().get(account["name"], ""))
    if password is not None and present and present != password:
        different.append("password")
    if different:
        message = (
            f"the account {account['name']} is there with another {', '.join(different)};"
            " update it instead"
        )
        raise OperationError(message, "conflict")


def _comparable(account: Account, key: str, value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return what an account has; its own group may be named among its groups or not."""
    if key == "groups" and account["group"] in value:
        return sorted({*account["groups"], account["group"]})
    return account[key]


def _update(params: Params) -> Answer:
    """Change shell, home, groups (all of them) and lock where given, in one step.

    The files of a home folder stay where they are. A lock bars the password, not the SSH keys.
    """
    name = name_of(params)
    account = _existing(name)
    arguments: list[str] = []
    for key, option in (("home", "--home"), ("shell", "--shell")):
        wanted = _path(params, key)
        if wanted is not None and wanted != account[key]:
            arguments += [option, wanted]
    groups_wanted = _groups(params)
    if groups_wanted is not None and groups_wanted != _comparable(account, "groups", groups_wanted):
        arguments += ["--groups", ",".join(groups_wanted)]
    arguments += _lock(account, params.get("lock"))
    if arguments:
        change("usermod", *arguments, "--", name)
    return Answer(changed=bool(arguments), data={"user": _existing(name)})


def _lock(account: Account, wanted: object) -> list[str]:
    """Return what locks or unlocks; where no password was ever set there is nothing to unlock."""
    if wanted is None or wanted == account["locked"]:
        return []
    if wanted:
        return ["--lock"]
    return ["--unlock"] if account["has_password"] else []


def _delete(params: Params) -> Answer:
    """Remove an account; its home folder stays, since nothing could bring it back."""
    name = name_of(params)
    account = _find(name)
    if account is None:
        return Answer(changed=False, data={"name": name})
    if account["uid"] in (0, os.getuid()):
        raise OperationError(f"{name} is root or runs the agent, and stays", "forbidden")
    change("userdel", "--", name)
    return Answer(changed=True, data={"name": name, "home_kept": account["home"]})


def _password(params: Params) -> Answer:
    name, wanted = name_of(params), _hash(params)
    _existing(name)
    return Answer(changed=_set_password(name, wanted), data={"name": name})


def _key_file(params: Params) -> tuple[str, KeyFile]:
    account = _existing(name_of(params))
    file = KeyFile(home=account["home"], uid=account["uid"], gid=account["gid"])
    return account["name"], file


def _list_keys(params: Params) -> Answer:
    name, file = _key_file(params)
    keys = [asdict(key) for key in map(key_of, file.lines()) if key is not None]
    return Answer(data={"name": name, "keys": sorted(keys, key=lambda key: key["fingerprint"])})


def _create_key(params: Params) -> Answer:
    name, file = _key_file(params)
    line, key = single_key(str(params["key"]))
    lines = file.lines()
    if any(has_fingerprint(known, key.fingerprint) for known in lines):
        changed = file.mend_modes()
    else:
        file.write([*lines, line])
        changed = True
    return Answer(changed=changed, data={"name": name, "key": asdict(key)})


def _delete_key(params: Params) -> Answer:
    name, file = _key_file(params)
    fingerprint = fingerprint_of(str(params["fingerprint"]))
    lines = file.lines()
    kept = [line for line in lines if not has_fingerprint(line, fingerprint)]
    if kept != lines:
        file.write(kept)
    return Answer(changed=kept != lines, data={"name": name, "fingerprint": fingerprint})


HANDLERS: dict[str, Handler] = {
    "user.account.list": _list,
    "user.account.get": _get,
    "user.account.create": _create,
    "user.account.update": _update,
    "user.account.delete": _delete,
    "user.password.update": _password,
    "user.key.list": _list_keys,
    "user.key.create": _create_key,
    "user.key.delete": _delete_key,
}
_QUERIES = ("user.account.list", "user.account.get")
_KEYS = ("user.key.list", "user.key.create", "user.key.delete")


def available() -> Collection[str]:
    """Return what this machine can do: all but reading the accounts needs root, most the tools."""
    if not at("/etc/passwd").is_file():
        return []
    if os.geteuid() != 0:
        return _QUERIES
    return list(HANDLERS) if all(map(program, TOOLS)) else [*_QUERIES, *_KEYS]
