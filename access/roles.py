"""Who may do what: every permission, the built-in roles, and how role names become permissions."""

from collections.abc import Iterable, Mapping
from enum import StrEnum


class Role(StrEnum):
    """The built-in roles; custom roles stand beside them."""

    ADMIN = "admin"
    WRITE = "write"
    READ = "read"


# The words shown for the built-in roles (docs/semantics.md 2.8).
ROLE_TITLES: dict[Role, str] = {
    Role.ADMIN: "Admin",
    Role.WRITE: "Operator",
    Role.READ: "Viewer",
}

# permission -> the letters of the roles that hold it, besides admin, which holds all
# (docs/semantics.md 2.6: 36 permissions; 4.10: 8 more).
_TABLE: dict[str, str] = {
    "agent:read": "wr",
    "agent:write": "",
    "node:read": "wr",
    "node:write": "w",
    "network:read": "wr",
    "network:write": "w",
    "job:read": "wr",
    "job:write": "w",
    "health:read": "wr",
    "audit:read": "",
    "command:execute": "",
    "file:read": "wr",
    "file:write": "w",
    "docker:read": "wr",
    "docker:write": "w",
    "docker:execute": "",
    "cron:read": "wr",
    "cron:write": "w",
    "sysctl:read": "wr",
    "sysctl:write": "w",
    "ntp:read": "wr",
    "ntp:write": "w",
    "timezone:read": "wr",
    "timezone:write": "w",
    "power:execute": "",
    "process:read": "wr",
    "process:execute": "",
    "user:read": "wr",
    "user:write": "w",
    "package:read": "wr",
    "package:write": "w",
    "log:read": "wr",
    "certificate:read": "wr",
    "certificate:write": "w",
    "service:read": "wr",
    "service:write": "w",
    "rollout:read": "wr",
    "rollout:write": "w",
    "namespace:read": "wr",
    "namespace:write": "",
    "account:read": "",
    "account:write": "",
    "signer:read": "",
    "signer:write": "",
}

PERMISSIONS: tuple[str, ...] = tuple(_TABLE)

ROLE_PERMISSIONS: dict[str, frozenset[str]] = {
    Role.ADMIN: frozenset(_TABLE),
    Role.WRITE: frozenset(name for name, letters in _TABLE.items() if "w" in letters),
    Role.READ: frozenset(name for name, letters in _TABLE.items() if "r" in letters),
}

# Any of these lets a caller try to submit a job at all (docs/semantics.md 4.8 stage 0).
SUBMIT_PERMISSIONS: frozenset[str] = frozenset(
    name for name in _TABLE if name.endswith((":write", ":execute"))
)

_TYPE_PERMISSIONS: dict[str, frozenset[str]] = {
    "pipeline": frozenset({"job:write"}),
    "config": frozenset({"job:write"}),
    "script": frozenset({"job:write", "command:execute"}),
}

_NO_CUSTOM_ROLES: Mapping[str, frozenset[str]] = {}


def permissions_of(
    role_names: Iterable[str],
    custom_roles: Mapping[str, Iterable[str]] = _NO_CUSTOM_ROLES,
    direct: Iterable[str] = (),
) -> frozenset[str]:
    """Return the union of what roles allow (docs/semantics.md 2.6).

    A custom role hides a built-in one of the same name; an unknown role, and an unknown permission
    of a custom role, give nothing. Direct permissions, if there are any, replace all roles.
    """
    given = frozenset(direct)
    if given:
        return given & ROLE_PERMISSIONS[Role.ADMIN]
    held: set[str] = set()
    for name in role_names:
        if name in custom_roles:
            held.update(custom_roles[name])
        else:
            held |= ROLE_PERMISSIONS.get(name, frozenset())
    return ROLE_PERMISSIONS[Role.ADMIN] & held


def permissions_to_submit(
    job_type: str, operation_permissions: Iterable[str] = ()
) -> frozenset[str]:
    """Return every permission that a job of a type asks for, all of them needed (docs/semantics.md 4.10).

    Operations ask for their own, also inside a config job, which else would lend its author the
    permissions of others.
    """
    return _TYPE_PERMISSIONS.get(job_type, frozenset()) | frozenset(operation_permissions)
