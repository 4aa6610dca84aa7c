"""The registry of node operations: name, place in the API, kind, permission and parameters."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

Scalar = str | int | bool


class Kind(StrEnum):
    """Whether an operation only reads (query) or may change the node (update)."""

    QUERY = "query"
    UPDATE = "update"


class ParamType(StrEnum):
    """The JSON types of parameters; TEXTS is a list of texts, MAP an object of texts."""

    TEXT = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TEXTS = "strings"
    MAP = "map"
    OBJECTS = "objects"


@dataclass(frozen=True, slots=True, kw_only=True)
class Param:
    """One parameter; min and max bound a number's value, a text's or a list's length.

    A `hashed` one is a password's crypt(3) hash, as a spec is kept for ever and read by many.
    """

    name: str
    type: ParamType = ParamType.TEXT
    required: bool = False
    default: Scalar | None = None
    min: int | None = None
    max: int | None = None
    choices: tuple[str, ...] = ()
    hashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ParamProblem:
    """What is wrong with one parameter; `keys` leads to it inside the params."""

    keys: tuple[str | int, ...]
    code: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One row of the registry (docs/semantics.md 2.7, X91).

    `path` is the tail behind /nodes/{target}; an operation without a path has no typed endpoint.
    `permission` is the one to ask for; `also` names one that is accepted in its place.
    `at_least_one` and `exactly_one` name parameters of which so many must be given. `seconds` is
    how long a call of its endpoint may take on a node.
    """

    name: str
    method: str
    path: str
    kind: Kind
    permission: str
    params: tuple[Param, ...] = ()
    also: str = ""
    at_least_one: tuple[str, ...] = ()
    exactly_one: tuple[str, ...] = ()
    seconds: int = 30

    @property
    def domain(self) -> str:
        """The first part of the name."""
        return self.name.partition(".")[0]

    @property
    def path_params(self) -> tuple[str, ...]:
        """The names of the parameters that the path carries."""
        return tuple(re.findall(r"\{(\w+)\}", self.path))


def _text(
    name: str, least: int | None = None, most: int | None = None, default: str | None = None
) -> Param:
    required = name.endswith("*")
    if required and least is None:
        least = 1
    name = name.rstrip("*")
    return Param(name=name, required=required, min=least, max=most, default=default)


def _hash(name: str) -> Param:
    return Param(name=name.rstrip("*"), required=name.endswith("*"), min=1, hashed=True)


def _choice(name: str, *choices: str, default: str | None = None) -> Param:
    required = name.endswith("*")
    return Param(name=name.rstrip("*"), required=required, choices=choices, default=default)


def _int(
    name: str, least: int | None = None, most: int | None = None, default: int | None = None
) -> Param:
    required = name.endswith("*")
    kind = ParamType.INTEGER
    name = name.rstrip("*")
    return Param(name=name, type=kind, required=required, min=least, max=most, default=default)


def _flag(name: str, *, default: bool = False) -> Param:
    return Param(name=name, type=ParamType.BOOLEAN, default=default)


def _many(name: str, kind: ParamType = ParamType.TEXTS) -> Param:
    required = name.endswith("*")
    return Param(name=name.rstrip("*"), type=kind, required=required, min=1 if required else None)


def _vars(name: str = "vars") -> Param:
    return Param(name=name, type=ParamType.MAP)


def _query(name: str, path: str, *params: Param, method: str = "GET", also: str = "") -> Operation:
    domain = name.partition(".")[0]
    return Operation(
        name=name,
        method=method,
        path=path,
        kind=Kind.QUERY,
        permission=f"{_PERMISSION_NOUN.get(domain, domain)}:read",
        params=params,
        also=also,
    )


def _update(
    name: str,
    method: str,
    path: str,
    *params: Param,
    verb: str = "write",
    at_least_one: tuple[str, ...] = (),
    exactly_one: tuple[str, ...] = (),
    seconds: int = 30,
) -> Operation:
    domain = name.partition(".")[0]
    return Operation(
        name=name,
        method=method,
        path=path,
        kind=Kind.UPDATE,
        permission=f"{_PERMISSION_NOUN.get(domain, domain)}:{verb}",
        params=params,
        at_least_one=at_least_one,
        exactly_one=exactly_one,
        seconds=seconds,
    )


# crypt(3): a method, its parameters, the salt and the hash.
_HASH_RE = re.compile(r"\$[0-9a-z]{1,8}\$[A-Za-z0-9./=,$-]{12,}")
_PERMISSION_NOUN = {"group": "user"}
# Seconds for what fetches something from elsewhere, or runs what somebody wrote.
_LONG = 900
_NAME = _text("name*", 1, 255)
_CONTENT = ("raw", "template")
_INTERFACE = (
    _flag("dhcp4"),
    _flag("dhcp6"),
    _many("addresses"),
    _text("gateway4"),
    _text("gateway6"),
    _int("mtu", 68, 9000),
    _text("mac_address"),
    _flag("wakeonlan"),
)
_ROUTES = (_text("iface*"), _many("routes*", ParamType.OBJECTS))
_COMMAND = (_text("command*"), _text("cwd"), _int("timeout", 1, 300, 30))
_CRON = (
    _text("schedule"),
    _choice("interval", "hourly", "daily", "weekly", "monthly"),
    _text("user"),
    _choice("content_type", *_CONTENT),
    _vars(),
)
_SCHEDULES = ("schedule", "interval")
_ACCOUNT = (_text("home"), _text("shell"), _many("groups"))

_ROWS: tuple[Operation, ...] = (
    *(
        _query(f"node.{noun}.get", f"/{noun}")
        for noun in ("status", "disk", "memory", "load", "os", "uptime", "hostname")
    ),
    _update("node.hostname.update", "PUT", "/hostname", _text("hostname*", 1, 253)),
    _update(
        "command.exec.execute",
        "POST",
        "/command/exec",
        *_COMMAND,
        _many("args"),
        verb="execute",
    ),
    _update("command.shell.execute", "POST", "/command/shell", *_COMMAND, verb="execute"),
    _query("network.dns.get", "/network/dns/{iface}", _text("iface*")),
    _update(
        "network.dns.update",
        "PUT",
        "/network/dns",
        _text("interface_name*"),
        _many("servers"),
        _many("search_domains"),
        _flag("override_dhcp"),
        at_least_one=("servers", "search_domains"),
    ),
    _update("network.dns.delete", "DELETE", "/network/dns", _text("interface_name*")),
    _query(
        "network.ping.do", "/network/ping", _text("address*"), method="POST", also="network:write"
    ),
    _query("network.interface.list", "/network/interface"),
    _query("network.interface.get", "/network/interface/{name}", _NAME),
    _update("network.interface.create", "POST", "/network/interface/{name}", _NAME, *_INTERFACE),
    _update("network.interface.update", "PUT", "/network/interface/{name}", _NAME, *_INTERFACE),
    _update("network.interface.delete", "DELETE", "/network/interface/{name}", _NAME),
    _query("network.route.list", "/network/route"),
    _query("network.route.get", "/network/route/{iface}", _text("iface*")),
    _update("network.route.create", "POST", "/network/route/{iface}", *_ROUTES),
    _update("network.route.update", "PUT", "/network/route/{iface}", *_ROUTES),
    _update("network.route.delete", "DELETE", "/network/route/{iface}", _text("iface*")),
    _update(
        "file.deploy.execute",
        "POST",
        "/file/deploy",
        _text("object_name*", 1, 255),
        _text("path*"),
        _choice("content_type*", *_CONTENT),
        _text("mode"),
        _text("owner"),
        _text("group"),
        _vars(),
    ),
    _update("file.undeploy.execute", "POST", "/file/undeploy", _text("path*")),
    _query("file.status.get", "/file/status", _text("path*"), method="POST"),
    _query(
        "docker.container.list",
        "/docker",
        _choice("state", "running", "stopped", "all", default="all"),
        _int("limit", 1, 100, 20),
    ),
    _update(
        "docker.container.create",
        "POST",
        "/docker",
        _text("image*"),
        _text("name"),
        _text("hostname", None, 253),
        *(_many(name) for name in ("dns", "command", "env", "ports", "volumes")),
        _flag("auto_start", default=True),
    ),
    _query("docker.container.get", "/docker/{id}", _text("id*")),
    _update("docker.container.delete", "DELETE", "/docker/{id}", _text("id*"), _flag("force")),
    _update("docker.container.start", "POST", "/docker/{id}/start", _text("id*")),
    _update(
        "docker.container.stop",
        "POST",
        "/docker/{id}/stop",
        _text("id*"),
        _int("timeout", 0, 300, 10),
    ),
    _update(
        "docker.container.exec",
        "POST",
        "/docker/{id}/exec",
        _text("id*"),
        _many("command*"),
        _many("env"),
        _text("working_dir"),
        verb="execute",
        seconds=_LONG,
    ),
    _update("docker.image.pull", "POST", "/docker/pull", _text("image*"), seconds=_LONG),
    _update("docker.image.delete", "DELETE", "/docker/image/{image}", _text("image*")),
    _query("cron.entry.list", "/cron"),
    _query("cron.entry.get", "/cron/{name}", _NAME),
    _update(
        "cron.entry.create",
        "POST",
        "/cron",
        _text("name*", 1, 64),
        _text("object*"),
        *_CRON,
        exactly_one=_SCHEDULES,
    ),
    _update("cron.entry.update", "PUT", "/cron/{name}", _NAME, _text("object"), *_CRON),
    _update("cron.entry.delete", "DELETE", "/cron/{name}", _NAME),
    _query("service.unit.list", "/service"),
    _query("service.unit.get", "/service/{name}", _NAME),
    _update("service.unit.create", "POST", "/service", _NAME, _text("object*")),
    _update("service.unit.update", "PUT", "/service/{name}", _NAME, _text("object*")),
    _update("service.unit.delete", "DELETE", "/service/{name}", _NAME),
    *(
        _update(f"service.unit.{verb}", "POST", f"/service/{{name}}/{verb}", _NAME)
        for verb in ("start", "stop", "restart", "enable", "disable")
    ),
    _query("sysctl.key.list", "/sysctl"),
    _query("sysctl.key.get", "/sysctl/{key}", _text("key*")),
    _update("sysctl.key.create", "POST", "/sysctl", _text("key*"), _text("value*")),
    _update("sysctl.key.update", "PUT", "/sysctl/{key}", _text("key*"), _text("value*")),
    _update("sysctl.key.delete", "DELETE", "/sysctl/{key}", _text("key*")),
    _query("ntp.config.get", "/ntp"),
    _update("ntp.config.create", "POST", "/ntp", _many("servers*")),
    _update("ntp.config.update", "PUT", "/ntp", _many("servers*")),
    _update("ntp.config.delete", "DELETE", "/ntp"),
    _query("timezone.config.get", "/timezone"),
    _update("timezone.config.update", "PUT", "/timezone", _text("timezone*")),
    *(
        _update(
            f"power.node.{verb}",
            "POST",
            f"/power/{verb}",
            _int("delay", 0, None, 0),
            _text("message"),
            verb="execute",
        )
        for verb in ("reboot", "shutdown")
    ),
    _query("process.entry.list", "/process"),
    _query("process.entry.get", "/process/{pid}", _int("pid*", 1)),
    _update(
        "process.entry.signal",
        "POST",
        "/process/{pid}/signal",
        _int("pid*", 1),
        _choice("signal*", "TERM", "KILL", "HUP", "INT", "USR1", "USR2"),
        verb="execute",
    ),
    _query("user.account.list", "/user"),
    _query("user.account.get", "/user/{name}", _NAME),
    _update(
        "user.account.create",
        "POST",
        "/user",
        _text("name*", 1, 32),
        _int("uid", 0),
        _int("gid", 0),
        *_ACCOUNT,
        _hash("password"),
        _flag("system"),
    ),
    _update("user.account.update", "PUT", "/user/{name}", _NAME, *_ACCOUNT, _flag("lock")),
    _update("user.account.delete", "DELETE", "/user/{name}", _NAME),
    _update("user.password.update", "POST", "/user/{name}/password", _NAME, _hash("password*")),
    _query("user.key.list", "/user/{name}/ssh-key", _NAME),
    _update("user.key.create", "POST", "/user/{name}/ssh-key", _NAME, _text("key*")),
    _update(
        "user.key.delete",
        "DELETE",
        "/user/{name}/ssh-key/{fingerprint}",
        _NAME,
        _text("fingerprint*"),
    ),
    _query("group.entry.list", "/group"),
    _query("group.entry.get", "/group/{name}", _NAME),
    _update(
        "group.entry.create",
        "POST",
        "/group",
        _text("name*", 1, 32),
        _int("gid", 0),
        _flag("system"),
    ),
    _update("group.entry.update", "PUT", "/group/{name}", _NAME, _many("members")),
    _update("group.entry.delete", "DELETE", "/group/{name}", _NAME),
    _query("package.entry.list", "/package"),
    _query("package.entry.get", "/package/{name}", _NAME),
    _update("package.entry.install", "POST", "/package", _NAME, seconds=_LONG),
    _update("package.entry.delete", "DELETE", "/package/{name}", _NAME, seconds=_LONG),
    _query("package.update.list", "/package/update"),
    _update("package.index.update", "POST", "/package/update", seconds=_LONG),
    *(
        _query(
            name,
            path,
            *names,
            _int("lines", 1, 10_000, 100),
            _text("since"),
            _text("priority"),
        )
        for name, path, names in (
            ("log.journal.get", "/log", ()),
            ("log.unit.get", "/log/unit/{name}", (_NAME,)),
        )
    ),
    _query("log.source.list", "/log/source"),
    _query("certificate.ca.list", "/certificate/ca"),
    _update("certificate.ca.create", "POST", "/certificate/ca", _NAME, _text("object*")),
    _update("certificate.ca.update", "PUT", "/certificate/ca/{name}", _NAME, _text("object*")),
    _update("certificate.ca.delete", "DELETE", "/certificate/ca/{name}", _NAME),
    # docs/semantics.md 4.2: no endpoint of OSAPI; submitted as an update job alone.
    _update("agent.upgrade", "", "", _text("version")),
)

OPERATIONS: dict[str, Operation] = {row.name: row for row in _ROWS}
TYPED_OPERATIONS: tuple[Operation, ...] = tuple(row for row in _ROWS if row.path)


def with_defaults(operation: Operation, params: Mapping[str, object]) -> dict[str, object]:
    """Return the parameters with those added that have a default and were not given.

    A flag that is off by default stays absent: in an update that keeps what it is.
    """
    defaults = {
        param.name: param.default
        for param in operation.params
        if param.default is not None and param.default is not False
    }
    return {**defaults, **params}


def check_params(operation: Operation, params: Mapping[str, object]) -> list[ParamProblem]:
    """Say what is wrong with the parameters of an operation: unknown, missing, type, range."""
    known = {param.name: param for param in operation.params}
    found = [
        ParamProblem(keys=(name,), code="unknown_field", message=f"{operation.name} has no {name}")
        for name in params
        if name not in known
    ]
    for param in operation.params:
        if param.name in params:
            found += _check_param(param, params[param.name])
        elif param.required:
            message = f"{operation.name} needs {param.name}"
            found.append(ParamProblem(keys=(param.name,), code="invalid_spec", message=message))
    return found + _check_groups(operation, params)


def _check_groups(operation: Operation, params: Mapping[str, object]) -> list[ParamProblem]:
    found = []
    for names, most in ((operation.at_least_one, None), (operation.exactly_one, 1)):
        given = sum(1 for name in names if name in params)
        if names and (given == 0 or (most is not None and given > most)):
            amount = "exactly one" if most else "at least one"
            message = f"{amount} of {', '.join(names)} must be given"
            # A rule over two fields names the second (C10).
            found.append(ParamProblem(keys=(names[1],), code="invalid_value", message=message))
    return found


_TYPES: dict[ParamType, tuple[type, str]] = {
    ParamType.TEXT: (str, "a text"),
    ParamType.INTEGER: (int, "a whole number"),
    ParamType.BOOLEAN: (bool, "true or false"),
    ParamType.TEXTS: (list, "a list of texts"),
    ParamType.MAP: (dict, "a mapping"),
    ParamType.OBJECTS: (list, "a list of mappings"),
}
_ITEMS: dict[ParamType, type] = {ParamType.TEXTS: str, ParamType.OBJECTS: dict}


def _check_param(param: Param, value: object) -> list[ParamProblem]:
    wanted, words = _TYPES[param.type]
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        message = f"{param.name} must be {words}"
        return [ParamProblem(keys=(param.name,), code="invalid_type", message=message)]
    if param.type in _ITEMS and isinstance(value, list):
        for index, item in enumerate(value):
            if not isinstance(item, _ITEMS[param.type]):
                message = f"{param.name} must be {words}"
                keys = (param.name, index)
                return [ParamProblem(keys=keys, code="invalid_type", message=message)]
    if message := _range_problem(param, value):
        return [ParamProblem(keys=(param.name,), code="invalid_value", message=message)]
    return []


def _range_problem(param: Param, value: object) -> str:
    if param.hashed and not _HASH_RE.fullmatch(str(value)):
        return f"{param.name} must be a hash, as `openssl passwd -6` prints it, not the password"
    if param.choices and value not in param.choices:
        return f"{param.name} must be one of {', '.join(param.choices)}"
    size = value if isinstance(value, int) else len(value) if isinstance(value, str | list) else 0
    unit = "" if isinstance(value, int) else " long"
    if param.min is not None and size < param.min:
        return f"{param.name} must be at least {param.min}{unit}"
    if param.max is not None and size > param.max:
        return f"{param.name} must be at most {param.max}{unit}"
    return ""
