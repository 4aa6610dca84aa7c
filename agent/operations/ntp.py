"""Where a node takes its time from (docs/semantics.md 2.7, domain ntp).

Our servers stand in one file of their own, which chrony or systemd-timesyncd reads beside theirs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from agent.operations.base import (
    Answer,
    Handler,
    OperationError,
    Params,
    at,
    has_systemd,
    program,
    read,
    remove,
    run,
    write,
)

_HEAD = "# Set by jobsite."
# A host name or an IP address; what is none of them fails to resolve, and harms nothing.
_SERVER_RE = re.compile(r"[A-Za-z0-9:][A-Za-z0-9:._-]{0,252}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A program that keeps the time: our file, its own, and how it is told of a change.

    Without a `unit` it reads our file again when it is asked to; otherwise it is restarted.
    """

    name: str
    ours: str
    theirs: str
    unit: str = ""


TIMESYNCD = Service(
    name="systemd-timesyncd",
    ours="/etc/systemd/timesyncd.conf.d/90-jobsite.conf",
    theirs="/etc/systemd/timesyncd.conf",
    unit="systemd-timesyncd.service",
)
# Which folder chrony reads depends on the distribution. Only of *.sources it reads changes.
CHRONY = (
    Service(
        name="chrony",
        ours="/etc/chrony/sources.d/jobsite.sources",
        theirs="/etc/chrony/chrony.conf",
    ),
    Service(
        name="chrony",
        ours="/etc/chrony/conf.d/jobsite.conf",
        theirs="/etc/chrony/chrony.conf",
        unit="chrony.service",
    ),
    Service(
        name="chrony",
        ours="/etc/chrony.d/jobsite.conf",
        theirs="/etc/chrony.conf",
        unit="chronyd.service",
    ),
)


def _has_systemd() -> bool:
    return has_systemd() and program("systemctl") is not None


def _found() -> Service | None:
    """Return what keeps the time here; None if nothing does that we can tell something."""
    if program("chronyc"):
        for service in CHRONY:
            can_tell = not service.unit or _has_systemd()
            if can_tell and at(service.ours).parent.is_dir():
                return service
    folders = ("/usr/lib/systemd", "/lib/systemd")
    is_there = any(at(f"{folder}/systemd-timesyncd").exists() for folder in folders)
    return TIMESYNCD if is_there and _has_systemd() else None


def _service() -> Service:
    service = _found()
    if service is None:
        text = "neither chrony nor systemd-timesyncd is here; install one of them"
        raise OperationError(text, "not_found")
    return service


def _servers(path: str) -> list[str]:
    """Return the servers that a file of either program names, in its order."""
    found: list[str] = []
    for line in read(path, "").splitlines():
        words = line.split()
        if words and words[0].lower() in {"server", "pool", "peer"}:
            found += words[1:2]
        elif line.strip().startswith("NTP="):
            found += line.strip().removeprefix("NTP=").split()
    return found


def _text(service: Service, servers: Sequence[str]) -> str:
    if service.name == "chrony":
        lines = [f"server {server} iburst" for server in servers]
        return "\n".join([_HEAD, *lines, ""])
    # The empty line takes back what another file said; otherwise ours would only be added.
    return f"{_HEAD}\n[Time]\nNTP=\nNTP={' '.join(servers)}\n"


def _is_synchronized(service: Service) -> bool | None:
    """Say whether the clock follows a server, None if that cannot be asked."""
    if service.name == "chrony":
        argv, bad = ["chronyc", "-c", "tracking"], "Not synchronised"
    else:
        argv, bad = ["timedatectl", "show", "--property=NTPSynchronized", "--value"], "no"
    tool = program(argv[0])
    if tool is None:
        return None
    done = run([tool, *argv[1:]], check=False)
    said = done.stdout.strip().rpartition(",")[2]
    return None if done.returncode != 0 or not said else said != bad


def _get(_: Params) -> Answer:
    service = _service()
    return Answer(
        data={
            "service": service.name,
            "servers": _servers(service.ours),
            "other_servers": _servers(service.theirs),
            "managed": at(service.ours).exists(),
            "synchronized": _is_synchronized(service),
        }
    )


def _wanted(params: Params) -> list[str]:
    servers = [str(server) for server in params["servers"]]
    for server in servers:
        if not _SERVER_RE.fullmatch(server) or ".." in server:
            text = f"{server!r} is neither a host name nor an IP address"
            raise OperationError(text, "invalid_value")
    if not servers:
        raise OperationError("at least one server is needed", "invalid_value")
    return list(dict.fromkeys(servers))


def _reload(service: Service) -> None:
    if service.unit:
        run([program("systemctl") or "systemctl", "restart", "--", service.unit])
    else:
        run([program("chronyc") or "chronyc", "reload", "sources"])


def _hold(service: Service, text: str | None) -> bool:
    """Make our file hold this text, or be gone; say whether anything was changed.

    If the program cannot be told of it, the file is as before, so that another try does it all.
    """
    is_there = at(service.ours).exists()
    before = read(service.ours) if is_there else None
    if before == text:
        return False
    _keep(service, text)
    try:
        _reload(service)
    except OperationError:
        _keep(service, before)
        raise
    return True


def _keep(service: Service, text: str | None) -> None:
    if text is None:
        remove(service.ours)
    else:
        write(service.ours, text, 0o644)


def _create(params: Params) -> Answer:
    service, servers = _service(), _wanted(params)
    if at(service.ours).exists() and _servers(service.ours) != servers:
        text = "other servers are set from here already; update them instead"
        raise OperationError(text, "conflict")
    return _answer(service, servers)


def _update(params: Params) -> Answer:
    service, servers = _service(), _wanted(params)
    if not at(service.ours).exists():
        raise OperationError("no servers are set from here; create them first", "not_found")
    return _answer(service, servers)


def _answer(service: Service, servers: Sequence[str]) -> Answer:
    is_changed = _hold(service, _text(service, servers))
    return Answer(
        changed=is_changed,
        data={"service": service.name, "servers": list(servers), "path": service.ours},
    )


def _delete(_: Params) -> Answer:
    service = _service()
    is_changed = _hold(service, None)
    return Answer(changed=is_changed, data={"service": service.name, "path": service.ours})


HANDLERS: dict[str, Handler] = {
    "ntp.config.get": _get,
    "ntp.config.create": _create,
    "ntp.config.update": _update,
    "ntp.config.delete": _delete,
}


def available() -> Collection[str]:
    """Return what this machine can do: changes are made by root alone."""
    if _found() is None:
        return []
    return list(HANDLERS) if os.geteuid() == 0 else ["ntp.config.get"]
