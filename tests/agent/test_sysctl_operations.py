"""Settings of the kernel, in a tree of plain files; the kernel's own refusal is a real one."""

import os

import pytest

from agent.operations import sysctl
from agent.operations.base import OperationError
from nodes.operations import OPERATIONS

KEY = "net.ipv4.ip_forward"


def do(name, /, **params):
    return sysctl.HANDLERS[f"sysctl.key.{name}"](params)


def code_of(name, /, **params):
    with pytest.raises(OperationError) as caught:
        do(name, **params)
    return caught.value.code


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    for path, value in {
        "net/ipv4/ip_forward": "0\n",
        "net/ipv4/tcp_rmem": "4096\t131072\t6291456\n",
        "kernel/hostname": "node\n",
        "kernel/core_pattern": "core\n",
    }.items():
        file = tmp_path / "proc/sys" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value)
    monkeypatch.setattr("agent.operations.base.ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def kept(root):
    return root / f"etc/sysctl.d/90-jobsite-{KEY}.conf"


@pytest.fixture
def running(root):
    return root / "proc/sys/net/ipv4/ip_forward"


def test_a_key_is_set_now_and_for_later(running, kept):
    answers = [do("create", key=KEY, value="1") for _ in range(2)]
    assert [answer.changed for answer in answers] == [True, False]
    assert running.read_text() == "1\n"
    assert kept.read_text() == "# Set by jobsite.\nnet.ipv4.ip_forward = 1\n"
    assert answers[0].data == {"key": KEY, "value": "1", "persisted_value": "1", "before": "0"}


def test_a_running_value_that_drifted_is_set_again(running):
    do("create", key=KEY, value="1")
    running.write_text("0\n")
    assert do("create", key=KEY, value="1").changed is True
    assert running.read_text() == "1\n"


def test_a_value_that_runs_already_is_still_kept_for_later(running, kept):
    assert do("create", key=KEY, value="0").changed is True
    assert kept.exists()


def test_a_key_of_ours_with_another_value_is_a_conflict_and_is_updated(running, kept):
    do("create", key=KEY, value="1")
    assert code_of("create", key=KEY, value="0") == "conflict"
    assert [do("update", key=KEY, value="0").changed for _ in range(2)] == [True, False]
    assert (running.read_text(), kept.read_text().splitlines()[1]) == ("0\n", f"{KEY} = 0")


def test_a_key_that_is_not_ours_cannot_be_updated(running):
    assert code_of("update", key=KEY, value="1") == "not_found"
    assert running.read_text() == "0\n"


def test_how_numbers_are_spaced_makes_no_difference(root):
    params = {"key": "net.ipv4.tcp_rmem", "value": "4096  131072\t6291456 "}
    assert do("create", **params).changed is True
    assert (root / "proc/sys/net/ipv4/tcp_rmem").read_text() == "4096\t131072\t6291456\n"
    assert do("create", **params).changed is False
    assert do("get", key=params["key"]).data["value"] == "4096 131072 6291456"


def test_deleting_leaves_the_running_value_and_says_so(running, kept):
    do("create", key=KEY, value="1")
    first, second = do("delete", key=KEY), do("delete", key=KEY)
    assert (first.changed, second.changed) == (True, False)
    assert not kept.exists()
    assert running.read_text() == "1\n"
    assert first.data["value"] == "1"
    assert "until the machine starts again" in first.data["note"]
    assert second.data["note"] == ""


def test_get_tells_a_value(running):
    answer = do("get", key=KEY)
    assert answer.changed is None
    assert answer.data == {"key": KEY, "value": "0", "persisted_value": None}


@pytest.mark.parametrize("name", ["get", "create"])
@pytest.mark.parametrize("key", ["net.ipv4.nothing", "net.ipv4"])
def test_a_key_that_the_kernel_does_not_have_is_not_found(name, key):
    assert code_of(name, key=key, value="1") == "not_found"


@pytest.mark.parametrize(
    "key", ["../x", "-rf", "net/ipv4/ip_forward", "net..ipv4", ".net", "net.", "net", "", "a.-b"]
)
def test_a_bad_key_is_refused(key):
    for name in ("get", "create", "update", "delete"):
        assert code_of(name, key=key, value="1") == "invalid_value"


@pytest.mark.parametrize("value", ["1\nkernel.panic = 1", "   ", "a\0b"])
def test_a_value_is_one_line(running, kept, value):
    assert code_of("create", key=KEY, value=value) == "invalid_value"
    assert running.read_text() == "0\n"
    assert not kept.exists()


def test_what_the_kernel_refuses_is_not_kept(root):
    # The kernel lets nobody write this one, not even root.
    (root / "proc/sys/kernel/ostype").symlink_to("/proc/sys/kernel/ostype")
    assert code_of("create", key="kernel.ostype", value="Minix") == "forbidden"
    assert not (root / "etc").exists()


def test_the_list_is_sorted_and_leaves_out_what_cannot_be_read(root):
    (root / "proc/sys/kernel/drop").write_text("0")
    (root / "proc/sys/kernel/drop").chmod(0o200)
    (root / "proc/sys/net/eth0.5").mkdir()
    (root / "proc/sys/net/eth0.5/mtu").write_text("1")
    do("create", key=KEY, value="1")
    data = do("list").data
    assert [row["key"] for row in data["keys"]] == [
        "kernel.core_pattern",
        "kernel.hostname",
        "net.ipv4.ip_forward",
        "net.ipv4.tcp_rmem",
    ]
    assert data["keys"][2] == {"key": KEY, "value": "1", "persisted": True}
    assert data["keys"][3]["persisted"] is False
    assert data["truncated"] is False


def test_the_list_is_bounded(root, monkeypatch):
    (root / "proc/sys/kernel/core_pattern").write_text("x" * 10_000)
    monkeypatch.setattr(sysctl, "KEYS_MAX", 2)
    data = do("list").data
    assert [row["key"] for row in data["keys"]] == ["kernel.core_pattern", "kernel.hostname"]
    assert data["truncated"] is True
    assert len(data["keys"][0]["value"]) == sysctl.VALUE_MAX


def test_this_machines_own_settings_are_listed_and_got(monkeypatch):
    monkeypatch.undo()
    values = {row["key"]: row["value"] for row in do("list").data["keys"]}
    assert values["kernel.ostype"] == "Linux"
    assert do("get", key="kernel.ostype").data["value"] == "Linux"


def test_only_root_is_offered_changes(root, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert set(sysctl.available()) == set(sysctl.HANDLERS)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert set(sysctl.available()) == {"sysctl.key.list", "sysctl.key.get"}


def test_nothing_is_offered_without_proc(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.operations.base.ROOT", tmp_path / "empty")
    assert list(sysctl.available()) == []


def test_every_operation_of_the_registry_is_done():
    names = {row.name for row in OPERATIONS.values() if row.domain == "sysctl"}
    assert set(sysctl.HANDLERS) == names
