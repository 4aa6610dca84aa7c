"""Name servers, interfaces and routes of a node, and ping (docs/semantics.md 2.7, domain network).

What is read is the state of the kernel and the resolver. What is set lasts: it goes to netplan, in
one file of our own for each thing and interface, so that nobody else's settings are ever edited.
Netplan adds ours to what other files say of the interface; a single value of ours wins.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any, Literal

from agent.operations.base import (
    Answer,
    Handler,
    OperationError,
    Params,
    at,
    program,
    read,
    remove,
    run,
    write,
)
from agent.operations.interfaces import (
    check_name,
    interface,
    interfaces,
    name_servers,
    ping,
    routes,
)

Thing = Literal["dns", "interface", "routes"]
Settings = dict[str, Any]
FOLDER = "/etc/netplan"
# The kind of an interface -> where netplan has those.
SECTIONS = {
    "bond": "bonds",
    "bridge": "bridges",
    "ethernet": "ethernets",
    "loopback": "ethernets",
    "vlan": "vlans",
    "wlan": "wifis",
}
_DEFAULTS = {4: "0.0.0.0/0", 6: "::/0"}
_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(rf"(?=.{{1,253}}\.?\Z){_LABEL}(\.{_LABEL})*\.?")
_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")


# --- What a parameter may be ---------------------------------------------------------------------


def _invalid(text: str) -> OperationError:
    return OperationError(text, "invalid_value")


def _address(value: object, what: str, version: int | None = None) -> IPv4Address | IPv6Address:
    kind = f"IPv{version}" if version else "IP"
    try:
        found = ip_address(str(value))
    except ValueError as error:
        raise _invalid(f"{what} {value!r} is no {kind} address") from error
    if version not in (None, found.version) or "%" in str(found):
        raise _invalid(f"{what} {value!r} is no {kind} address")
    if found.is_unspecified or found.is_multicast:
        raise _invalid(f"{what} {value!r} is not the address of a single host")
    return found


def _cidr(value: object) -> str:
    text = str(value)
    try:
        found = ip_interface(text)
    except ValueError as error:
        raise _invalid(f"addresses: {text!r} is no address as 192.0.2.10/24") from error
    if "/" not in text or "%" in text:
        raise _invalid(f"addresses: {text!r} needs the length of its network, as 192.0.2.10/24")
    if found.ip.is_unspecified or found.ip.is_multicast:
        raise _invalid(f"addresses: {text!r} is not the address of a single host")
    return found.with_prefixlen


def _mac(value: object) -> str:
    text = str(value).lower()
    if not _MAC.fullmatch(text):
        raise _invalid(f"mac_address {value!r} is none; it looks like 02:00:5e:10:00:01")
    if int(text[:2], 16) & 1:
        raise _invalid(f"mac_address {value!r} is one of a group, not of a single interface")
    return text


def _mtu(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 68 <= value <= 9000:
        raise _invalid(f"mtu {value!r} is not within 68 and 9000 bytes")
    return value


def _host(value: object, what: str) -> str:
    text = str(value)
    if not _HOST.fullmatch(text):
        raise _invalid(f"{what}: {text!r} is no host name (RFC 1123)")
    return text


def _destination(route: Mapping[str, Any], version: int) -> IPv4Network | IPv6Network:
    value = route.get("to")
    try:
        return ip_network(_DEFAULTS[version] if value == "default" else str(value))
    except ValueError as error:
        text = f"routes: to {value!r} is neither `default` nor a network as 198.51.100.0/24"
        raise _invalid(f"{text}: {error}") from error


def _route(route: Mapping[str, Any]) -> Settings:
    if strange := sorted(set(route) - {"to", "via", "metric"}):
        raise _invalid(f"routes: a route has to, via and metric, not {', '.join(strange)}")
    via = _address(route.get("via"), "routes: via")
    to = _destination(route, via.version)
    if to.version != via.version:
        raise _invalid(f"routes: {to} cannot be reached via {via}: IPv4 and IPv6 do not mix")
    settings: Settings = {"to": str(to), "via": str(via)}
    if (metric := route.get("metric")) is not None:
        if isinstance(metric, bool) or not isinstance(metric, int) or not 0 <= metric < 2**32:
            raise _invalid(f"routes: metric {metric!r} is not within 0 and 4294967295")
        settings["metric"] = metric
    return settings


def _settings_of_routes(params: Params) -> Settings:
    wanted = [_route(route) for route in params["routes"]]
    if not wanted:
        raise _invalid("routes: at least one is needed; network.route.delete removes all")
    order = sorted(wanted, key=lambda route: json.dumps(route, sort_keys=True))
    return {"routes": [route for index, route in enumerate(order) if route not in order[:index]]}


def _settings_of_interface(params: Params) -> Settings:
    """Say in netplan's words what was asked for; what is not said is left to other files."""
    given = {name: value for name, value in params.items() if value not in (None, "")}
    settings: Settings = {
        name: bool(given[name]) for name in ("dhcp4", "dhcp6", "wakeonlan") if name in given
    }
    # A second one of the same is no mistake, but netplan takes it for one.
    if addresses := list(dict.fromkeys(map(_cidr, given.get("addresses") or ()))):
        settings["addresses"] = addresses
    if "mtu" in given:
        settings["mtu"] = _mtu(given["mtu"])
    if "mac_address" in given:
        settings["macaddress"] = _mac(given["mac_address"])
    # Netplan's own gateway4 and gateway6 are deprecated; a default route says the same.
    gateways = [
        {"to": _DEFAULTS[version], "via": str(_address(given[name], name, version))}
        for version, name in ((4, "gateway4"), (6, "gateway6"))
        if name in given
    ]
    if gateways:
        settings["routes"] = gateways
    if not settings:
        raise _invalid("at least one setting of the interface must be given, as dhcp4 or addresses")
    return settings


def _settings_of_dns(params: Params, before: Settings) -> Settings:
    """Put what is given in the place of what our file says; the rest of it stays."""
    asked = dict(before.get("nameservers") or {})
    if (servers := params.get("servers")) is not None:
        asked["addresses"] = [str(_address(each, "servers:")) for each in servers]
    if (domains := params.get("search_domains")) is not None:
        asked["search"] = [_host(each, "search_domains") for each in domains]
    asked = {name: list(dict.fromkeys(values)) for name, values in asked.items() if values}
    if not asked:
        raise _invalid("a server or a search domain is needed; network.dns.delete removes all")
    settings: Settings = {"nameservers": asked}
    if params.get("override_dhcp", "dhcp4-overrides" in before):
        # Both alike: networkd refuses overrides that differ.
        settings["dhcp4-overrides"] = settings["dhcp6-overrides"] = {"use-dns": False}
    return settings


# --- Our files and netplan -----------------------------------------------------------------------


def _path(thing: Thing, name: str) -> str:
    # Late in the order of names, because a later file of netplan wins.
    return f"{FOLDER}/90-jobsite-{thing}-{check_name(name)}.yaml"


def _is_ours(thing: Thing, name: str) -> bool:
    # The kernel allows names that ours never have.
    with contextlib.suppress(OSError, OperationError):
        return at(_path(thing, name)).exists()
    return False


def _kept(thing: Thing, name: str) -> Settings | None:
    """Return what our file says, None without one. Raises OperationError (conflict)."""
    path = _path(thing, name)
    text = read(path, "")
    if not text:
        return None
    try:
        sections = json.loads(text)["network"]
        found = next(part for part in sections.values() if isinstance(part, dict))[name]
    except (ValueError, LookupError, StopIteration, AttributeError, TypeError) as error:
        raise OperationError(
            f"{path} was changed by somebody else; delete these settings, then make them anew",
            "conflict",
        ) from error
    return dict(found)


def _netplan() -> str:
    tool = program("netplan")
    if tool is None:
        raise OperationError("there is no netplan here, so nothing can be set for good")
    return tool


def _section(name: str) -> str:
    kind = str(interface(name)["kind"])
    if kind not in SECTIONS:
        raise OperationError(f"{name} is of the kind {kind}, which is not set by netplan here")
    return SECTIONS[kind]


def _check_entry(name: str) -> None:
    """Refuse an interface that netplan has under another name, as it would not listen to ours.

    An older netplan cannot tell, and then it is taken for its own. Raises OperationError (conflict).
    """
    done = run([_netplan(), "status", "--format", "json", name], check=False)
    try:
        entry = json.loads(done.stdout)[name].get("id")
    except (ValueError, LookupError, AttributeError, TypeError):
        return
    if entry not in (None, name):
        raise OperationError(
            f"netplan sets {name} by its entry {entry}, which may be that of other interfaces too; "
            f"give {name} an entry of its own name first",
            "conflict",
        )


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep other operations out: netplan reads all files, also one that is about to be put back."""
    folder = at(FOLDER)
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _apply(path: str, text: str) -> bool:
    """Make our file hold this, "" for no file, and have netplan do it; say whether it changed.

    What netplan does not take is put back. Raises OperationError with its words.
    """
    before = read(path, "")
    if not _put(path, text):
        return False
    try:
        run([_netplan(), "apply"])
    except OperationError as error:
        _put(path, before)
        again = run([_netplan(), "apply"], check=False)
        end = "" if again.returncode == 0 else ", but netplan does not take those either"
        raise OperationError(f"{error}\nThe settings are as before{end}") from error
    return True


def _put(path: str, text: str) -> bool:
    # Nobody else reads it: netplan warns of a file that others may read.
    return write(path, text, 0o600) if text else remove(path)


def _set(thing: Thing, name: str, settings: Settings) -> Answer:
    content = {"network": {"version": 2, _section(name): {name: settings}}}
    _check_entry(name)
    # JSON is YAML.
    is_changed = _apply(_path(thing, name), json.dumps(content, indent=2) + "\n")
    return Answer(changed=is_changed, data={"interface": name, "settings": settings})


def _create(thing: Thing, name: str, settings: Settings) -> Answer:
    with _alone():
        if _kept(thing, name) not in (None, settings):
            raise OperationError(
                f"{name} has other settings already in {_path(thing, name)}; update them instead",
                "conflict",
            )
        return _set(thing, name, settings)


def _update(thing: Thing, name: str, settings: Settings) -> Answer:
    with _alone():
        if _kept(thing, name) is None:
            raise OperationError(
                f"nothing was set here for {name} ({_path(thing, name)}); create it first",
                "not_found",
            )
        return _set(thing, name, settings)


def _delete(thing: Thing, name: str) -> Answer:
    path = _path(thing, name)
    with _alone():
        return Answer(changed=_apply(path, ""), data={"interface": name})


# --- The operations ------------------------------------------------------------------------------


def _dns_get(params: Params) -> Answer:
    name = str(interface(str(params["iface"]))["name"])
    return Answer(data={**name_servers(name), "managed": _is_ours("dns", name)})


def _dns_update(params: Params) -> Answer:
    name = check_name(str(params["interface_name"]))
    with _alone():
        return _set("dns", name, _settings_of_dns(params, _kept("dns", name) or {}))


def _ping(params: Params) -> Answer:
    address = str(params["address"])
    try:
        ip_address(address)
    except ValueError:
        _host(address, "address")
    return Answer(data=ping(address))


def _interface_list(_: Params) -> Answer:
    found = [{**each, "managed": _is_ours("interface", each["name"])} for each in interfaces()]
    return Answer(data={"interfaces": found})


def _interface_get(params: Params) -> Answer:
    found = interface(str(params["name"]))
    return Answer(data={"interface": {**found, "managed": _is_ours("interface", found["name"])}})


def _route_get(params: Params) -> Answer:
    name = str(interface(str(params["iface"]))["name"])
    found = [route for route in routes() if route["interface"] == name]
    return Answer(data={"interface": name, "routes": found, "managed": _is_ours("routes", name)})


_READS: dict[str, Handler] = {
    "network.dns.get": _dns_get,
    "network.interface.list": _interface_list,
    "network.interface.get": _interface_get,
    "network.route.list": lambda _: Answer(data={"routes": routes()}),
    "network.route.get": _route_get,
}
_UPDATES: dict[str, Handler] = {
    "network.dns.update": _dns_update,
    "network.dns.delete": lambda p: _delete("dns", str(p["interface_name"])),
    "network.interface.create": lambda p: _create(
        "interface", str(p["name"]), _settings_of_interface(p)
    ),
    "network.interface.update": lambda p: _update(
        "interface", str(p["name"]), _settings_of_interface(p)
    ),
    "network.interface.delete": lambda p: _delete("interface", str(p["name"])),
    "network.route.create": lambda p: _create("routes", str(p["iface"]), _settings_of_routes(p)),
    "network.route.update": lambda p: _update("routes", str(p["iface"]), _settings_of_routes(p)),
    "network.route.delete": lambda p: _delete("routes", str(p["iface"])),
}
HANDLERS: dict[str, Handler] = {**_READS, **_UPDATES, "network.ping.do": _ping}


def available() -> Collection[str]:
    """Return what this machine can do: reading always, setting by root with netplan alone."""
    return [
        *_READS,
        *(["network.ping.do"] if program("ping") else []),
        *(_UPDATES if program("netplan") and os.geteuid() == 0 else []),
    ]
