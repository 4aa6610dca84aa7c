"""Groups, changed by the machine's own tools in a folder that looks like a machine."""

import os
import shutil

import pytest

from agent.operations import group
from agent.operations.base import OperationError

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("groupadd", path="/usr/sbin"),
    reason="needs root and the shadow tools",
)
PASSWD = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\nbob:x:1001:100::/:\n"
GROUP = "root:x:0:\nusers:x:100:\nada:x:1000:\nops:x:1100:bob,ada\n"


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A folder with accounts and groups, taken for the machine's root."""
    etc = tmp_path / "etc"
    etc.mkdir()
    (etc / "passwd").write_text(PASSWD)
    (etc / "group").write_text(GROUP)
    (etc / "gshadow").write_text("root:*::\nusers:*::\nada:!::\nops:!::bob,ada\n")
    (etc / "login.defs").write_text("GID_MIN 1000\nSYS_GID_MIN 101\nSYS_GID_MAX 999\n")
    monkeypatch.setattr("agent.operations.base.ROOT", tmp_path)
    return tmp_path


def do(operation, /, **params):
    return group.HANDLERS[f"group.entry.{operation}"](params)


def refused(code, operation, /, **params):
    with pytest.raises(OperationError) as caught:
        do(operation, **params)
    assert caught.value.code == code
    return str(caught.value)


def test_groups_are_told_sorted_with_their_members(machine):
    with (machine / "etc/group").open("a") as file:
        file.write("+::::\nnonsense\nodd:x:many:\n")
    told = do("list")
    assert told.changed is None
    assert [entry["name"] for entry in told.data["groups"]] == ["ada", "ops", "root", "users"]
    assert told.data["groups"][1] == {"name": "ops", "gid": 1100, "members": ["ada", "bob"]}


def test_a_group_is_told_by_its_name():
    assert do("get", name="users").data["group"] == {"name": "users", "gid": 100, "members": []}
    assert "nobodies" in refused("not_found", "get", name="nobodies")


def test_a_group_that_is_made_twice_is_made_once(machine):
    first = do("create", name="crew", gid=2000)
    second = do("create", name="crew", gid=2000)
    assert (first.changed, second.changed) == (True, False)
    assert first.data == second.data == {"group": {"name": "crew", "gid": 2000, "members": []}}
    assert "crew:x:2000:" in (machine / "etc/group").read_text().splitlines()


def test_a_group_of_the_system_gets_a_number_of_the_system():
    assert 101 <= do("create", name="daemons", system=True).data["group"]["gid"] <= 999


def test_another_number_is_a_conflict():
    assert "1100" in refused("conflict", "create", name="ops", gid=1200)
    assert "1100" in refused("conflict", "create", name="crew", gid=1100)


def test_members_become_exactly_those_that_are_given():
    assert do("update", name="ops", members=["bob", "ada"]).changed is False
    told = do("update", name="ops", members=["root"])
    assert (told.changed, told.data["group"]["members"]) == (True, ["root"])
    assert do("update", name="ops", members=["root"]).changed is False


def test_no_members_empty_a_group_and_none_given_leave_it():
    assert do("update", name="ops").changed is False
    told = do("update", name="ops", members=[])
    assert (told.changed, told.data["group"]["members"]) == (True, [])


def test_an_unknown_member_changes_nothing(machine):
    before = (machine / "etc/group").read_text()
    assert "ghost" in refused("not_found", "update", name="ops", members=["ghost"])
    assert (machine / "etc/group").read_text() == before
    refused("not_found", "update", name="nobodies", members=["ada"])


def test_a_group_is_removed_once():
    assert do("delete", name="ops").changed is True
    assert do("delete", name="ops").changed is False
    refused("not_found", "get", name="ops")


def test_what_an_account_or_root_needs_stays():
    assert "ada" in refused("conflict", "delete", name="ada")
    assert "root" in refused("forbidden", "delete", name="root")


@pytest.mark.parametrize("name", ["../x", "-rf", "a:b", "a,b", "a b", "a\nb", "", "."])
@pytest.mark.parametrize("operation", ["get", "create", "update", "delete"])
def test_a_name_is_never_a_path_an_option_or_two_fields(machine, operation, name):
    before = (machine / "etc/group").read_text()
    refused("invalid_value", operation, name=name, members=[])
    assert (machine / "etc/group").read_text() == before


def test_a_member_is_never_two_members():
    refused("invalid_value", "update", name="ops", members=["ada,root"])


def test_without_the_tools_groups_are_only_told(machine, monkeypatch):
    assert set(group.available()) == set(group.HANDLERS)
    monkeypatch.setattr("agent.operations.base.PATH", str(machine))
    assert set(group.available()) == {"group.entry.list", "group.entry.get"}
    (machine / "etc/group").unlink()
    assert list(group.available()) == []
