"""The domains node and process, against what this machine says of itself (docs/semantics.md 2.7)."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from agent import facts
from agent.operations import base, node, process, table, tokens
from agent.operations.base import OperationError
from nodes.operations import OPERATIONS


def do(name, /, **params):
    return table.handler_of(name)(params)


def test_a_node_says_what_it_is():
    data = do("node.status.get").data
    assert data["hostname"] == socket.gethostname()
    assert data["cpu_count"] == os.cpu_count()
    assert data["memory"]["total"] == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert data["uptime"] > 0
    assert do("node.os.get").data["os_info"] == data["os_info"]
    assert do("node.disk.get").data["disks"] == facts.disks()


@pytest.mark.parametrize("name", ["", "-a", "a-", "a..b", "a_b", "ä", "a" * 64, "a b"])
def test_what_is_no_host_name_is_refused(name):
    with pytest.raises(OperationError, match="is no host name") as refused:
        do("node.hostname.update", hostname=name)
    assert refused.value.code == "invalid_value"


def test_a_name_that_holds_already_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "ROOT", tmp_path)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hostname").write_text(f"{socket.gethostname()}\n")
    assert do("node.hostname.update", hostname=socket.gethostname()).changed is False


def test_the_name_is_set_by_root_alone(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "node.hostname.update" not in node.available()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "node.hostname.update" in node.available()


@pytest.fixture
def child():
    """A process of ours whose name needs care."""
    code = "import sys; open('/proc/self/comm','w').write('a) b (c'); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as running:
        running.stdout.readline()
        yield running
        running.kill()


def test_a_process_is_told_with_its_odd_name(child):
    told = do("process.entry.get", pid=child.pid).data["process"]
    assert (told["name"], told["pid"], told["ppid"]) == ("a) b (c", child.pid, os.getpid())
    assert told["memory_rss"] > 0
    pids = [entry["pid"] for entry in do("process.entry.list").data["processes"]]
    assert pids == sorted(pids)
    assert {child.pid, os.getpid()} <= set(pids)


def test_a_signal_arrives(child):
    answer = do("process.entry.signal", pid=child.pid, signal="TERM")
    assert answer.changed is True
    assert child.wait(60) == -signal.SIGTERM


def test_a_process_that_is_gone_is_not_found(child):
    child.kill()
    child.wait(60)
    for name in ("process.entry.get", "process.entry.signal"):
        with pytest.raises(OperationError, match=f"there is no process {child.pid}") as refused:
            do(name, pid=child.pid, signal="TERM")
        assert refused.value.code == "not_found"


def test_every_signal_of_the_registry_is_known():
    (param,) = (p for p in OPERATIONS["process.entry.signal"].params if p.name == "signal")
    assert set(param.choices) == set(process.SIGNALS)


def test_what_a_node_can_do_is_in_the_registry_and_the_other_way_round():
    known = {name for domain in table.DOMAINS for name in table._module(domain).HANDLERS}
    assert known <= set(OPERATIONS)
    # An agent replaces itself by the tools that installed it.
    assert set(OPERATIONS) - known == {"agent.upgrade"}


def test_tokens_are_replaced_in_every_text():
    known = {"hostname": "gw", "interface.primary": "eth0"}
    value = {"a": ["@fact.hostname", 1, {"b": "x-@fact.interface.primary."}], "c": None}
    assert tokens.has_tokens(value)
    assert tokens.fill_in(value, known) == {"a": ["gw", 1, {"b": "x-eth0."}], "c": None}
    assert not tokens.has_tokens({"a": ["mail@factory.example", 1]})


def test_a_write_is_whole_and_says_whether_it_changed_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(base, "ROOT", tmp_path)
    assert base.write("/etc/x/y", "one") is True
    assert base.write("/etc/x/y", "one") is False
    assert base.write("/etc/x/y", "one", 0o600) is True
    assert base.write("/etc/x/y", b"two") is True
    assert base.read("/etc/x/y") == "two"
    assert (tmp_path / "etc/x/y").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "etc/x").iterdir()] == ["y"]
    assert (base.remove("/etc/x/y"), base.remove("/etc/x/y")) == (True, False)
    assert base.read("/etc/x/y", "none") == "none"


def test_a_program_that_fails_is_told_with_its_words():
    with pytest.raises(OperationError, match=r"ls ended with 2: .*No such file"):
        base.run(["ls", "/no/such/place"])
    with pytest.raises(OperationError, match="cannot be run"):
        base.run(["/no/such/program"])
    assert base.run(["cat"], text="ä").stdout == "ä"
