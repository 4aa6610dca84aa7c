"""Services of systemd, with a stand-in for systemctl that keeps its state in files."""

import json
import os

import pytest

from agent.operations import service
from agent.operations.base import OperationError
from nodes.operations import OPERATIONS

SYSTEMCTL = """#!/bin/sh
state={state}
for unit; do :; done
echo "$*" >> $state/calls
ours={root}/etc/systemd/system/$unit
case " $* " in
*" show "*)
    if [ -e $ours ]; then
        echo "LoadState=loaded"; echo "FragmentPath=/etc/systemd/system/$unit"
    elif [ -e $state/$unit.active ]; then
        echo "LoadState=loaded"; echo "FragmentPath=/usr/lib/systemd/system/$unit"
    else
        echo "LoadState=not-found"
    fi
    echo "ActiveState=$(cat $state/$unit.active 2>/dev/null || echo inactive)"
    echo "UnitFileState=$(cat $state/$unit.enabled 2>/dev/null || echo disabled)"
    echo "Description=a = b"
    echo "MainPID=0"; echo "MemoryCurrent=18446744073709551615"; echo "NRestarts=2"
    cat $state/$unit.more 2>/dev/null; exit 0;;
*" start "*|*" restart "*)
    [ -e $state/$unit.broken ] && {{ echo "Job for $unit failed" >&2; exit 1; }}
    echo active > $state/$unit.active;;
*" stop "*) echo inactive > $state/$unit.active;;
*" enable "*) [ -e $state/$unit.static ] || echo enabled > $state/$unit.enabled;;
*" disable "*) echo disabled > $state/$unit.enabled; echo inactive > $state/$unit.active;;
*" list-units "*) cat $state/units;;
*" list-unit-files "*) cat $state/files;;
esac
"""
UNIT = "[Service]\nExecStart=/bin/true\n"


def do(name, /, **params):
    return service.HANDLERS[f"service.unit.{name}"](params)


def code_of(name, /, **params):
    with pytest.raises(OperationError) as caught:
        do(name, **params)
    return caught.value.code


@pytest.fixture
def root(tmp_path, monkeypatch):
    place = tmp_path / "root"
    (place / "run/systemd/system").mkdir(parents=True)
    monkeypatch.setattr("agent.operations.base.ROOT", place)
    return place


@pytest.fixture
def state(tmp_path, root, monkeypatch):
    """The state of the stand-in; nginx is a service of the distribution, at rest."""
    folder, programs = tmp_path / "state", tmp_path / "bin"
    folder.mkdir()
    programs.mkdir()
    tool = programs / "systemctl"
    tool.write_text(SYSTEMCTL.format(state=folder, root=root))
    tool.chmod(0o755)
    monkeypatch.setattr("agent.operations.base.PATH", f"{programs}:/usr/bin:/bin")
    (folder / "nginx.service.active").write_text("inactive\n")
    vendor = root / "usr/lib/systemd/system"
    vendor.mkdir(parents=True)
    (vendor / "nginx.service").write_text(UNIT)
    return folder


@pytest.fixture
def calls(state):
    """What changing calls there were, each without the options for all of them."""

    def read():
        lines = (state / "calls").read_text().splitlines()
        return [line.removeprefix("--no-pager ") for line in lines if " show " not in line]

    (state / "calls").touch()
    return read


@pytest.fixture
def units(root):
    folder = root / "etc/systemd/system"
    folder.mkdir(parents=True)
    return folder


def test_a_service_is_started_once(calls):
    first, second = do("start", name="nginx"), do("start", name="nginx.service")
    assert (first.changed, second.changed) == (True, False)
    assert first.data["service"]["active_state"] == "active"
    assert calls() == ["start -- nginx.service"]


def test_a_service_is_stopped_once(state, calls):
    (state / "nginx.service.active").write_text("active")
    assert [do("stop", name="nginx").changed for _ in range(2)] == [True, False]
    assert calls() == ["stop -- nginx.service"]


def test_a_service_that_failed_is_stopped_already(state, calls):
    (state / "nginx.service.active").write_text("failed")
    assert do("stop", name="nginx").changed is False
    assert calls() == []


def test_a_restart_always_changes(calls):
    assert [do("restart", name="nginx").changed for _ in range(2)] == [True, True]
    assert calls() == ["restart -- nginx.service"] * 2


def test_a_service_is_enabled_and_disabled_once(calls):
    names = ("enable", "enable", "disable", "disable")
    assert [do(name, name="nginx").changed for name in names] == [True, False, True, False]
    assert calls() == ["enable -- nginx.service", "disable -- nginx.service"]


def test_a_service_that_cannot_be_enabled_says_so(state):
    (state / "nginx.service.enabled").write_text("static")
    (state / "nginx.service.static").touch()
    with pytest.raises(OperationError, match=r"\[Install\]"):
        do("enable", name="nginx")
    assert do("disable", name="nginx").changed is False


def test_what_systemctl_says_of_a_failed_start_is_told(state):
    (state / "nginx.service.broken").touch()
    with pytest.raises(OperationError, match=r"Job for nginx.service failed") as caught:
        do("start", name="nginx")
    assert caught.value.code == "operation_failed"


@pytest.mark.parametrize("name", ["get", "start", "stop", "restart", "enable", "disable"])
def test_a_service_that_is_not_there_is_not_found(state, name):
    assert code_of(name, name="ghost") == "not_found"


@pytest.mark.parametrize(
    "name", ["../x", "-rf", "a/b", "a..b", "", ".service", "a b", "x.timer", "foo@", "a" * 300]
)
def test_a_bad_name_is_refused_before_anything_is_asked(calls, state, name):
    assert code_of("start", name=name) == "invalid_value"
    assert code_of("delete", name=name) == "invalid_value"
    assert (state / "calls").read_text() == ""


def test_a_service_whose_file_is_gone_can_still_be_stopped(state, calls):
    (state / "gone.service.active").write_text("active")
    (state / "gone.service.more").write_text("LoadState=not-found\n")
    assert do("stop", name="gone").changed is True
    assert calls() == ["stop -- gone.service"]


def test_get_tells_what_there_is_and_none_for_what_systemd_does_not_know(state):
    found = do("get", name="nginx")
    told = found.data["service"]
    assert found.changed is None
    assert told["name"] == "nginx.service"
    assert told["description"] == "a = b"
    assert told["path"] == "/usr/lib/systemd/system/nginx.service"
    assert (told["main_pid"], told["memory_bytes"], told["restarts"]) == (None, None, 2)
    assert told["object"] is None


def write_lists(state, units, files):
    (state / "units").write_text(units)
    (state / "files").write_text(files)


def test_the_list_joins_units_with_their_files(state):
    row = {"unit": "b.service", "load": "loaded", "active": "active", "sub": "running"}
    write_lists(
        state,
        json.dumps([{**row, "description": "B"}]),
        json.dumps(
            [
                {"unit_file": "b.service", "state": "enabled", "preset": None},
                {"unit_file": "a.service", "state": "disabled", "preset": "enabled"},
                {"unit_file": "t@.service", "state": "static", "preset": None},
            ]
        ),
    )
    assert do("list").data["services"] == [
        {
            "name": "a.service",
            "description": "",
            "load_state": "not-loaded",
            "active_state": "inactive",
            "sub_state": "dead",
            "unit_file_state": "disabled",
        },
        {
            "name": "b.service",
            "description": "B",
            "load_state": "loaded",
            "active_state": "active",
            "sub_state": "running",
            "unit_file_state": "enabled",
        },
    ]


def test_the_columns_of_an_older_systemctl_are_read_too(state):
    write_lists(state, "b.service loaded active running The B of it\n\n", "b.service enabled\n")
    told = do("list").data["services"][0]
    assert told["description"] == "The B of it"
    assert told["unit_file_state"] == "enabled"


def test_a_broken_list_is_an_error(state):
    write_lists(state, '[{"unit": ', "[]")
    with pytest.raises(OperationError, match="no JSON"):
        do("list")


def test_a_unit_is_created_once(units, calls):
    params = {"name": "web", "object": "web-unit", "content": UNIT}
    assert [do("create", **params).changed for _ in range(2)] == [True, False]
    assert (units / "web.service").read_text() == f"# jobsite: web-unit\n{UNIT}"
    assert (units / "web.service").stat().st_mode & 0o777 == 0o644
    assert calls() == ["daemon-reload"]
    assert do("get", name="web").data["service"]["object"] == "web-unit"


def test_a_reload_that_failed_earlier_is_made_up_for(units, state, calls):
    params = {"name": "web", "object": "o", "content": UNIT}
    do("create", **params)
    (state / "web.service.more").write_text("NeedDaemonReload=yes\n")
    assert do("update", **params).changed is False
    assert calls() == ["daemon-reload"] * 2


def test_a_unit_with_another_content_is_a_conflict_and_is_updated(units, calls):
    do("create", name="web", object="o", content=UNIT)
    other = {"name": "web", "object": "o", "content": f"{UNIT}User=nobody\n"}
    assert code_of("create", **other) == "conflict"
    assert [do("update", **other).changed for _ in range(2)] == [True, False]
    assert "User=nobody" in (units / "web.service").read_text()
    assert calls() == ["daemon-reload"] * 2


def test_services_of_others_are_left_alone(units, calls):
    (units / "theirs.service").write_text(UNIT)
    params = {"object": "o", "content": UNIT}
    assert code_of("create", name="theirs", **params) == "conflict"
    assert code_of("create", name="nginx", **params) == "conflict"
    assert code_of("update", name="theirs", **params) == "forbidden"
    assert code_of("delete", name="theirs") == "forbidden"
    assert code_of("delete", name="nginx") == "forbidden"
    assert (units / "theirs.service").read_text() == UNIT
    assert calls() == []


def test_a_masked_name_is_not_taken(units, calls):
    (units / "masked.service").symlink_to("/dev/null")
    assert code_of("create", name="masked", object="o", content=UNIT) == "conflict"


def test_an_object_without_content_is_not_found(units, calls):
    assert code_of("create", name="web", object="missing") == "not_found"
    assert code_of("update", name="web", object="missing") == "not_found"
    assert calls() == []


def test_an_object_cannot_write_lines_of_its_own(units, calls):
    params = {"name": "web", "object": "o\n[Service]", "content": UNIT}
    assert code_of("create", **params) == "invalid_value"


def test_a_unit_that_is_not_there_cannot_be_updated(units, calls):
    assert code_of("update", name="web", object="o", content=UNIT) == "not_found"


def test_a_unit_is_stopped_disabled_and_deleted_once(units, calls):
    do("create", name="web", object="o", content=UNIT)
    assert [do("delete", name="web").changed for _ in range(2)] == [True, False]
    assert not (units / "web.service").exists()
    assert calls()[1:] == ["disable --now -- web.service", "daemon-reload"]


def test_only_root_is_offered_changes(state, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert set(service.available()) == set(service.HANDLERS)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert set(service.available()) == {"service.unit.list", "service.unit.get"}


def test_nothing_is_offered_without_systemd_or_its_tool(state, root, tmp_path, monkeypatch):
    (root / "run/systemd/system").rmdir()
    assert list(service.available()) == []
    (root / "run/systemd/system").mkdir()
    monkeypatch.setattr("agent.operations.base.PATH", str(tmp_path))
    assert list(service.available()) == []
    assert code_of("list") == "not_found"


def test_every_operation_of_the_registry_is_done():
    names = {row.name for row in OPERATIONS.values() if row.domain == "service"}
    assert set(service.HANDLERS) == names
