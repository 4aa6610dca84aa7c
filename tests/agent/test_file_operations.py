"""Files made from objects: whole, once, never where they must not be, and only ours removed."""

import base64
import grp
import hashlib
import json
import os
import pwd
import socket

import pytest

from agent.operations import file
from agent.operations.base import OperationError

PATH = "/etc/app/app.conf"


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """Let the machine's files begin in a folder of the test."""
    place = tmp_path / "root"
    place.mkdir()
    monkeypatch.setattr("agent.operations.base.ROOT", place)
    return place


def deploy(data=b"port = 1\n", path=PATH, **more):
    params = {
        "object_name": "app/conf",
        "path": path,
        "content_type": "raw",
        "content": base64.b64encode(data).decode(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    return file.HANDLERS["file.deploy.execute"](params | more)


def undeploy(path=PATH):
    return file.HANDLERS["file.undeploy.execute"]({"path": path})


def status(path=PATH):
    return file.HANDLERS["file.status.get"]({"path": path})


def refusal(call, *args, **more):
    with pytest.raises(OperationError) as refused:
        call(*args, **more)
    return refused.value.code


def names_in(folder):
    return sorted(place.name for place in folder.iterdir())


def mode_of(place):
    return place.stat().st_mode & 0o7777


# --- Deploying -----------------------------------------------------------------------------------


def test_an_object_becomes_a_file_with_its_bytes_and_a_usual_mode(root):
    content = bytes(range(256))
    answer = deploy(content)
    place = root / "etc/app/app.conf"
    assert (answer.status, answer.changed) == ("completed", True)
    assert place.read_bytes() == content
    assert mode_of(place) == 0o644
    assert answer.data == {
        "path": PATH,
        "object_name": "app/conf",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": 256,
        "mode": "0644",
        "owner": pwd.getpwuid(os.geteuid()).pw_name,
        "group": grp.getgrgid(place.stat().st_gid).gr_name,
    }


def test_what_is_there_already_changes_nothing(root):
    deploy(mode="0600")
    before = (root / "etc/app/app.conf").stat()
    again = deploy(mode="0600")
    assert again.changed is False
    assert (root / "etc/app/app.conf").stat().st_ino == before.st_ino
    assert deploy().changed is False


def test_other_bytes_replace_the_file_and_keep_its_mode(root):
    deploy(mode="0640")
    assert deploy(b"port = 2\n").changed is True
    assert (root / "etc/app/app.conf").read_bytes() == b"port = 2\n"
    assert mode_of(root / "etc/app/app.conf") == 0o640


def test_another_mode_alone_is_a_change(root):
    deploy()
    assert deploy(mode="4750").changed is True
    assert mode_of(root / "etc/app/app.conf") == 0o4750
    assert deploy(mode="04750").changed is False


def test_other_bytes_do_not_inherit_that_they_run_as_somebody_else(root):
    deploy(mode="4755")
    deploy(b"port = 2\n")
    assert mode_of(root / "etc/app/app.conf") == 0o755


def test_owner_and_group_are_set_by_name_or_number(root):
    user = pwd.getpwuid(os.geteuid()).pw_name
    group = grp.getgrgid(os.getegid()).gr_name
    assert deploy(owner=user, group=group).changed is True
    assert deploy(owner=str(os.geteuid()), group=str(os.getegid())).changed is False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_owner_is_a_change_and_stays_when_none_is_named(root):
    deploy()
    assert deploy(owner="1", group="2", mode="4711").changed is True
    found = (root / "etc/app/app.conf").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o7777) == (1, 2, 0o4711)
    deploy(b"port = 2\n")
    found = (root / "etc/app/app.conf").stat()
    assert (found.st_uid, found.st_gid) == (1, 2)


def test_nothing_else_is_left_in_the_folder(root):
    deploy()
    deploy(b"port = 2\n")
    assert names_in(root / "etc/app") == ["app.conf"]


def test_a_file_that_cannot_be_written_is_left_as_it_was(root, monkeypatch):
    deploy()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert refusal(deploy, b"port = 2\n") == "operation_failed"
    assert (root / "etc/app/app.conf").read_bytes() == b"port = 1\n"
    assert names_in(root / "etc/app") == ["app.conf"]


def test_a_link_is_replaced_and_not_written_through(root):
    (root / "etc").mkdir()
    (root / "etc/other").write_text("not yours")
    (root / "etc/app.conf").symlink_to("other")
    assert deploy(path="/etc/app.conf").changed is True
    assert not (root / "etc/app.conf").is_symlink()
    assert (root / "etc/other").read_text() == "not yours"


def test_a_folder_is_no_file_to_replace(root):
    (root / "etc/app/app.conf").mkdir(parents=True)
    assert refusal(deploy) == "conflict"


def test_a_file_in_the_way_of_a_folder_is_told(root):
    (root / "etc").mkdir()
    (root / "etc/app").write_text("a file")
    assert refusal(deploy) == "operation_failed"


def test_an_object_that_was_not_found_is_not_found():
    params = {"object_name": "gone", "path": PATH, "content_type": "raw"}
    with pytest.raises(OperationError, match="'gone'") as refused:
        file.HANDLERS["file.deploy.execute"](params)
    assert refused.value.code == "not_found"


@pytest.mark.parametrize(
    "more",
    [
        {"content": "no base64!"},
        {"sha256": "0" * 64},
        {"mode": "rw-r--r--"},
        {"mode": "0999"},
        {"mode": "77777"},
        {"mode": "-1"},
    ],
)
def test_parameters_that_make_no_sense_are_refused(root, more):
    assert refusal(deploy, **more) == "invalid_value"
    assert not (root / "etc").exists()


@pytest.mark.parametrize("more", [{"owner": "nobody-of-that-name"}, {"group": "-rf"}])
def test_an_owner_that_the_node_does_not_have_is_told(root, more):
    assert refusal(deploy, **more) == "not_found"
    assert not (root / "etc").exists()


# --- Where ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [deploy, undeploy, status])
@pytest.mark.parametrize(
    "path",
    ["", "app.conf", "../x", "-rf", "/", "/etc/../x", "/..", "/etc/.", "/etc/", "//etc/x", "/a\nb"],
)
def test_a_path_that_is_not_plain_is_refused(call, path):
    assert refusal(call, path=path) == "invalid_value"


@pytest.mark.parametrize(
    "path",
    ["/proc/sys/kernel/panic", "/sys/x", "/dev/sda", "/proc", "/var/lib/jobsite/files/x.json"],
)
def test_the_machines_own_folders_are_closed(root, path):
    assert refusal(deploy, path=path) == "forbidden"
    assert names_in(root) == []


def test_a_link_does_not_open_a_closed_folder(root):
    (root / "proc").mkdir()
    (root / "srv").symlink_to("proc")
    assert refusal(deploy, path="/srv/x") == "forbidden"


def test_a_folder_that_only_begins_like_a_closed_one_is_open():
    assert deploy(path="/devices/x").changed is True


def test_the_agents_own_data_is_closed(root, monkeypatch):
    work = root / "opt/agent/executions/some-id"
    work.mkdir(parents=True)
    (root / "opt/agent/node.key").write_text("secret")
    monkeypatch.chdir(work)
    assert refusal(deploy, path="/opt/agent/node.key") == "forbidden"
    assert refusal(deploy, path="/opt/agent/executions/x/y") == "forbidden"
    assert deploy(path="/opt/other").changed is True


# --- Templates -----------------------------------------------------------------------------------


def rendered(root, text, **variables):
    deploy(text.encode(), content_type="template", vars=variables)
    return (root / "etc/app/app.conf").read_text()


def test_names_in_a_template_become_variables(root):
    text = "port={{ port }} on={{on}} {{  name  }}{{name}}"
    assert rendered(root, text, port=80, on=True, name="ü") == "port=80 on=true üü"


def test_names_in_a_template_become_facts_unless_a_variable_has_the_name(root):
    here = socket.gethostname()
    assert rendered(root, "{{ hostname }} {{ fact.hostname }}") == f"{here} {here}"
    assert rendered(root, "{{ hostname }} {{ fact.hostname }}", hostname="x") == f"x {here}"


def test_what_was_put_in_is_not_looked_at_again(root):
    assert rendered(root, "{{ a }}", a="{{ b }}", b="no") == "{{ b }}"


def test_raw_content_keeps_its_braces(root):
    deploy(b"{{ name }}")
    assert (root / "etc/app/app.conf").read_bytes() == b"{{ name }}"


def test_an_unknown_name_is_told_with_its_line_and_nothing_is_written(root):
    text = b"a\n{{ known }}\n{{ unknown }}\n"
    with pytest.raises(OperationError, match=r"line 3: .*'unknown'") as refused:
        deploy(text, content_type="template", vars={"known": "x"})
    assert refused.value.code == "invalid_value"
    assert not (root / "etc").exists()


@pytest.mark.parametrize("value", [None, ["a"], {"a": "b"}])
def test_a_variable_is_a_text_or_a_number(value):
    code = refusal(deploy, b"{{ a }}", content_type="template", vars={"a": value})
    assert code == "invalid_value"


def test_bytes_that_are_no_text_are_no_template():
    assert refusal(deploy, b"\xff", content_type="template") == "invalid_value"


def test_a_template_with_equal_outcome_changes_nothing(root):
    rendered(root, "{{ a }}", a="x")
    assert deploy(b"{{ b }}", content_type="template", vars={"b": "x"}).changed is False
    assert status().data["state"] == "in-sync"


# --- Taking away, and how it stands --------------------------------------------------------------


def test_what_was_deployed_is_removed_once(root):
    deploy()
    answer = undeploy()
    assert (answer.changed, answer.data["object_name"]) == (True, "app/conf")
    assert not (root / "etc/app/app.conf").exists()
    assert names_in(root / "var/lib/jobsite/files") == []
    assert undeploy().changed is False


def test_what_somebody_else_wrote_stays(root):
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root")
    assert refusal(undeploy, "/etc/passwd") == "conflict"
    assert (root / "etc/passwd").read_text() == "root"


def test_a_folder_in_the_place_of_the_file_stays(root):
    deploy()
    (root / "etc/app/app.conf").unlink()
    (root / "etc/app/app.conf").mkdir()
    assert status().data["state"] == "drifted"
    assert refusal(undeploy) == "conflict"


def test_a_file_that_was_edited_is_still_ours_to_remove(root):
    deploy()
    (root / "etc/app/app.conf").write_text("edited")
    assert undeploy().changed is True


def test_a_file_that_is_gone_is_forgotten(root):
    deploy()
    (root / "etc/app/app.conf").unlink()
    assert undeploy().changed is False
    assert status().data["deployed"] is False


def test_the_status_follows_the_bytes_on_disk(root):
    assert status().data == {
        "path": PATH, "state": "missing", "deployed": False, "object_name": "", "sha256": "",
    }  # fmt: skip
    digest = deploy().data["sha256"]
    answer = status()
    assert answer.changed is None
    assert answer.data == {
        "path": PATH, "state": "in-sync", "deployed": True, "object_name": "app/conf",
        "sha256": digest,
    }  # fmt: skip
    place = root / "etc/app/app.conf"
    place.write_bytes(b"port = 9\n")
    assert status().data["state"] == "drifted"
    place.write_bytes(b"longer than it was\n")
    assert status().data["state"] == "drifted"
    place.unlink()
    assert status().data["state"] == "missing"
    assert deploy().changed is True
    assert status().data["state"] == "in-sync"


def test_of_a_file_that_is_not_ours_nothing_is_told(root):
    (root / "etc").mkdir()
    (root / "etc/shadow").write_text("secret")
    assert status("/etc/shadow").data["state"] == "missing"


def test_a_damaged_record_is_told_and_mended_by_deploying(root):
    deploy()
    (record,) = (root / "var/lib/jobsite/files").iterdir()
    assert mode_of(record) == 0o600
    assert json.loads(record.read_text())["path"] == PATH
    record.write_text("{")
    assert refusal(status) == "operation_failed"
    assert refusal(undeploy) == "operation_failed"
    assert deploy().changed is False
    assert status().data["state"] == "in-sync"


# --- What is offered -----------------------------------------------------------------------------


def test_everything_is_offered_where_records_can_be_kept():
    assert sorted(file.available()) == sorted(file.HANDLERS)


def test_without_a_place_for_records_only_the_status_is_offered(monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    assert list(file.available()) == ["file.status.get"]
