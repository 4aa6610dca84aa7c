"""The time zone, in a tree of files of its own; timedatectl has a stand-in."""

import os

import pytest

from agent.operations import timezone
from agent.operations.base import OperationError
from nodes.operations import OPERATIONS

TIMEDATECTL = """#!/bin/sh
echo "$*" >> {root}/calls
ln -sfn ../usr/share/zoneinfo/$2 {root}/etc/localtime
"""


def get():
    return timezone.HANDLERS["timezone.config.get"]({}).data["timezone"]


def update(name):
    return timezone.HANDLERS["timezone.config.update"]({"timezone": name})


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    for zone in ("UTC", "Etc/UTC", "Europe/Zurich"):
        file = tmp_path / "usr/share/zoneinfo" / zone
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"TZif2")
    (tmp_path / "usr/share/zoneinfo/leapseconds").write_text("# no zone")
    (tmp_path / "etc").mkdir()
    monkeypatch.setattr("agent.operations.base.ROOT", tmp_path)
    return tmp_path


@pytest.fixture
def localtime(root):
    link = root / "etc/localtime"
    link.symlink_to("/usr/share/zoneinfo/Etc/UTC")
    (root / "etc/timezone").write_text("Etc/UTC\n")
    return link


def test_the_zone_is_read_from_the_link(localtime):
    assert get() == "Etc/UTC"


def test_a_relative_link_is_read_too(root):
    (root / "etc/localtime").symlink_to("../usr/share/zoneinfo/Europe/Zurich")
    assert get() == "Europe/Zurich"


def test_a_copied_zone_has_the_name_that_stands_beside_it(root):
    (root / "etc/localtime").write_bytes(b"TZif2")
    assert get() is None
    (root / "etc/timezone").write_text("Europe/Zurich\n")
    assert get() == "Europe/Zurich"


def test_a_machine_without_a_zone_is_in_utc(root):
    assert get() == "UTC"
    assert update("UTC").changed is False


def test_the_zone_is_set_once(root, localtime):
    first, second = update("Europe/Zurich"), update("Europe/Zurich")
    assert (first.changed, second.changed) == (True, False)
    assert first.data == {"timezone": "Europe/Zurich", "before": "Etc/UTC"}
    assert str(localtime.readlink()) == "/usr/share/zoneinfo/Europe/Zurich"
    assert (root / "etc/timezone").read_text() == "Europe/Zurich\n"
    assert sorted(path.name for path in (root / "etc").iterdir()) == ["localtime", "timezone"]


def test_a_second_name_that_says_otherwise_is_set_right(root, localtime):
    (root / "etc/timezone").write_text("Europe/Zurich\n")
    assert update("Etc/UTC").changed is True
    assert (root / "etc/timezone").read_text() == "Etc/UTC\n"


def test_systemd_is_asked_where_it_runs(root, localtime, tmp_path, monkeypatch):
    (root / "run/systemd/system").mkdir(parents=True)
    tool = tmp_path / "bin/timedatectl"
    tool.parent.mkdir()
    tool.write_text(TIMEDATECTL.format(root=root))
    tool.chmod(0o755)
    monkeypatch.setattr("agent.operations.base.PATH", f"{tool.parent}:/usr/bin:/bin")
    (root / "etc/timezone").unlink()
    assert [update("Europe/Zurich").changed for _ in range(2)] == [True, False]
    assert (root / "calls").read_text() == "set-timezone Europe/Zurich\n"
    assert not (root / "etc/timezone").exists()
    (root / "etc/timezone").write_text("old")
    update("Etc/UTC")
    assert (root / "etc/timezone").read_text() == "Etc/UTC\n"


@pytest.mark.parametrize(
    "name", ["../x", "-rf", "Europe/../UTC", "/UTC", "Europe", "Mars/Olympus", "leapseconds", ""]
)
def test_what_is_no_zone_is_refused(localtime, name):
    with pytest.raises(OperationError) as caught:
        update(name)
    assert caught.value.code == "invalid_value"
    assert get() == "Etc/UTC"


def test_a_link_that_cannot_be_replaced_is_an_error(root):
    (root / "etc/localtime/in-the-way").mkdir(parents=True)
    with pytest.raises(OperationError, match="cannot be replaced"):
        update("Europe/Zurich")
    assert [path.name for path in (root / "etc").iterdir()] == ["localtime"]


def test_root_is_offered_changes_where_there_are_zones(root, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert set(timezone.available()) == set(timezone.HANDLERS)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert list(timezone.available()) == ["timezone.config.get"]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("agent.operations.base.ROOT", tmp_path / "empty")
    assert list(timezone.available()) == ["timezone.config.get"]


def test_every_operation_of_the_registry_is_done():
    names = {row.name for row in OPERATIONS.values() if row.domain == "timezone"}
    assert set(timezone.HANDLERS) == names
