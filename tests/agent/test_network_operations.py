"""Name servers, interfaces, routes and ping: what is read of a machine, and what netplan is told."""

import json

import pytest

from agent.operations import network
from agent.operations.base import OperationError
from nodes.operations import OPERATIONS

LINKS = [
    {
        "ifindex": 2,
        "ifname": "eth0",
        "flags": ["BROADCAST", "UP", "LOWER_UP"],
        "mtu": 1400,
        "operstate": "UP",
        "address": "02:fc:00:00:00:01",
        "addr_info": [
            {"family": "inet6", "local": "fd00::2", "prefixlen": 64},
            {"family": "inet", "local": "192.0.2.10", "prefixlen": 24},
            {"family": "inet", "local": "192.0.2.9", "prefixlen": 24},
        ],
    },
    {},
    {
        "ifindex": 3,
        "ifname": "br0",
        "flags": ["BROADCAST"],
        "mtu": 1500,
        "operstate": "DOWN",
        "address": "02:fc:00:00:00:02",
        "addr_info": [],
    },
    {"ifindex": 4, "ifname": "vx@0", "flags": [], "mtu": 1450, "operstate": "DOWN"},
    {"ifindex": 5, "ifname": "vx1", "flags": [], "mtu": 1450, "operstate": "DOWN"},
]
STATIC = {
    "name": "eth0",
    "dhcp4": False,
    "addresses": ["192.0.2.20/24", "FD00::20/64", "192.0.2.20/24"],
    "gateway4": "192.0.2.1",
    "mtu": 1400,
    "mac_address": "02:FC:00:00:00:07",
}


def add_file(machine, path, text):
    target = machine / "root" / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)


def add_program(machine, name, script):
    """Add a program that logs its arguments; what the test lets it say stands in $state."""
    target = machine / "programs" / name
    start = f'state={machine}/state\nroot={machine}/root\necho "$*" >> $state/{name}.log\n'
    target.write_text(f"#!/bin/sh\n{start}{script}")
    target.chmod(0o755)


def let_say(machine, name, value):
    text = value if isinstance(value, str) else json.dumps(value)
    (machine / "state" / name).write_text(text)


def asked(machine, name):
    log = machine / "state" / f"{name}.log"
    return log.read_text().splitlines() if log.exists() else []


def applied(machine):
    return asked(machine, "netplan").count("apply")


def netplan_files(machine):
    return sorted(each.name for each in (machine / "root").glob("etc/netplan/*"))


def netplan_file(machine, name):
    return json.loads((machine / "root/etc/netplan" / name).read_text())


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with eth0, br0 and two tunnels, `ip` and netplan; the agent is its root."""
    for each in ("root", "programs", "state"):
        (tmp_path / each).mkdir()
    monkeypatch.setattr("agent.operations.base.ROOT", tmp_path / "root")
    monkeypatch.setattr("agent.operations.base.PATH", f"{tmp_path}/programs:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for name, number, event in (
        ("eth0", 1, ""),
        ("br0", 1, "DEVTYPE=bridge\nINTERFACE=br0\n"),
        ("vx1", 1, "DEVTYPE=vxlan\n"),
    ):
        add_file(tmp_path, f"/sys/class/net/{name}/type", f"{number}\n")
        add_file(tmp_path, f"/sys/class/net/{name}/uevent", event)
    let_say(tmp_path, "address", LINKS)
    add_program(
        tmp_path,
        "ip",
        'case "$*" in *address) cat $state/address;; *-4*) cat $state/routes4;;'
        " *) cat $state/routes6;; esac\n",
    )
    let_say(tmp_path, "status", "{}")
    # What stands in `refused` is what this netplan does not take from any file.
    add_program(
        tmp_path,
        "netplan",
        "[ $1 = status ] && exec cat $state/status\n"
        "[ -e $state/refused ] || exit 0\n"
        "grep -qrf $state/refused $root/etc/netplan || exit 0\n"
        "echo 'Error in network definition: that is refused' >&2\nexit 1\n",
    )
    return tmp_path


def do(name, /, **params):
    return network.HANDLERS[f"network.{name}"](params)


def refusal(name, /, **params):
    """Do what must fail; return the code and the text of its error."""
    with pytest.raises(OperationError) as caught:
        do(name, **params)
    return caught.value.code, str(caught.value)


# --- Reading -------------------------------------------------------------------------------------


def test_every_operation_of_the_domain_is_known():
    assert set(network.HANDLERS) == {
        name for name, row in OPERATIONS.items() if row.domain == "network"
    }


def test_interfaces_come_by_name_with_their_addresses_in_order(machine):
    answer = do("interface.list")
    assert answer.changed is None
    assert [each["name"] for each in answer.data["interfaces"]] == ["br0", "eth0", "vx1", "vx@0"]
    assert answer.data["interfaces"][1] == {
        "name": "eth0",
        "index": 2,
        "kind": "ethernet",
        "is_up": True,
        "state": "up",
        "mtu": 1400,
        "mac_address": "02:fc:00:00:00:01",
        "addresses": ["192.0.2.9/24", "192.0.2.10/24", "fd00::2/64"],
        "managed": False,
    }


def test_one_interface_says_its_kind_and_whether_it_is_ours(machine):
    do("interface.create", name="br0", dhcp4=True)
    answer = do("interface.get", name="br0")
    assert (answer.data["interface"]["kind"], answer.data["interface"]["managed"]) == (
        "bridge",
        True,
    )


@pytest.mark.parametrize("operation", ["interface.get", "dns.get", "route.get"])
def test_an_interface_that_is_not_there_is_not_found(machine, operation):
    assert refusal(operation, name="eth7", iface="eth7") == (
        "not_found",
        "this machine has no interface eth7",
    )


PROC_ROUTE = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
eth0\t0000000A\t010200C0\t0002\t0\t0\t0\t000000FF\t0\t0\t0
*\t0064A8C0\t00000000\t0201\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
FIB_TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 192.0.2.0
        /24 link UNICAST
     |-- 192.0.2.10
        /32 host LOCAL
     |-- 127.0.0.1
        /32 host LOCAL
     |-- 192.0.2.255
        /32 link BROADCAST
Local:
     |-- 192.0.2.10
        /32 host LOCAL
     |-- 203.0.113.5
        /32 host LOCAL
"""
Z = "0" * 32
IPV6_ROUTE = f"""\
fd00{"0" * 28} 40 {Z} 00 {Z} 00000100 00000001 00000000 00000001     eth0
{Z} 00 {Z} 00 fd00{"0" * 27}1 00000400 00000003 00000000 00000003     eth0
fd00{"0" * 27}2 80 {Z} 00 {Z} 00000000 00000004 00000000 80200001     eth0
ff{"0" * 30} 08 {Z} 00 {Z} 00000100 00000003 00000000 00000001     eth0
{Z} 00 {Z} 00 {Z} ffffffff 00000001 00000000 00200200       lo
"""


@pytest.fixture
def old_machine(machine):
    """The machine with an `ip` that knows no JSON, as that of busybox, and the kernel's files."""
    add_program(machine, "ip", "echo 'ip: invalid option' >&2\nexit 1\n")
    for name, text in {"route": PROC_ROUTE, "fib_trie": FIB_TRIE, "ipv6_route": IPV6_ROUTE}.items():
        add_file(machine, f"/proc/net/{name}", text)
    add_file(machine, "/proc/net/if_inet6", f"fd00{'0' * 27}2 02 40 00 82     eth0\n")
    for name, text in {
        "ifindex": "2",
        "flags": "0x1003",
        "operstate": "up",
        "mtu": "1400",
        "address": "02:fc:00:00:00:01",
    }.items():
        add_file(machine, f"/sys/class/net/eth0/{name}", f"{text}\n")
    add_file(machine, "/sys/class/net/lo/type", "772\n")
    add_file(machine, "/sys/class/net/bonding_masters", "bond0\n")
    return machine


def test_interfaces_are_read_from_the_kernel_where_ip_tells_no_json(old_machine):
    found = {each["name"]: each for each in do("interface.list").data["interfaces"]}
    assert sorted(found) == ["br0", "eth0", "lo", "vx1"]
    assert found["eth0"] == {
        "name": "eth0",
        "index": 2,
        "kind": "ethernet",
        "is_up": True,
        "state": "up",
        "mtu": 1400,
        "mac_address": "02:fc:00:00:00:01",
        "addresses": ["192.0.2.10/24", "fd00::2/64"],
        "managed": False,
    }
    assert (found["lo"]["kind"], found["lo"]["addresses"]) == ("loopback", ["127.0.0.1/8"])


def test_routes_are_read_from_the_kernel_where_ip_tells_no_json(old_machine):
    found = [
        (each["to"], each["via"], each["interface"], each["metric"], each["type"])
        for each in do("route.list").data["routes"]
    ]
    assert found == [
        ("0.0.0.0/0", "192.0.2.1", "eth0", 100, "unicast"),
        ("192.0.2.0/24", None, "eth0", 0, "unicast"),
        ("192.168.100.0/24", None, None, 0, "unreachable"),
        ("::/0", "fd00::1", "eth0", 1024, "unicast"),
        ("fd00::/64", None, "eth0", 256, "unicast"),
    ]


def test_a_machine_without_those_files_has_no_routes(old_machine):
    for name in ("route", "ipv6_route"):
        (old_machine / "root/proc/net" / name).unlink()
    assert do("route.list").data == {"routes": []}


def test_an_answer_of_ip_that_is_no_json_is_not_believed(old_machine):
    add_program(old_machine, "ip", "echo 'Usage: ip [ OPTIONS ]'\n")
    assert len(do("route.list").data["routes"]) == 5


@pytest.fixture
def routes(machine):
    """Routes of every shape that `ip` tells."""
    let_say(
        machine,
        "routes4",
        [
            {"dst": "192.0.2.0/24", "dev": "eth0", "protocol": "kernel", "prefsrc": "192.0.2.10"},
            {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0", "metric": 100},
            {"dst": "198.51.100.7", "via": {"family": "inet6", "host": "fe80::1"}, "dev": "eth0"},
            {"type": "blackhole", "dst": "203.0.113.0/24"},
            {
                "dst": "10.0.0.0/8",
                "nexthops": [
                    {"gateway": "192.0.2.3", "dev": "eth0"},
                    {"gateway": "192.0.2.2", "dev": "br0"},
                ],
            },
        ],
    )
    let_say(machine, "routes6", "")
    return machine


def test_routes_of_every_shape_are_told_alike_and_sorted(routes):
    answer = do("route.list")
    assert answer.changed is None
    found = [(each["to"], each["via"], each["interface"]) for each in answer.data["routes"]]
    assert found == [
        ("0.0.0.0/0", "192.0.2.1", "eth0"),
        ("10.0.0.0/8", "192.0.2.2", "br0"),
        ("10.0.0.0/8", "192.0.2.3", "eth0"),
        ("192.0.2.0/24", None, "eth0"),
        ("198.51.100.7/32", "fe80::1", "eth0"),
        ("203.0.113.0/24", None, None),
    ]
    assert answer.data["routes"][0]["metric"] == 100
    assert answer.data["routes"][3]["source"] == "192.0.2.10"
    assert answer.data["routes"][5]["type"] == "blackhole"


def test_the_routes_of_an_interface_are_its_own_alone(routes):
    answer = do("route.get", iface="br0")
    assert answer.data["managed"] is False
    assert [each["via"] for each in answer.data["routes"]] == ["192.0.2.2"]


def test_this_machine_itself_can_be_read(monkeypatch, tmp_path):
    with_ip = do("interface.get", name="lo").data["interface"]
    monkeypatch.setattr("agent.operations.base.PATH", str(tmp_path))
    without = do("interface.get", name="lo").data["interface"]
    # An address that no route leads to is told by `ip` alone.
    assert set(with_ip.pop("addresses")) >= set(without.pop("addresses")) >= {"127.0.0.1/8"}
    assert with_ip == without
    assert isinstance(do("route.list").data["routes"], list)


# --- Name servers --------------------------------------------------------------------------------


RESOLV_CONF = """\
# made by hand
search old.example
nameserver 192.0.2.53
nameserver nonsense
nameserver
options edns0
search example.org corp.example
nameserver fe80::1%eth0
"""


def test_name_servers_are_those_of_resolv_conf_in_its_order(machine):
    add_file(machine, "/etc/resolv.conf", RESOLV_CONF)
    assert do("dns.get", iface="eth0").data == {
        "interface": "eth0",
        "servers": ["192.0.2.53", "fe80::1%eth0"],
        "search_domains": ["example.org", "corp.example"],
        "source": "/etc/resolv.conf",
        "managed": False,
    }


def resolved(machine, script):
    add_file(machine, "/run/systemd/resolve/resolv.conf", "")
    add_file(machine, "/etc/resolv.conf", "nameserver 127.0.0.53\n")
    add_program(machine, "resolvectl", script)


def test_systemd_resolved_tells_the_name_servers_of_the_interface(machine):
    resolved(
        machine,
        '[ $1 = domain ] && { echo "Link 2 ($2): example.org"; exit; }\n'
        "printf 'Link 2 (eth0): 192.0.2.53\\n    2001:db8::53#dns.example\\n'\n",
    )
    found = do("dns.get", iface="eth0").data
    assert found["servers"] == ["192.0.2.53", "2001:db8::53#dns.example"]
    assert found["search_domains"] == ["example.org"]
    assert found["source"] == "systemd-resolved"
    assert asked(machine, "resolvectl") == ["dns eth0", "domain eth0"]


def test_an_interface_without_name_servers_has_none(machine):
    resolved(machine, "echo 'Link 2 (eth0):'\n")
    found = do("dns.get", iface="eth0").data
    assert (found["servers"], found["search_domains"]) == ([], [])


def test_resolv_conf_is_read_when_systemd_resolved_does_not_answer(machine):
    resolved(machine, "echo 'Failed to connect to bus' >&2\nexit 1\n")
    assert do("dns.get", iface="eth0").data["servers"] == ["127.0.0.53"]


DNS = "90-jobsite-dns-eth0.yaml"


def test_name_servers_are_told_to_netplan_once(machine):
    params = {"servers": ["192.0.2.53", "2001:DB8::53"], "search_domains": ["example.org"]}
    first = do("dns.update", interface_name="eth0", override_dhcp=False, **params)
    assert first.changed is True
    assert netplan_file(machine, DNS) == {
        "network": {
            "version": 2,
            "ethernets": {
                "eth0": {
                    "nameservers": {
                        "addresses": ["192.0.2.53", "2001:db8::53"],
                        "search": ["example.org"],
                    }
                }
            },
        }
    }
    again = do("dns.update", interface_name="eth0", override_dhcp=False, **params)
    assert (again.changed, again.data) == (False, first.data)
    assert applied(machine) == 1


def test_name_servers_stay_when_only_search_domains_are_given(machine):
    do("dns.update", interface_name="eth0", servers=["192.0.2.53"])
    answer = do("dns.update", interface_name="eth0", search_domains=["example.org"])
    assert answer.data["settings"]["nameservers"] == {
        "addresses": ["192.0.2.53"],
        "search": ["example.org"],
    }


def test_name_servers_of_dhcp_are_left_out_when_asked(machine):
    params = {"interface_name": "eth0", "servers": ["192.0.2.53"]}
    settings = do("dns.update", **params, override_dhcp=True).data["settings"]
    assert settings["dhcp4-overrides"] == settings["dhcp6-overrides"] == {"use-dns": False}
    assert do("dns.update", **params).changed is False
    back = do("dns.update", **params, override_dhcp=False)
    assert (back.changed, list(back.data["settings"])) == (True, ["nameservers"])


def test_name_servers_of_ours_are_removed_once(machine):
    do("dns.update", interface_name="eth0", servers=["192.0.2.53"])
    assert do("dns.get", iface="eth0").data["managed"] is True
    assert do("dns.delete", interface_name="eth0").changed is True
    assert do("dns.delete", interface_name="eth0").changed is False
    assert (netplan_files(machine), applied(machine)) == ([], 2)


@pytest.mark.parametrize(
    "params",
    [
        {"servers": ["dns.example"]},
        {"servers": ["0.0.0.0"]},
        {"servers": ["fe80::1%eth0"]},
        {"search_domains": ["-x.example"]},
        {"search_domains": ["a b"]},
        {"servers": [], "search_domains": []},
    ],
)
def test_what_is_no_name_server_or_domain_is_refused(machine, params):
    assert refusal("dns.update", interface_name="eth0", **params)[0] == "invalid_value"
    assert applied(machine) == 0


# --- Ping ----------------------------------------------------------------------------------------


IPUTILS = """\
PING 192.0.2.1 (192.0.2.1) 56(84) bytes of data.
64 bytes from 192.0.2.1: icmp_seq=1 ttl=64 time=0.045 ms

--- 192.0.2.1 ping statistics ---
3 packets transmitted, 2 received, 33.3333% packet loss, time 2041ms
rtt min/avg/max/mdev = 0.045/0.500/12.056/0.007 ms
"""
BUSYBOX = """\
--- 192.0.2.1 ping statistics ---
3 packets transmitted, 3 packets received, 0% packet loss
round-trip min/avg/max = 0.082/0.091/0.105 ms
"""
LOST = """\
From 192.0.2.10 icmp_seq=1 Destination Host Unreachable

--- 192.0.2.99 ping statistics ---
3 packets transmitted, 0 received, +3 errors, 100% packet loss, time 2038ms
"""


@pytest.mark.parametrize(
    ("said", "code", "expected"),
    [
        (IPUTILS, 0, (3, 2, 33.3333, 0.000045, 0.0005, 0.012056)),
        (BUSYBOX, 0, (3, 3, 0.0, 0.000082, 0.000091, 0.000105)),
        (LOST, 1, (3, 0, 100.0, None, None, None)),
    ],
)
def test_a_ping_counts_its_packets(machine, said, code, expected):
    let_say(machine, "said", said)
    add_program(machine, "ping", f"cat $state/said\nexit {code}\n")
    answer = do("ping.do", address="192.0.2.1")
    assert (answer.status, answer.changed) == ("completed", None)
    assert answer.data.pop("address") == "192.0.2.1"
    assert tuple(answer.data.values()) == expected
    assert asked(machine, "ping") == ["-n -c 3 -W 2 -- 192.0.2.1"]


def test_a_host_without_an_address_cannot_be_pinged(machine):
    add_program(machine, "ping", "echo 'ping: db.example: Name or service not known' >&2\nexit 2\n")
    code, text = refusal("ping.do", address="db.example")
    assert (code, text) == (
        "operation_failed",
        "db.example cannot be pinged: ping: db.example: Name or service not known",
    )


@pytest.mark.parametrize(
    "address", ["-f", "../x", "a b", "a..b", "x;y", "a" * 64, "a." * 127 + "a"]
)
def test_what_is_no_host_is_not_pinged(machine, address):
    add_program(machine, "ping", "")
    assert refusal("ping.do", address=address)[0] == "invalid_value"
    assert asked(machine, "ping") == []


# --- Interfaces ----------------------------------------------------------------------------------


INTERFACE = "90-jobsite-interface-eth0.yaml"


def test_an_interface_is_told_to_netplan_in_its_words(machine):
    assert do("interface.create", **STATIC).changed is True
    assert netplan_file(machine, INTERFACE) == {
        "network": {
            "version": 2,
            "ethernets": {
                "eth0": {
                    "dhcp4": False,
                    "addresses": ["192.0.2.20/24", "fd00::20/64"],
                    "mtu": 1400,
                    "macaddress": "02:fc:00:00:00:07",
                    "routes": [{"to": "0.0.0.0/0", "via": "192.0.2.1"}],
                }
            },
        }
    }
    assert (machine / "root/etc/netplan" / INTERFACE).stat().st_mode & 0o777 == 0o600


def test_an_interface_of_another_kind_stands_in_its_own_section(machine):
    do("interface.create", name="br0", dhcp4=True, dhcp6=False, gateway6="fe80::1")
    wanted = {"dhcp4": True, "dhcp6": False, "routes": [{"to": "::/0", "via": "fe80::1"}]}
    assert netplan_file(machine, "90-jobsite-interface-br0.yaml")["network"]["bridges"] == {
        "br0": wanted
    }


def test_an_interface_that_is_set_already_changes_nothing(machine):
    do("interface.create", **STATIC)
    assert do("interface.create", **STATIC).changed is False
    assert do("interface.update", **STATIC).changed is False
    assert applied(machine) == 1


def test_an_interface_with_other_settings_is_not_created_over(machine):
    do("interface.create", **STATIC)
    code, text = refusal("interface.create", name="eth0", dhcp4=True)
    assert (code, "update them instead" in text) == ("conflict", True)
    assert applied(machine) == 1


def test_an_update_replaces_the_settings_of_ours(machine):
    do("interface.create", **STATIC)
    assert do("interface.update", name="eth0", dhcp4=True, gateway4="").changed is True
    found = netplan_file(machine, INTERFACE)["network"]["ethernets"]["eth0"]
    assert (found, applied(machine)) == ({"dhcp4": True}, 2)


@pytest.mark.parametrize(
    ("operation", "params"),
    [
        ("interface.update", {"name": "eth0", "dhcp4": True}),
        ("route.update", {"iface": "eth0", "routes": [{"to": "default", "via": "192.0.2.1"}]}),
        ("interface.create", {"name": "eth7", "dhcp4": True}),
        ("dns.update", {"interface_name": "eth7", "servers": ["192.0.2.53"]}),
    ],
)
def test_what_is_not_there_is_not_found(machine, operation, params):
    add_file(machine, "/etc/netplan/50-cloud-init.yaml", "network: {version: 2}\n")
    assert refusal(operation, **params)[0] == "not_found"
    assert (netplan_files(machine), applied(machine)) == (["50-cloud-init.yaml"], 0)


def test_only_a_file_of_ours_is_removed(machine):
    add_file(machine, "/etc/netplan/50-cloud-init.yaml", "network: {version: 2}\n")
    do("interface.create", **STATIC)
    do("route.create", iface="eth0", routes=[{"to": "default", "via": "192.0.2.1"}])
    assert do("interface.delete", name="eth0").changed is True
    assert do("interface.delete", name="eth0").changed is False
    assert netplan_files(machine) == ["50-cloud-init.yaml", "90-jobsite-routes-eth0.yaml"]
    assert applied(machine) == 3


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ({"addresses": ["192.0.2.300/24"]}, "addresses"),
        ({"addresses": ["192.0.2.20"]}, "length"),
        ({"addresses": ["fe80::1%eth0/64"]}, "addresses"),
        ({"addresses": ["224.0.0.1/4"]}, "single host"),
        ({"gateway4": "fd00::1"}, "IPv4"),
        ({"gateway6": "192.0.2.1"}, "IPv6"),
        ({"gateway4": "0.0.0.0"}, "gateway4"),
        ({"mtu": 67}, "68"),
        ({"mtu": 9001}, "9000"),
        ({"mtu": True}, "mtu"),
        ({"mac_address": "02:fc:00:00:00"}, "mac_address"),
        ({"mac_address": "01:00:5e:00:00:01"}, "group"),
        ({"gateway4": "", "addresses": []}, "at least one"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_anything_is_written(machine, params, word):
    code, text = refusal("interface.create", name="eth0", **params)
    assert (code, word in text) == ("invalid_value", True), text
    assert netplan_files(machine) == []


NAMES = ["../x", "-rf", "a/b", "..", "a..b", "", "a b", "x" * 16, "eth0\n"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("operation", "key", "params"),
    [
        ("interface.get", "name", {}),
        ("interface.create", "name", {"dhcp4": True}),
        ("interface.update", "name", {"dhcp4": True}),
        ("interface.delete", "name", {}),
        ("dns.get", "iface", {}),
        ("dns.update", "interface_name", {"servers": ["192.0.2.53"]}),
        ("dns.delete", "interface_name", {}),
        ("route.get", "iface", {}),
        ("route.create", "iface", {"routes": [{"to": "default", "via": "192.0.2.1"}]}),
        ("route.update", "iface", {"routes": [{"to": "default", "via": "192.0.2.1"}]}),
        ("route.delete", "iface", {}),
    ],
)
def test_a_name_that_is_none_is_refused(machine, name, operation, key, params):
    assert refusal(operation, **{key: name}, **params)[0] == "invalid_value"
    assert netplan_files(machine) == []


def test_a_kind_that_netplan_does_not_make_here_is_refused(machine):
    code, text = refusal("interface.create", name="vx1", dhcp4=True)
    assert (code, "vxlan" in text) == ("operation_failed", True)


# --- Routes --------------------------------------------------------------------------------------


ROUTES = [
    {"to": "default", "via": "fd00::1"},
    {"to": "198.51.100.0/24", "via": "192.0.2.1", "metric": 50},
    {"to": "default", "via": "192.0.2.1"},
    {"to": "203.0.113.7", "via": "192.0.2.1"},
]


def test_routes_are_told_to_netplan_whatever_their_order(machine):
    assert do("route.create", iface="eth0", routes=ROUTES).changed is True
    found = netplan_file(machine, "90-jobsite-routes-eth0.yaml")["network"]["ethernets"]["eth0"]
    assert sorted(found["routes"], key=str) == [
        {"to": "0.0.0.0/0", "via": "192.0.2.1"},
        {"to": "198.51.100.0/24", "via": "192.0.2.1", "metric": 50},
        {"to": "203.0.113.7/32", "via": "192.0.2.1"},
        {"to": "::/0", "via": "fd00::1"},
    ]
    assert do("route.create", iface="eth0", routes=[*ROUTES[::-1], ROUTES[0]]).changed is False


def test_routes_are_replaced_by_an_update_and_go_with_a_delete(machine):
    do("route.create", iface="eth0", routes=ROUTES)
    assert refusal("route.create", iface="eth0", routes=ROUTES[:1])[0] == "conflict"
    assert do("route.update", iface="eth0", routes=ROUTES[:1]).changed is True
    assert do("route.update", iface="eth0", routes=ROUTES[:1]).changed is False
    assert do("route.delete", iface="eth0").changed is True
    assert do("route.delete", iface="eth0").changed is False
    assert netplan_files(machine) == []


@pytest.mark.parametrize(
    ("route", "word"),
    [
        ({"to": "198.51.100.0/24"}, "via"),
        ({"via": "192.0.2.1"}, "to None"),
        ({"to": "198.51.100.1/24", "via": "192.0.2.1"}, "host bits"),
        ({"to": "198.51.100.0/24", "via": "fd00::1"}, "mix"),
        ({"to": "default", "via": "192.0.2.1", "metric": -1}, "metric"),
        ({"to": "default", "via": "192.0.2.1", "metric": "5"}, "metric"),
        ({"to": "default", "via": "192.0.2.1", "dev": "eth1"}, "not dev"),
    ],
)
def test_a_route_that_cannot_be_is_refused(machine, route, word):
    code, text = refusal("route.create", iface="eth0", routes=[route])
    assert (code, word in text) == ("invalid_value", True), text


def test_no_routes_are_no_wish(machine):
    assert refusal("route.create", iface="eth0", routes=[])[0] == "invalid_value"


# --- When netplan does not take it ---------------------------------------------------------------


def test_a_new_file_that_netplan_does_not_take_is_gone_afterwards(machine):
    let_say(machine, "refused", "192.0.2.20")
    code, text = refusal("interface.create", **STATIC)
    assert code == "operation_failed"
    assert "Error in network definition: that is refused" in text
    assert text.endswith("The settings are as before")
    assert (netplan_files(machine), applied(machine)) == ([], 2)


def test_the_earlier_settings_are_back_when_netplan_does_not_take_an_update(machine):
    do("interface.create", name="eth0", dhcp4=True)
    let_say(machine, "refused", "192.0.2.20")
    refusal("interface.update", **STATIC)
    found = netplan_file(machine, INTERFACE)["network"]["ethernets"]["eth0"]
    assert (found, applied(machine)) == ({"dhcp4": True}, 3)


def test_a_file_is_back_when_netplan_cannot_do_without_it(machine):
    add_file(machine, "/etc/netplan/50-others.yaml", "others\n")
    do("interface.create", name="eth0", dhcp4=True)
    let_say(machine, "refused", "others")
    _, text = refusal("interface.delete", name="eth0")
    assert text.endswith("as before, but netplan does not take those either")
    assert netplan_files(machine) == ["50-others.yaml", INTERFACE]


def test_an_interface_of_an_entry_with_another_name_is_left_alone(machine):
    let_say(machine, "status", {"netplan-global-state": {}, "eth0": {"id": "all-en"}})
    code, text = refusal("interface.create", name="eth0", dhcp4=True)
    assert (code, "all-en" in text) == ("conflict", True)
    assert (netplan_files(machine), applied(machine)) == ([], 0)


@pytest.mark.parametrize("said", ["", "{}", "[]", '{"eth0": {}}', '{"eth0": {"id": "eth0"}}'])
def test_an_interface_of_its_own_entry_or_of_none_is_set(machine, said):
    let_say(machine, "status", said)
    assert do("interface.create", name="eth0", dhcp4=True).changed is True


@pytest.mark.parametrize("text", ["network: {}\n", "[]", '{"network": {"ethernets": {}}}', "{}"])
def test_a_file_that_somebody_else_changed_is_deleted_but_not_guessed_at(machine, text):
    add_file(machine, f"/etc/netplan/{DNS}", text)
    assert refusal("dns.update", interface_name="eth0", servers=["192.0.2.53"])[0] == "conflict"
    assert do("dns.delete", interface_name="eth0").changed is True


# --- What a machine can do -----------------------------------------------------------------------


READS = {
    "network.dns.get",
    "network.interface.get",
    "network.interface.list",
    "network.route.get",
    "network.route.list",
}


def test_reading_is_available_everywhere(machine, monkeypatch):
    monkeypatch.setattr("agent.operations.base.PATH", str(machine / "state"))
    assert set(network.available()) == READS


def test_netplan_is_for_root_and_a_ping_for_everybody(machine, monkeypatch):
    add_program(machine, "ping", "")
    assert set(network.available()) == set(network.HANDLERS)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert set(network.available()) == {*READS, "network.ping.do"}
