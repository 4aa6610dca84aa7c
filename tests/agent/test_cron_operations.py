"""Cron entries as files in a folder that looks like a machine, and what a schedule may be."""

import pytest

from agent.operations import cron
from agent.operations.base import OperationError
from agent.operations.cron_schedule import checked_schedule

SCRIPT = "#!/bin/sh\necho backup\n"
WANTED = {"name": "backup", "object": "backup.sh", "content": SCRIPT, "schedule": "*/5 2 * * 1-5"}


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """A folder with cron's folders, taken for the machine's root."""
    for name in ("d", "hourly", "daily", "weekly"):
        (tmp_path / f"etc/cron.{name}").mkdir(parents=True)
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("cron", "runuser"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setattr("agent.operations.base.PATH", str(folder))
    monkeypatch.setattr("agent.operations.base.ROOT", tmp_path)
    return tmp_path


def do(operation, /, **params):
    return cron.HANDLERS[f"cron.entry.{operation}"](params)


def refused(code, operation, /, **params):
    with pytest.raises(OperationError) as caught:
        do(operation, **params)
    assert caught.value.code == code
    return str(caught.value)


def files(machine):
    folders = (machine / "etc", machine / "var/lib/jobsite/cron")
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sorted(f"/{path.relative_to(machine)}" for path in found)


# --- Entries -------------------------------------------------------------------------------------


def test_an_entry_with_a_schedule_is_a_line_of_crons_and_a_script(machine):
    told = do("create", **WANTED)
    assert (told.changed, told.data["entry"]) == (
        True,
        {
            "name": "backup",
            "object": "backup.sh",
            "content_type": "raw",
            "schedule": "*/5 2 * * 1-5",
            "user": "root",
            "path": "/etc/cron.d/jobsite-backup",
            "script": "/var/lib/jobsite/cron/backup",
        },
    )
    entry, script = (machine / told.data["entry"][key][1:] for key in ("path", "script"))
    lines = entry.read_text().splitlines()
    assert lines[0].startswith("# jobsite: ")
    assert lines[1:] == ["*/5 2 * * 1-5 root /var/lib/jobsite/cron/backup"]
    assert script.read_text() == SCRIPT
    assert (entry.stat().st_mode & 0o777, script.stat().st_mode & 0o777) == (0o644, 0o755)


def test_an_entry_with_an_interval_is_a_script_that_starts_it(machine):
    wanted = {"name": "tidy", "object": "tidy.sh", "content": SCRIPT, "interval": "daily"}
    told = do("create", **wanted)
    assert told.data["entry"]["path"] == "/etc/cron.daily/jobsite-tidy"
    entry = machine / "etc/cron.daily/jobsite-tidy"
    lines = entry.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("#!/bin/sh", "exec /var/lib/jobsite/cron/tidy")
    assert entry.stat().st_mode & 0o777 == 0o755
    assert do("get", name="tidy").data == told.data


def test_an_entry_that_is_made_twice_is_made_once():
    assert [do("create", **WANTED).changed for _ in range(2)] == [True, False]
    assert do("create", **{**WANTED, "schedule": " */5  2 * * 1-5\n"}).changed is False


@pytest.mark.parametrize(
    "other",
    [
        {"schedule": "0 0 * * *"},
        {"object": "other.sh"},
        {"content": "#!/bin/sh\n"},
        {"user": "nobody"},
        {"schedule": None, "interval": "daily"},
    ],
)
def test_another_entry_of_the_name_is_a_conflict(machine, other):
    do("create", **WANTED)
    before = files(machine)
    assert "update" in refused("conflict", "create", **{**WANTED, **other})
    assert files(machine) == before
    assert (machine / "var/lib/jobsite/cron/backup").read_text() == SCRIPT


def test_the_user_of_an_entry_must_be_there(machine):
    do("create", **WANTED, user="nobody")
    line = (machine / "etc/cron.d/jobsite-backup").read_text().splitlines()[-1]
    assert line == "*/5 2 * * 1-5 nobody /var/lib/jobsite/cron/backup"
    for user in ("ghost", "root root", "", "a\0b"):
        refused("not_found", "create", **{**WANTED, "name": "x", "user": user})


def test_every_day_as_somebody_else_needs_runuser(machine):
    wanted = {"name": "tidy", "object": "x", "content": "", "interval": "daily", "user": "nobody"}
    do("create", **wanted)
    line = (machine / "etc/cron.daily/jobsite-tidy").read_text().splitlines()[-1]
    assert line == "exec runuser -u nobody -- /var/lib/jobsite/cron/tidy"
    (machine / "bin/runuser").unlink()
    assert "runuser" in refused("operation_failed", "create", **{**wanted, "name": "other"})


def test_an_interval_that_the_machine_does_not_run_is_refused(machine):
    wanted = {"name": "x", "object": "x", "content": ""}
    assert "cron.monthly" in refused("operation_failed", "create", **wanted, interval="monthly")
    refused("invalid_value", "create", **wanted, interval="../x")
    refused("invalid_value", "create", **wanted, interval="daily", schedule="@daily")
    refused("invalid_value", "create", **wanted)
    assert files(machine) == []


def test_an_object_that_is_not_there_is_named(machine):
    assert "'x.sh'" in refused("not_found", "create", name="x", object="x.sh", interval="daily")
    assert files(machine) == []


def test_a_template_gets_its_variables(machine):
    wanted = {**WANTED, "content": "echo {{ what }} {{what}}\n", "content_type": "template"}
    assert "'what'" in refused("invalid_value", "create", **wanted, vars={})
    assert files(machine) == []
    told = do("create", **wanted, vars={"what": "{{ it }}"})
    assert (machine / "var/lib/jobsite/cron/backup").read_text() == "echo {{ it }} {{ it }}\n"
    assert do("create", **wanted, vars={"what": "{{ it }}"}).changed is False
    assert "{{ it }}" not in repr(told)


def test_what_is_not_given_to_an_update_stays(machine):
    template = {"content": "echo {{ a }}\n", "content_type": "template"}
    do("create", **{**WANTED, **template}, vars={"a": "1"}, user="nobody")
    told = do("update", name="backup", schedule="@daily")
    assert (told.changed, told.data["entry"]["schedule"]) == (True, "@daily")
    assert (told.data["entry"]["user"], told.data["entry"]["object"]) == ("nobody", "backup.sh")
    assert do("update", name="backup", schedule="@daily").changed is False
    assert do("update", name="backup").changed is False
    do("update", name="backup", object="new.sh", content="printf {{ a }}\n")
    assert (machine / "var/lib/jobsite/cron/backup").read_text() == "printf 1\n"
    assert do("get", name="backup").data["entry"]["object"] == "new.sh"


def test_an_update_may_turn_a_schedule_into_an_interval(machine):
    do("create", **WANTED)
    assert do("update", name="backup", interval="weekly").changed is True
    assert files(machine) == ["/etc/cron.weekly/jobsite-backup", "/var/lib/jobsite/cron/backup"]
    assert do("update", name="backup", interval="weekly").changed is False
    do("update", name="backup", schedule="@hourly")
    assert files(machine) == ["/etc/cron.d/jobsite-backup", "/var/lib/jobsite/cron/backup"]


def test_variables_change_only_with_their_object():
    do("create", **WANTED)
    assert "vars" in refused("invalid_value", "update", name="backup", vars={"a": "1"})
    refused("not_found", "update", name="backup", object="gone.sh")
    refused("not_found", "update", name="other", schedule="@daily")
    refused("invalid_value", "update", name="backup", schedule="@daily", interval="daily")


def test_a_script_that_somebody_removed_is_not_started(machine):
    do("create", **WANTED)
    (machine / "var/lib/jobsite/cron/backup").unlink()
    refused("not_found", "update", name="backup", schedule="@daily")
    source = {key: WANTED[key] for key in ("name", "object", "content")}
    assert do("update", **source).changed is True


def test_what_was_changed_by_hand_is_told_and_put_right(machine):
    do("create", **WANTED)
    entry = machine / "etc/cron.d/jobsite-backup"
    entry.write_text(entry.read_text().replace("*/5 2", "0 3"))
    assert do("get", name="backup").data["entry"]["schedule"] == "0 3 * * 1-5"
    entry.write_text(f"{entry.read_text()}\n\n")
    entry.chmod(0o666)
    assert do("update", name="backup", schedule=WANTED["schedule"]).changed is True
    assert entry.stat().st_mode & 0o777 == 0o644
    entry.write_text(entry.read_text().replace("*/5", "*/5x"))
    refused("conflict", "get", name="backup")


def test_an_entry_is_removed_once(machine):
    do("create", **WANTED)
    assert [do("delete", name="backup").changed for _ in range(2)] == [True, False]
    assert files(machine) == []
    refused("not_found", "get", name="backup")


def test_what_a_killed_agent_left_twice_is_removed_whole(machine):
    do("create", **WANTED)
    old = (machine / "etc/cron.d/jobsite-backup").read_text()
    do("update", name="backup", interval="daily")
    (machine / "etc/cron.d/jobsite-backup").write_text(old)
    assert do("delete", name="backup").changed is True
    assert files(machine) == []


def test_only_ours_are_told_sorted(machine):
    do("create", **{**WANTED, "name": "b"})
    do("create", name="a", object="x", content="", interval="hourly")
    for name in ("e2scrub", "jobsite-foreign", "jobsite-b.bak"):
        (machine / "etc/cron.d" / name).write_text("* * * * * root true\n")
    (machine / "etc/cron.d/jobsite-odd").write_text("# jobsite: [1]\n* * * * * root true\n")
    told = do("list")
    assert told.changed is None
    assert [entry["name"] for entry in told.data["entries"]] == ["a", "b"]


def test_a_file_of_somebody_else_is_neither_replaced_nor_removed(machine):
    foreign = machine / "etc/cron.d/jobsite-backup"
    foreign.write_text("* * * * * root true\n")
    refused("conflict", "create", **WANTED)
    refused("conflict", "delete", name="backup")
    foreign.rename(machine / "etc/cron.daily/jobsite-backup")
    refused("conflict", "create", **WANTED)
    assert files(machine) == ["/etc/cron.daily/jobsite-backup"]


@pytest.mark.parametrize("name", ["../x", "-rf", "a/b", "a.b", "", "a b", "a\n", "a" * 65])
@pytest.mark.parametrize("operation", ["get", "create", "update", "delete"])
def test_a_name_is_never_a_path_or_what_cron_passes_over(machine, operation, name):
    refused("invalid_value", operation, **{**WANTED, "name": name})
    assert files(machine) == []


# --- Schedules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "* * * * *",
        "0 0 1 1 0",
        "59 23 31 12 7",
        "*/15 0-6,18-23/2 1,15 jan,Mar-may mon-FRI",
        "05 08 * * 5-7",
        "@reboot",
        "@daily",
    ],
)
def test_what_cron_understands_is_taken(text):
    assert checked_schedule(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("60 * * * *", "minute: '60' is not 0 to 59"),
        ("* 24 * * *", "hour: '24' is not 0 to 23"),
        ("* * 0 * *", "day of month: '0' is not 1 to 31"),
        ("* * * 13 *", "month: '13' is not 1 to 12 or jan to dec"),
        ("* * * * 8", "day of week: '8' is not 0 to 7 or sun to sat"),
        ("* * * mon *", "month: 'mon' is not 1 to 12"),
        ("jan * * * *", "minute: 'jan' is not 0 to 59"),
        ("* * * * monday", "day of week: 'monday'"),
        ("*/0 * * * *", "minute: the step of '*/0' must be 1 to 59"),
        ("* */24 * * *", "hour: the step"),
        ("5/10 * * * *", "write 5-59"),
        ("* 5-3 * * *", "hour: the range '5-3' ends before it begins"),
        ("1,,2 * * * *", "minute: ''"),
        ("1-2-3 * * * *", "minute: '1-2-3'"),
        ("-1 * * * *", "minute: '-1'"),
        ("* * L * *", "day of month: 'L'"),
        ("* * * * ?", "day of week: '?'"),
        ("\u0661 * * * *", "minute: '\u0661'"),
        ("* * * *", "has 4 fields, not five"),
        ("0 * * * * *", "has 6 fields, not five"),
        ("", "has 0 fields, not five"),
        ("@noon", "'@noon' is none of @annually"),
    ],
)
def test_what_cron_does_not_understand_is_refused_with_the_field(text, words):
    with pytest.raises(OperationError) as caught:
        checked_schedule(text)
    assert caught.value.code == "invalid_value"
    assert words in str(caught.value)


# --- What a machine offers -----------------------------------------------------------------------


def test_a_machine_without_cron_offers_nothing(machine, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert set(cron.available()) == set(cron.HANDLERS)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert set(cron.available()) == {"cron.entry.list", "cron.entry.get"}
    (machine / "bin/cron").unlink()
    assert list(cron.available()) == []
    (machine / "bin/crond").write_text("#!/bin/sh\n")
    (machine / "bin/crond").chmod(0o755)
    assert set(cron.available()) == {"cron.entry.list", "cron.entry.get"}
    (machine / "etc/cron.d").rmdir()
    assert list(cron.available()) == []
