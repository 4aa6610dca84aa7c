"""Node operations: the registry and the check of parameters (docs/semantics.md 2.7, X91)."""

import re

import pytest

from nodes.operations import (
    OPERATIONS,
    TYPED_OPERATIONS,
    Kind,
    Operation,
    Param,
    ParamType,
    check_params,
    with_defaults,
)


def problems(name, /, **params):
    return [(p.keys, p.code) for p in check_params(OPERATIONS[name], params)]


def test_there_are_94_typed_operations_and_the_upgrade():
    assert len(TYPED_OPERATIONS) == 94
    assert set(OPERATIONS) - {row.name for row in TYPED_OPERATIONS} == {"agent.upgrade"}
    assert OPERATIONS["agent.upgrade"].permission == "agent:write"


def test_no_two_operations_share_a_name_or_an_endpoint():
    endpoints = [(row.method, row.path) for row in TYPED_OPERATIONS]
    assert len(set(endpoints)) == len(endpoints) == 94


@pytest.mark.parametrize("row", TYPED_OPERATIONS, ids=lambda row: row.name)
def test_every_operation_is_named_by_domain_noun_and_verb(row):
    assert re.fullmatch(r"[a-z]+\.[a-z]+\.[a-z]+", row.name)
    assert row.domain == row.name.split(".")[0]
    required = {param.name for param in row.params if param.required}
    assert set(row.path_params) <= required
    names = [param.name for param in row.params]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("row", TYPED_OPERATIONS, ids=lambda row: row.name)
def test_reading_needs_read_and_changing_needs_more(row):
    verb = row.permission.partition(":")[2]
    assert (verb == "read") is (row.kind is Kind.QUERY)
    if row.method == "GET":
        assert row.kind is Kind.QUERY


@pytest.mark.parametrize(
    ("name", "permission", "kind"),
    [
        ("node.hostname.get", "node:read", Kind.QUERY),
        ("node.hostname.update", "node:write", Kind.UPDATE),
        ("network.ping.do", "network:read", Kind.QUERY),
        ("docker.container.exec", "docker:execute", Kind.UPDATE),
        ("process.entry.signal", "process:execute", Kind.UPDATE),
        ("power.node.reboot", "power:execute", Kind.UPDATE),
        ("command.shell.execute", "command:execute", Kind.UPDATE),
        ("group.entry.create", "user:write", Kind.UPDATE),
        ("file.status.get", "file:read", Kind.QUERY),
    ],
)
def test_operations_have_the_permissions_of_their_source(name, permission, kind):
    assert (OPERATIONS[name].permission, OPERATIONS[name].kind) == (permission, kind)


def test_ping_also_accepts_the_permission_of_its_source():
    assert OPERATIONS["network.ping.do"].also == "network:write"


@pytest.mark.parametrize(
    ("name", "params", "expected"),
    [
        ("node.status.get", {}, []),
        ("node.status.get", {"x": 1}, [(("x",), "unknown_field")]),
        ("node.hostname.update", {"hostname": "a"}, []),
        ("node.hostname.update", {}, [(("hostname",), "invalid_spec")]),
        ("node.hostname.update", {"hostname": ""}, [(("hostname",), "invalid_value")]),
        ("node.hostname.update", {"hostname": "a" * 254}, [(("hostname",), "invalid_value")]),
        ("node.hostname.update", {"hostname": 1}, [(("hostname",), "invalid_type")]),
        ("command.exec.execute", {"command": "ls", "timeout": 300, "args": ["-l"]}, []),
        (
            "command.exec.execute",
            {"command": "ls", "timeout": 0},
            [(("timeout",), "invalid_value")],
        ),
        (
            "command.exec.execute",
            {"command": "ls", "timeout": 301},
            [(("timeout",), "invalid_value")],
        ),
        (
            "command.exec.execute",
            {"command": "ls", "timeout": True},
            [(("timeout",), "invalid_type")],
        ),
        ("command.exec.execute", {"command": "ls", "args": "-l"}, [(("args",), "invalid_type")]),
        (
            "command.exec.execute",
            {"command": "ls", "args": ["a", 1]},
            [(("args", 1), "invalid_type")],
        ),
        ("process.entry.signal", {"pid": 1, "signal": "NOPE"}, [(("signal",), "invalid_value")]),
        ("ntp.config.update", {"servers": []}, [(("servers",), "invalid_value")]),
        ("network.route.update", {"iface": "e", "routes": [{}]}, []),
        (
            "network.route.update",
            {"iface": "e", "routes": ["x"]},
            [(("routes", 0), "invalid_type")],
        ),
        ("network.dns.update", {"interface_name": "e"}, [(("search_domains",), "invalid_value")]),
        ("network.dns.update", {"interface_name": "e", "servers": ["1.1.1.1"]}, []),
        ("cron.entry.create", {"name": "n", "object": "o", "schedule": "* * * * *"}, []),
        ("cron.entry.create", {"name": "n", "object": "o"}, [(("interval",), "invalid_value")]),
        (
            "cron.entry.create",
            {"name": "n", "object": "o", "schedule": "* * * * *", "interval": "daily"},
            [(("interval",), "invalid_value")],
        ),
        (
            "docker.container.create",
            {"image": "i", "auto_start": 1},
            [(("auto_start",), "invalid_type")],
        ),
        (
            "file.deploy.execute",
            {"object_name": "o", "path": "/p", "content_type": "raw", "vars": {"a": 1}},
            [],
        ),
    ],
)
def test_parameters_are_checked(name, params, expected):
    assert problems(name, **params) == expected


def test_every_problem_is_reported_with_words():
    found = check_params(OPERATIONS["process.entry.signal"], {"x": 1, "pid": "1"})
    assert [p.code for p in found] == ["unknown_field", "invalid_type", "invalid_spec"]
    assert all(p.message for p in found)


def test_a_range_says_nothing_about_values_without_a_size():
    free = Param(name="m", type=ParamType.MAP, max=1)
    row = Operation(
        name="a.b.c", method="PUT", path="", kind=Kind.UPDATE, permission="x", params=(free,)
    )
    assert check_params(row, {"m": {"a": 1, "b": 2}}) == []


@pytest.mark.parametrize("text", ["secret", "$ecret", "$6$salt$", "x$6$abcdefgh$UqYV1qHOVjSV7sBv"])
def test_a_password_is_never_taken_as_it_is(text):
    told = check_params(OPERATIONS["user.password.update"], {"name": "ada", "password": text})
    assert [(wrong.keys, wrong.code) for wrong in told] == [(("password",), "invalid_value")]
    assert "openssl passwd -6" in told[0].message
    assert text not in told[0].message


def test_a_hash_of_a_password_is_taken():
    for text in (
        "$6$abcdefgh$UqYV1qHOVjSV7sBv2X",
        "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$X3DX6M94c7o.9agC",
    ):
        assert problems("user.password.update", name="ada", password=text) == []


def test_defaults_are_filled_in_and_what_is_given_stays():
    row = OPERATIONS["docker.container.list"]
    assert with_defaults(row, {"limit": 5}) == {"state": "all", "limit": 5}
    assert with_defaults(OPERATIONS["network.interface.update"], {"name": "eth0", "mtu": 9000}) == {
        "name": "eth0",
        "mtu": 9000,
    }
    assert with_defaults(OPERATIONS["docker.container.create"], {"image": "a"}) == {
        "image": "a",
        "auto_start": True,
    }
