"""Restart and end of a machine, asked of a stand-in alone."""

import os
import time
from datetime import datetime

import pytest

from agent.operations import power
from agent.operations.base import OperationError
from nodes.operations import OPERATIONS


def do(name, /, **params):
    return power.HANDLERS[f"power.node.{name}"](params)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """No program of this machine can be found here."""
    monkeypatch.setattr("agent.operations.base.ROOT", tmp_path)
    monkeypatch.setattr("agent.operations.base.PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "bin").mkdir()
    return tmp_path


@pytest.fixture
def asked(root):
    """What the stand-in was asked for."""
    tool, told = root / "bin/shutdown", root / "asked"
    tool.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {told}\n")
    tool.chmod(0o755)
    return lambda: told.read_text().splitlines()


@pytest.mark.parametrize(("name", "option"), [("reboot", "-r"), ("shutdown", "-h")])
def test_without_a_delay_the_agent_has_a_minute_to_report(asked, name, option):
    began = time.time()
    answer = do(name)
    assert asked() == [option, "--", "+1"]
    assert answer.changed is True
    assert answer.data["delay_seconds"] == 60
    moment = datetime.fromisoformat(answer.data["scheduled_at"]).timestamp()
    assert int(began) + 60 <= moment <= time.time() + 60
    assert answer.data["scheduled_at"].endswith("Z")


@pytest.mark.parametrize(("delay", "minutes"), [(0, 1), (1, 1), (60, 1), (61, 2), (3600, 60)])
def test_a_delay_is_rounded_up_to_minutes(asked, delay, minutes):
    assert do("reboot", delay=delay).data["delay_seconds"] == 60 * minutes
    assert asked()[2] == f"+{minutes}"


def test_a_message_is_one_argument_and_no_option(asked):
    do("shutdown", delay=120, message="-c: new kernel; $(reboot)")
    assert asked() == ["-h", "--", "+2", "-c: new kernel; $(reboot)"]


@pytest.mark.parametrize(
    "params", [{"delay": -1}, {"delay": 10**12}, {"message": "two\nlines"}, {"message": "\x1b[2J"}]
)
def test_what_makes_no_sense_is_refused(asked, root, params):
    with pytest.raises(OperationError) as caught:
        do("reboot", **params)
    assert caught.value.code == "invalid_value"
    assert not (root / "asked").exists()


def test_what_shutdown_says_of_a_failure_is_told(root):
    tool = root / "bin/shutdown"
    tool.write_text("#!/bin/sh\necho 'Access denied' >&2\nexit 1\n")
    tool.chmod(0o755)
    with pytest.raises(OperationError, match="Access denied"):
        do("reboot")


def test_root_with_the_program_is_offered_it(asked, monkeypatch):
    assert set(power.available()) == set(power.HANDLERS)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert list(power.available()) == []


def test_nothing_is_offered_without_the_program(root):
    assert list(power.available()) == []
    with pytest.raises(OperationError) as caught:
        do("reboot")
    assert caught.value.code == "not_found"


def test_systemds_program_is_of_no_use_where_systemd_does_not_run(root):
    systemctl = root / "systemctl"
    systemctl.write_text("#!/bin/sh\n")
    systemctl.chmod(0o755)
    (root / "bin/shutdown").symlink_to(systemctl)
    assert list(power.available()) == []
    (root / "run/systemd/system").mkdir(parents=True)
    assert set(power.available()) == set(power.HANDLERS)


def test_every_operation_of_the_registry_is_done():
    names = {row.name for row in OPERATIONS.values() if row.domain == "power"}
    assert set(power.HANDLERS) == names
