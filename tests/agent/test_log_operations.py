"""The system's log: a stand-in for journalctl, and real files where there is no journal."""

import json
import time
from datetime import datetime

import pytest

from agent.operations import log
from agent.operations.base import OperationError
from nodes.operations import OPERATIONS


def do(name, /, **params):
    return log.HANDLERS[f"log.{name}"](params)


def code_of(name, /, **params):
    with pytest.raises(OperationError) as caught:
        do(name, **params)
    return caught.value.code


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    """A machine with a journalctl that has nothing to read."""
    place, tool = tmp_path / "root", tmp_path / "bin/journalctl"
    (place / "var/log").mkdir(parents=True)
    tool.parent.mkdir()
    tool.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/asked\ncat {tmp_path}/said\n")
    tool.chmod(0o755)
    monkeypatch.setattr("agent.operations.base.ROOT", place)
    monkeypatch.setattr("agent.operations.base.PATH", f"{tool.parent}:/usr/bin:/bin")
    return place


@pytest.fixture
def journal(root, tmp_path):
    """Let there be a journal, of which journalctl says this."""
    folder = root / "var/log/journal/0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "system.journal").touch()

    def say(*rows):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        (tmp_path / "said").write_text("\n".join([*lines, ""]))

    say()
    return say


@pytest.fixture
def asked(tmp_path):
    return lambda: (tmp_path / "asked").read_text().splitlines()


ROW = {
    "__REALTIME_TIMESTAMP": "1764471000000042",
    "__CURSOR": "s=1",
    "PRIORITY": "4",
    "SYSLOG_IDENTIFIER": "sshd",
    "_SYSTEMD_UNIT": "ssh.service",
    "_PID": "77",
    "MESSAGE": "hello",
}


def test_entries_of_the_journal_are_told(journal, asked):
    journal(ROW)
    answer = do("journal.get")
    assert answer.changed is None
    assert answer.data == {
        "source": "journal",
        "truncated": False,
        "entries": [
            {
                "timestamp": "2025-11-30T02:50:00.000042Z",
                "priority": "warning",
                "unit": "ssh.service",
                "identifier": "sshd",
                "pid": 77,
                "message": "hello",
            }
        ],
    }
    assert asked() == [
        "--no-pager",
        "--quiet",
        "--output=json",
        "--output-fields=MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_SYSTEMD_UNIT,_PID",
        "--lines=100",
    ]


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ([104, 105, 255], "hi\N{REPLACEMENT CHARACTER}"),
        (["one", [116, 119, 111]], "one\ntwo"),
        (None, ""),
        (7, "7"),
        ([], ""),
    ],
)
def test_odd_messages_become_texts(journal, message, text):
    journal({**ROW, "MESSAGE": message})
    assert do("journal.get").data["entries"][0]["message"] == text


def test_what_an_entry_does_not_say_is_none(journal):
    journal({"PRIORITY": "9", "_PID": "x"}, "-- No entries --", "[]", "{broken")
    entry = {"timestamp": None, "priority": None, "unit": None, "identifier": None, "pid": None}
    assert do("journal.get").data["entries"] == [{**entry, "message": ""}]


def test_a_unit_and_limits_are_asked_for(journal, asked):
    do("unit.get", name="ssh.service", lines=5, since="2026-01-02T03:04:05+01:00", priority="err")
    assert asked()[4:] == [
        "--lines=5",
        "--since=@1767319445",
        "--priority=err",
        "--unit=ssh.service",
    ]


@pytest.mark.parametrize(
    ("since", "seconds"),
    [("2h", 7200), ("-30min", 1800), ("3 days ago", 3 * 86_400), ("1w", 7 * 86_400), ("5 s", 5)],
)
def test_since_may_be_a_span_before_now(journal, asked, since, seconds):
    began = int(time.time())
    do("journal.get", since=since)
    moment = int(asked()[-1].removeprefix("--since=@"))
    assert began - seconds <= moment <= time.time() - seconds


def test_a_time_without_a_zone_is_in_utc(journal, asked):
    do("journal.get", since="2026-01-02 03:04:05")
    moment = datetime.fromisoformat("2026-01-02T03:04:05Z").timestamp()
    assert asked()[-1] == f"--since=@{int(moment)}"


@pytest.mark.parametrize("since", ["-rf", "yesterday; reboot", "5 fortnights", "2026-13-01", "@1"])
def test_a_bad_since_is_refused(journal, since):
    assert code_of("journal.get", since=since) == "invalid_value"


@pytest.mark.parametrize("priority", ["0", "7", "debug", "err..warning", "0..3"])
def test_priorities_are_names_numbers_or_ranges(journal, asked, priority):
    do("journal.get", priority=priority)
    assert asked()[-1] == f"--priority={priority}"


@pytest.mark.parametrize("priority", ["8", "-1", "loud", "err,info", "err..", "../x"])
def test_a_bad_priority_is_refused(journal, priority):
    assert code_of("journal.get", priority=priority) == "invalid_value"


@pytest.mark.parametrize("name", ["../x", "-rf", "a*", "a b", "", "a..b"])
def test_a_bad_unit_is_refused(journal, name):
    assert code_of("unit.get", name=name) == "invalid_value"


def test_of_too_much_the_newest_entries_stay(journal, monkeypatch):
    monkeypatch.setattr(log, "ANSWER_MAX", 3000)
    journal(*({**ROW, "MESSAGE": f"{number:0500d}"} for number in range(10)))
    data = do("journal.get").data
    assert data["truncated"] is True
    assert [int(entry["message"]) for entry in data["entries"]] == [6, 7, 8, 9]


def test_sources_are_sorted_and_told_once(journal):
    journal("sshd", "cron", "sshd", "", "a b")
    assert do("source.list").data == {"sources": ["a b", "cron", "sshd"]}


def test_without_a_journal_the_end_of_a_file_is_told(root):
    (root / "var/log/messages").write_bytes(b"one\ntwo\nthr\xffee\n")
    data = do("journal.get", lines=2).data
    assert data["source"] == "/var/log/messages"
    messages = [entry["message"] for entry in data["entries"]]
    assert messages == ["two", "thr\N{REPLACEMENT CHARACTER}ee"]
    (root / "var/log/syslog").write_text("first\nlast without an end")
    data = do("journal.get", lines=1).data
    assert data["source"] == "/var/log/syslog"
    assert [entry["message"] for entry in data["entries"]] == ["last without an end"]


@pytest.mark.parametrize("text", ["", "\n", "a\n", "a\nb\n", "a\n\nb\n"])
@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_the_end_is_the_same_however_it_is_read(root, monkeypatch, text, block):
    monkeypatch.setattr(log, "BLOCK", block)
    (root / "var/log/syslog").write_text(text)
    for lines in (1, 2, 3, 4):
        entries = do("journal.get", lines=lines).data["entries"]
        assert [entry["message"] for entry in entries] == text.splitlines()[-lines:]


def test_a_huge_file_is_never_read_whole(root):
    with (root / "var/log/syslog").open("wb") as file:
        file.truncate(1 << 36)
        file.seek(0, 2)
        file.write(b"\none\ntwo\n")
    entries = do("journal.get", lines=2).data["entries"]
    assert [entry["message"] for entry in entries] == ["one", "two"]
    # The line before them is longer than what is read at most, so it is left out.
    assert len(do("journal.get", lines=3).data["entries"]) == 2


def test_a_file_cannot_be_asked_for_times_and_priorities(root):
    (root / "var/log/syslog").write_text("one\n")
    assert code_of("journal.get", since="1h") == "invalid_value"
    assert code_of("journal.get", priority="err") == "invalid_value"
    assert code_of("journal.get", lines=-1) == "invalid_value"


def test_without_any_log_there_is_nothing_to_find():
    assert code_of("journal.get") == "not_found"
    assert code_of("unit.get", name="ssh") == "not_found"
    assert code_of("source.list") == "not_found"


def test_what_is_offered_depends_on_what_is_kept(root, journal, tmp_path, monkeypatch):
    assert set(log.available()) == set(log.HANDLERS)
    monkeypatch.setattr("agent.operations.base.PATH", str(tmp_path))
    assert list(log.available()) == []
    (root / "var/log/syslog").touch()
    assert list(log.available()) == ["log.journal.get"]


def test_every_operation_of_the_registry_is_done():
    names = {row.name for row in OPERATIONS.values() if row.domain == "log"}
    assert set(log.HANDLERS) == names
