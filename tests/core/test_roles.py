"""Roles: the permission table, its counts, and how role names become permissions (docs/semantics.md 2.6)."""

import pytest

from access.roles import (
    PERMISSIONS,
    ROLE_PERMISSIONS,
    ROLE_TITLES,
    SUBMIT_PERMISSIONS,
    Role,
    permissions_of,
    permissions_to_submit,
)
from nodes.operations import OPERATIONS

ADDED = {
    *("rollout:read", "rollout:write", "namespace:read", "namespace:write"),
    *("account:read", "account:write", "signer:read", "signer:write"),
}


def test_there_are_36_permissions_and_8_more():
    assert len(PERMISSIONS) == len(set(PERMISSIONS)) == 44
    assert set(PERMISSIONS) >= ADDED
    assert len(ADDED) == 8


@pytest.mark.parametrize(("role", "inherited"), [("admin", 36), ("write", 30), ("read", 17)])
def test_each_role_holds_as_many_of_the_36_as_its_source_says(role, inherited):
    assert len(permissions_of([role]) - ADDED) == inherited


@pytest.mark.parametrize(
    ("role", "added"),
    [
        ("admin", ADDED),
        ("write", {"rollout:read", "rollout:write", "namespace:read"}),
        ("read", {"rollout:read", "namespace:read"}),
    ],
)
def test_each_role_holds_its_share_of_the_8_more(role, added):
    assert permissions_of([role]) & ADDED == added


def test_only_an_admin_executes_and_audits():
    only = permissions_of(["admin"]) - permissions_of(["write"]) - ADDED
    assert only == {
        *("agent:write", "audit:read", "command:execute"),
        *("docker:execute", "power:execute", "process:execute"),
    }


def test_a_viewer_reads_and_nothing_else():
    assert all(name.endswith(":read") for name in permissions_of(["read"]))
    assert permissions_of(["read"]) < permissions_of(["write"]) < permissions_of(["admin"])


def test_roles_add_up_and_an_unknown_role_gives_nothing():
    assert permissions_of(["read", "write", "ghost"]) == permissions_of(["write"])
    assert permissions_of(["ghost"]) == permissions_of([]) == frozenset()


def test_a_custom_role_hides_the_built_in_one_of_its_name():
    custom = {"write": ["log:read", "nonsense:read"], "deployer": ["job:write"]}
    assert permissions_of(["write"], custom) == {"log:read"}
    assert permissions_of(["write", "deployer"], custom) == {"log:read", "job:write"}


def test_direct_permissions_replace_all_roles():
    assert permissions_of(["admin"], direct=["job:read", "nonsense:read"]) == {"job:read"}
    assert permissions_of(["read"], direct=[]) == ROLE_PERMISSIONS["read"]


def test_every_built_in_role_has_a_title():
    assert ROLE_TITLES == {Role.ADMIN: "Admin", Role.WRITE: "Operator", Role.READ: "Viewer"}


@pytest.mark.parametrize(
    ("job_type", "operations", "needed"),
    [
        ("pipeline", [], {"job:write"}),
        ("script", [], {"job:write", "command:execute"}),
        ("config", ["power:execute"], {"job:write", "power:execute"}),
        ("query", ["node:read"], {"node:read"}),
        ("update", ["node:write"], {"node:write"}),
        ("unknown", [], set()),
    ],
)
def test_a_job_asks_for_the_permission_of_its_type(job_type, operations, needed):
    assert permissions_to_submit(job_type, operations) == needed


def test_whoever_may_change_something_may_try_to_submit():
    assert {"job:write", "power:execute"} <= SUBMIT_PERMISSIONS
    assert "job:read" not in SUBMIT_PERMISSIONS


def test_every_operation_asks_for_a_permission_that_exists():
    asked = {row.permission for row in OPERATIONS.values()}
    asked |= {row.also for row in OPERATIONS.values() if row.also}
    assert asked <= set(PERMISSIONS)
