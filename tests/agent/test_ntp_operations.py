"""Time servers for chrony and systemd-timesyncd; their programs have stand-ins."""

import os

import pytest

from agent.operations import ntp
from agent.operations.base import OperationError
from nodes.operations import OPERATIONS

TIMESYNCD = "etc/systemd/timesyncd.conf.d/90-jobsite.conf"


def do(name, /, **params):
    return ntp.HANDLERS[f"ntp.config.{name}"](params)


def code_of(name, /, **params):
    with pytest.raises(OperationError) as caught:
        do(name, **params)
    return caught.value.code


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """A machine with nothing that keeps the time."""
    place = tmp_path / "root"
    (tmp_path / "bin").mkdir()
    place.mkdir()
    (tmp_path / "calls").touch()
    monkeypatch.setattr("agent.operations.base.ROOT", place)
    monkeypatch.setattr("agent.operations.base.PATH", str(tmp_path / "bin"))
    return place


@pytest.fixture
def calls(tmp_path):
    return lambda: (tmp_path / "calls").read_text().splitlines()


@pytest.fixture
def stand_in(tmp_path):
    """Make a program that notes what it is asked, and then does as the text says."""

    def make(name, text=""):
        tool = tmp_path / "bin" / name
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n{text}\n')
        tool.chmod(0o755)

    return make


@pytest.fixture
def systemd(root, stand_in):
    (root / "run/systemd/system").mkdir(parents=True)
    stand_in("systemctl")


@pytest.fixture
def timesyncd(root, systemd):
    folder = root / "usr/lib/systemd"
    folder.mkdir(parents=True)
    (folder / "systemd-timesyncd").touch()


@pytest.fixture
def chrony(root, stand_in):
    stand_in("chronyc")
    folder = root / "etc/chrony/sources.d"
    folder.mkdir(parents=True)
    return folder / "jobsite.sources"


SERVERS = ["b.example.org", "2001:db8::1", "b.example.org"]


def test_timesyncd_is_given_its_servers_once(root, timesyncd, calls):
    first, second = (do("create", servers=SERVERS) for _ in range(2))
    assert (first.changed, second.changed) == (True, False)
    assert first.data["service"] == "systemd-timesyncd"
    assert first.data["servers"] == ["b.example.org", "2001:db8::1"]
    text = "# Set by jobsite.\n[Time]\nNTP=\nNTP=b.example.org 2001:db8::1\n"
    assert (root / TIMESYNCD).read_text() == text
    assert calls() == ["systemctl restart -- systemd-timesyncd.service"]


def test_chrony_reads_its_sources_anew(chrony, calls):
    assert [do("create", servers=SERVERS).changed for _ in range(2)] == [True, False]
    text = "# Set by jobsite.\nserver b.example.org iburst\nserver 2001:db8::1 iburst\n"
    assert chrony.read_text() == text
    assert calls() == ["chronyc reload sources"]


@pytest.mark.parametrize(
    ("folder", "unit"),
    [("etc/chrony/conf.d", "chrony.service"), ("etc/chrony.d", "chronyd.service")],
)
@pytest.mark.usefixtures("systemd")
def test_chrony_without_a_folder_of_sources_is_restarted(root, stand_in, calls, folder, unit):
    stand_in("chronyc")
    (root / folder).mkdir(parents=True)
    assert do("create", servers=["a"]).changed is True
    assert "server a iburst" in (root / folder / "jobsite.conf").read_text()
    assert calls() == [f"systemctl restart -- {unit}"]


def test_chrony_that_could_only_be_restarted_needs_systemd_for_it(root, stand_in):
    stand_in("chronyc")
    (root / "etc/chrony/conf.d").mkdir(parents=True)
    assert list(ntp.available()) == []


def test_other_servers_are_a_conflict_and_are_updated(chrony, calls):
    do("create", servers=["a"])
    assert code_of("create", servers=["b"]) == "conflict"
    assert [do("update", servers=["b"]).changed for _ in range(2)] == [True, False]
    assert do("get").data["servers"] == ["b"]
    assert calls().count("chronyc reload sources") == 2


def test_what_is_not_ours_cannot_be_updated(chrony):
    assert code_of("update", servers=["a"]) == "not_found"
    assert not chrony.exists()


def test_our_servers_are_deleted_once(chrony, calls):
    do("create", servers=["a"])
    assert [do("delete").changed for _ in range(2)] == [True, False]
    assert not chrony.exists()
    assert calls() == ["chronyc reload sources"] * 2


def test_what_the_program_cannot_be_told_is_as_before(chrony, stand_in):
    do("create", servers=["a"])
    stand_in("chronyc", "echo '506 Cannot talk to daemon'; exit 1")
    with pytest.raises(OperationError, match="Cannot talk to daemon"):
        do("update", servers=["b"])
    assert do("get").data["servers"] == ["a"]
    assert code_of("delete") == "operation_failed"
    assert chrony.exists()
    stand_in("chronyc")
    assert do("update", servers=["b"]).changed is True


def test_a_first_try_that_fails_leaves_no_file(chrony, stand_in):
    stand_in("chronyc", "exit 1")
    assert code_of("create", servers=["a"]) == "operation_failed"
    assert not chrony.exists()


@pytest.mark.parametrize("server", ["../x", "-rf", "a b", "a\nNTP=b", "", "a/b", "a..b"])
def test_a_bad_server_is_refused(chrony, calls, server):
    assert code_of("create", servers=["ok", server]) == "invalid_value"
    assert not chrony.exists()
    assert calls() == []


def test_no_servers_are_refused(chrony):
    assert code_of("create", servers=[]) == "invalid_value"


TRACKING = "A29FC87B,162.159.200.123,4,1764471000.1,0.0,0,0,0,0,0,0,0.1,0,"


@pytest.mark.parametrize(
    ("text", "is_synchronized"),
    [
        (f"echo '{TRACKING}Normal'", True),
        (f"echo '{TRACKING}Insert second'", True),
        ("echo '00000000,,0,0.0,0,0,0,0,0,0,0,0,0,Not synchronised'", False),
        ("echo '506 Cannot talk to daemon'; exit 1", None),
    ],
)
def test_chrony_says_whether_it_is_synchronized(root, chrony, stand_in, text, is_synchronized):
    stand_in("chronyc", text)
    (root / "etc/chrony/chrony.conf").write_text("# server no\nPool 2.pool.example iburst\n")
    assert do("get").data == {
        "service": "chrony",
        "servers": [],
        "other_servers": ["2.pool.example"],
        "managed": False,
        "synchronized": is_synchronized,
    }


@pytest.mark.parametrize(("said", "is_synchronized"), [("yes", True), ("no", False), ("", None)])
def test_timesyncd_says_whether_it_is_synchronized(
    root, timesyncd, stand_in, said, is_synchronized
):
    stand_in("timedatectl", f"echo {said}")
    (root / TIMESYNCD).parent.mkdir(parents=True)
    (root / "etc/systemd/timesyncd.conf").write_text("[Time]\n#NTP=no\nNTP=a b\n")
    (root / TIMESYNCD).write_text("[Time]\nNTP=\nNTP=c\n")
    data = do("get").data
    assert data["synchronized"] is is_synchronized
    assert (data["servers"], data["other_servers"], data["managed"]) == (["c"], ["a", "b"], True)


def test_without_timedatectl_nothing_is_known_of_the_clock(root, timesyncd):
    assert do("get").data["synchronized"] is None


def test_only_root_is_offered_changes(chrony, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert set(ntp.available()) == set(ntp.HANDLERS)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert list(ntp.available()) == ["ntp.config.get"]


def test_nothing_is_offered_where_nothing_keeps_the_time():
    assert list(ntp.available()) == []
    assert code_of("get") == "not_found"


def test_every_operation_of_the_registry_is_done():
    names = {row.name for row in OPERATIONS.values() if row.domain == "ntp"}
    assert set(ntp.HANDLERS) == names
