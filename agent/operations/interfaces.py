"""What this machine says of its network: interfaces, routes, name servers, and who answers it.

`ip -json` is asked where it is here and knows JSON; else /proc/net and /sys/class/net are read, so
that a node without iproute2 answers as well (docs/semantics.md 2.7, domain network).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface, ip_network
from typing import Any

from agent.operations.base import OperationError, at, program, read, run

Record = dict[str, Any]
SYS = "/sys/class/net"
# The kernel allows more, but no tool makes such names.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}")
_LOOPBACK, _ETHERNET = "772", "1"
# How many packets a ping sends, and how many seconds it waits for the last answer.
_PINGS, _PATIENCE = 3, 2
_COUNTS = re.compile(
    r"(\d+) packets transmitted, (\d+) (?:packets )?received.*?([\d.]+)% packet loss"
)
_TIMES = re.compile(r"= ([\d.]+)/([\d.]+)/([\d.]+)(?:/[\d.]+)? ms")
# Flags of routes, <linux/route.h> and <linux/ipv6_route.h>.
_UP, _REJECT, _ANYCAST, _LOCAL = 0x1, 0x200, 0x100000, 0x80000000


def check_name(name: str) -> str:
    """Return the name of an interface if it may be one. Raises OperationError (invalid_value)."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise OperationError(
            f"{name!r} is no name of an interface: 1 to 15 letters, digits, _, . and -",
            "invalid_value",
        )
    return name


def interfaces() -> list[Record]:
    """Return all interfaces by name, with their addresses as CIDR texts and the MTU in bytes."""
    said = _ip("address")
    found: Iterable[Record] = _kernel_interfaces() if said is None else map(_from_ip, said)
    return sorted(found, key=lambda record: str(record["name"]))


def interface(name: str) -> Record:
    """Return one interface. Raises OperationError (invalid_value, not_found)."""
    check_name(name)
    for record in interfaces():
        if record["name"] == name:
            return record
    raise OperationError(f"this machine has no interface {name}", "not_found")


def routes() -> list[Record]:
    """Return the routes of the main table, IPv4 first; `to` is a CIDR text also for a default."""
    found = [*_routes("-4", _kernel_routes4), *_routes("-6", _kernel_routes6)]
    return sorted(found, key=_order)


def name_servers(name: str) -> Record:
    """Return whom an interface asks for names, in the order in which they are asked.

    systemd-resolved knows it by interface; /etc/resolv.conf holds for all of them.
    """
    servers, domains = _resolved("dns", name), _resolved("domain", name)
    source = "systemd-resolved"
    if servers is None or domains is None:
        servers, domains = _resolv_conf()
        source = "/etc/resolv.conf"
    return {"interface": name, "servers": servers, "search_domains": domains, "source": source}


def ping(address: str) -> Record:
    """Send a few packets to a host and count the answers; none is a result too.

    The address was checked by the caller. Raises OperationError when nothing could be sent.
    """
    tool = program("ping")
    if tool is None:
        raise OperationError("there is no program ping on this machine")
    done = run([tool, "-n", "-c", str(_PINGS), "-W", str(_PATIENCE), "--", address], check=False)
    counts, times = _COUNTS.search(done.stdout), _TIMES.search(done.stdout)
    if counts is None:
        said = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise OperationError(f"{address} cannot be pinged: {said}")
    return {
        "address": address,
        "packets_sent": int(counts[1]),
        "packets_received": int(counts[2]),
        "packet_loss_percent": float(counts[3]),
        "rtt_min_seconds": _seconds(times[1]) if times else None,
        "rtt_avg_seconds": _seconds(times[2]) if times else None,
        "rtt_max_seconds": _seconds(times[3]) if times else None,
    }


def _seconds(milliseconds: str) -> float:
    return round(float(milliseconds) / 1000, 6)


def _ip(*words: str) -> list[Record] | None:
    """Ask `ip`; None where it is missing or is one that knows no JSON, as that of busybox."""
    tool = program("ip")
    if tool is None:
        return None
    done = run([tool, "-json", *words], check=False)
    if done.returncode != 0:
        return None
    try:
        said = json.loads(done.stdout.strip() or "[]")
    except ValueError:
        return None
    # Some versions leave an empty mapping for what they filtered out.
    return [record for record in said if record]


def _kind(name: str) -> str:
    event = dict(
        line.split("=", 1) for line in read(f"{SYS}/{name}/uevent", "").splitlines() if "=" in line
    )
    if found := event.get("DEVTYPE"):
        return found
    number = read(f"{SYS}/{name}/type", "").strip()
    return {_LOOPBACK: "loopback", _ETHERNET: "ethernet"}.get(number, "other")


def _from_ip(link: Record) -> Record:
    addresses = [
        f"{each['local']}/{each['prefixlen']}"
        for each in link.get("addr_info", ())
        if "local" in each
    ]
    return {
        "name": link["ifname"],
        "index": link["ifindex"],
        "kind": _kind(link["ifname"]),
        "is_up": "UP" in link.get("flags", ()),
        "state": str(link.get("operstate", "unknown")).lower(),
        "mtu": link.get("mtu"),
        "mac_address": link.get("address"),
        "addresses": _sorted_addresses(addresses),
    }


def _sorted_addresses(addresses: Iterable[str]) -> list[str]:
    return sorted(addresses, key=lambda text: (":" in text, int(ip_interface(text)), text))


def _kernel_interfaces() -> Iterator[Record]:
    addresses = [*_kernel_addresses4(), *_kernel_addresses6()]
    folder = at(SYS)
    # A plain file there, bonding_masters, is no interface.
    names = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    for name in names:
        yield {
            "name": name,
            "index": int(_of(name, "ifindex", "0")),
            "kind": _kind(name),
            "is_up": bool(int(_of(name, "flags", "0"), 16) & _UP),
            "state": _of(name, "operstate", "unknown"),
            "mtu": int(_of(name, "mtu", "0")) or None,
            "mac_address": _of(name, "address", "") or None,
            "addresses": _sorted_addresses(text for owner, text in addresses if owner == name),
        }


def _of(name: str, what: str, default: str) -> str:
    return read(f"{SYS}/{name}/{what}", default).strip() or default


def _kernel_addresses4() -> Iterator[tuple[str, str]]:
    """Find whose each local address is: the kernel tells no owner, a connected route does.

    An address that no such route leads to is left out.
    """
    connected = [
        (ip_network(route["to"]), route["interface"])
        for route in _kernel_routes4()
        if route["via"] is None and not route["to"].endswith("/0")
    ]
    connected.append((ip_network("127.0.0.0/8"), "lo"))
    # The narrowest network is the one that an address was given with.
    connected.sort(key=lambda each: -each[0].prefixlen)
    for address in sorted(_local_addresses()):
        for network, owner in connected:
            if address in network:
                yield owner, f"{address}/{network.prefixlen}"
                break


def _local_addresses() -> set[IPv4Address]:
    found, last = set(), ""
    for line in read("/proc/net/fib_trie", "").splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            last = words[1]
        elif words == ["/32", "host", "LOCAL"]:
            found.add(IPv4Address(last))
    return found


def _kernel_addresses6() -> Iterator[tuple[str, str]]:
    for line in read("/proc/net/if_inet6", "").splitlines():
        address, _, length, _, _, owner = line.split()
        yield owner, f"{_address6(address)}/{int(length, 16)}"


def _routes(family: str, fallback: Callable[[], Iterator[Record]]) -> list[Record]:
    said = _ip(family, "route")
    if said is None:
        return list(fallback())
    return [each for route in said for each in _hops(route, family)]


def _hops(route: Record, family: str) -> Iterator[Record]:
    """Make a record of each way that a route has; most have one."""
    default = "0.0.0.0/0" if family == "-4" else "::/0"
    to = default if route["dst"] == "default" else str(ip_network(route["dst"]))
    for hop in route.get("nexthops") or [route]:
        # An IPv4 route may lead over an IPv6 neighbour, which stands under another key.
        via = hop.get("gateway") or (hop.get("via") or {}).get("host")
        yield {
            "to": to,
            "via": via,
            "interface": hop.get("dev"),
            "metric": route.get("metric", 0),
            "protocol": route.get("protocol"),
            "source": route.get("prefsrc"),
            "type": route.get("type", "unicast"),
        }


def _kernel_routes4() -> Iterator[Record]:
    for line in read("/proc/net/route", "").splitlines()[1:]:
        owner, to, via, flags, _, _, metric, mask, *_ = line.split()
        if not int(flags, 16) & _UP:
            continue
        network = ip_network(f"{_address4(to)}/{_address4(mask)}")
        yield _kernel_route(str(network), _address4(via), owner, int(metric), int(flags, 16))


def _kernel_routes6() -> Iterator[Record]:
    for line in read("/proc/net/ipv6_route", "").splitlines():
        to, length, _, _, via, metric, _, _, flags, owner = line.split()
        bits, address = int(flags, 16), _address6(to)
        # The file holds all tables; `ip` shows the main one, without what the kernel does itself.
        if not bits & _UP or bits & (_LOCAL | _ANYCAST) or owner == "lo" or address.is_multicast:
            continue
        network = f"{address}/{int(length, 16)}"
        yield _kernel_route(network, _address6(via), owner, int(metric, 16), bits)


def _kernel_route(
    to: str, via: IPv4Address | IPv6Address, owner: str, metric: int, flags: int
) -> Record:
    return {
        "to": to,
        "via": None if via.is_unspecified else str(via),
        # A route that leads nowhere has a star for its interface.
        "interface": None if owner == "*" else owner,
        "metric": metric,
        "protocol": None,
        "source": None,
        "type": "unreachable" if flags & _REJECT else "unicast",
    }


def _address4(text: str) -> IPv4Address:
    # Written as a number of the machine, whose bytes are in the order of the network.
    return IPv4Address(int(text, 16).to_bytes(4, sys.byteorder))


def _address6(text: str) -> IPv6Address:
    return IPv6Address(bytes.fromhex(text))


def _order(route: Record) -> tuple[int, int, int, int, str, str]:
    network = ip_network(route["to"])
    return (
        network.version,
        int(network.network_address),
        network.prefixlen,
        route["metric"],
        route["interface"] or "",
        route["via"] or "",
    )


def _resolved(what: str, name: str) -> list[str] | None:
    """Ask systemd-resolved about an interface; None where it does not run."""
    tool = program("resolvectl")
    if tool is None or not at("/run/systemd/resolve").is_dir():
        return None
    done = run([tool, what, name], check=False)
    # "Link 2 (eth0): 192.0.2.1 192.0.2.2"; a long answer goes on in further lines.
    head, colon, rest = done.stdout.partition("):")
    return rest.split() if done.returncode == 0 and colon and head.startswith("Link") else None


def _resolv_conf() -> tuple[list[str], list[str]]:
    servers: list[str] = []
    domains: list[str] = []
    for line in read("/etc/resolv.conf", "").splitlines():
        words = line.split()
        if words[:1] == ["nameserver"] and len(words) > 1 and _is_address(words[1]):
            servers.append(words[1])
        elif words[:1] in (["search"], ["domain"]):
            # The last of such lines holds (resolv.conf(5)).
            domains = words[1:]
    return servers, domains


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
