"""The journal survives crashes, torn lines, power cuts and full disks."""

import asyncio
import contextlib
import json
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import journal as journal_module
from agent.journal import Journal
from agent.protocol import Log, ResultReport, State, WindowReport
from agent.records import Entry
from agent.reserve import RESERVE_BYTES


def opened(folder, boot="boot-1"):
    return Journal(folder, boot)


def state(name, execution_id="x"):
    return State(execution_id=execution_id, observed_state=name)


def log_frame(number, lines):
    return Log(execution_id="x", number=number, stream="stdout", lines=lines)


def window(number):
    return WindowReport(execution_id="x", number=number, started_at="", ended_at="")


def pending(journal, after=0):
    return [(number, json.loads(text)) for number, text in journal.pending(after, 10_000)]


def names(journal):
    return [frame.get("observed_state") or frame["type"] for _, frame in pending(journal)]


async def test_what_was_recorded_is_there_after_a_crash(tmp_path):
    first = opened(tmp_path)
    entry = Entry("x", assignment={"config": {"a": "ü\n"}}, desired_seq=3)
    first.record([state("starting")], entry=entry, with_assignment=True)
    entry.phase, entry.start = "running", {"pid": 7, "started": 1, "boot": "b", "folder": None}
    first.record([state("running")], entry=entry)

    second = opened(tmp_path)
    assert second.entries == {"x": entry}
    assert names(second) == ["starting", "running"]
    assert [number for number, _ in pending(second)] == [1, 2]
    assert [frame["seq"] for _, frame in pending(second)] == [1, 2]


async def test_numbers_go_on_after_a_crash_and_commits_are_remembered(tmp_path):
    first = opened(tmp_path)
    first.record([state("starting"), state("running")])
    first.committed(1)
    second = opened(tmp_path)
    assert names(second) == ["running"]
    second.committed(2)
    third = opened(tmp_path)
    assert names(third) == []
    third.record([state("completed")])
    assert pending(third)[0][0] == 3


async def test_after_a_power_cut_no_number_is_used_twice(tmp_path):
    first = opened(tmp_path)
    first.record([state("starting")])
    await first.sync()
    size = (tmp_path / "journal").stat().st_size
    first.record([log_frame(1, ["sent, never synced"])], lazy=True)
    used = first.last_seq
    with (tmp_path / "journal").open("rb+") as file:
        file.truncate(size)
    second = opened(tmp_path, boot="boot-2")
    second.record([state("running")])
    assert pending(second)[-1][0] > used


@given(cut=st.integers(1, 400))
def test_a_torn_line_is_cut_off_and_all_before_it_is_kept(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("journal")
    asyncio.run(_check_torn(folder, cut))


async def _check_torn(folder, cut):
    first = opened(folder)
    path = folder / "journal"
    sizes = [path.stat().st_size]
    for name in ("starting", "running", "completed"):
        first.record([state(name)], entry=Entry("x", phase=name))
        sizes.append(path.stat().st_size)
    keep = max(sizes[0], sizes[-1] - cut)
    with path.open("rb+") as file:
        file.truncate(keep)
    whole = sum(1 for size in sizes[1:] if size <= keep)
    second = opened(folder)
    assert names(second) == ["starting", "running", "completed"][:whole]
    assert ("x" in second.entries) == (whole > 0)
    second.record([state("stopped")])
    assert names(opened(folder))[-1] == "stopped"


async def test_a_damaged_line_in_the_middle_costs_only_itself(tmp_path, caplog):
    first = opened(tmp_path)
    for name in ("starting", "running", "completed"):
        first.record([state(name)])
    path = tmp_path / "journal"
    path.write_bytes(path.read_bytes().replace(b'"running"', b'"runnong"'))
    assert names(opened(tmp_path)) == ["starting", "completed"]
    assert "damaged" in caplog.text


async def test_parts_of_one_record_count_together_or_not_at_all(tmp_path):
    first = opened(tmp_path)
    path = tmp_path / "journal"
    before = path.stat().st_size
    first.record(
        [state("failed"), ResultReport(execution_id="x", status="failed")],
        entry=Entry("x", phase="failed"),
    )
    data = path.read_bytes()
    for length in range(before, len(data)):
        path.write_bytes(data[:length])
        second = opened(tmp_path)
        assert (names(second), second.entries) == ([], {})
    path.write_bytes(data)
    assert names(opened(tmp_path)) == ["failed", "result"]


async def test_waiters_share_one_sync(tmp_path, monkeypatch):
    calls = []
    real = journal_module.os.fdatasync
    monkeypatch.setattr(
        journal_module.os, "fdatasync", lambda file: (calls.append(file), real(file))
    )
    journal = opened(tmp_path)
    for number in range(20):
        journal.record([state("running", str(number))])
    await asyncio.gather(*(journal.sync() for _ in range(20)))
    assert len(calls) == 1
    await journal.sync()
    journal.record([log_frame(1, ["no need"])], lazy=True)
    await journal.sync()
    assert len(calls) == 1


async def test_the_file_is_made_small_again_and_forgets_the_secrets_of_what_ended(tmp_path):
    journal = opened(tmp_path)
    secret = Entry("x", assignment={"env": {"TOKEN": "s3cret" + "x" * 200_000}})
    journal.record([state("starting")], entry=secret, with_assignment=True)
    secret.phase = "completed"
    journal.record([state("completed")], entry=secret)
    alive = Entry("y", assignment={"config": {}}, phase="running")
    journal.record(entry=alive, with_assignment=True)
    for number in range(1, 3000):
        journal.record([log_frame(number, ["x" * 500])], lazy=True)
        journal.committed(journal.last_seq)
    data = (tmp_path / "journal").read_bytes()
    assert len(data) < 1_300_000
    assert b"s3cret" not in data
    again = opened(tmp_path)
    assert again.entries["x"].phase == "completed"
    assert again.entries["y"] == alive
    assert again.last_seq == journal.last_seq


async def test_reports_keep_their_numbers_when_the_file_is_made_small(tmp_path):
    journal = opened(tmp_path)
    journal.record([state(f"s{number}") for number in range(20)])
    before = pending(journal)
    journal.compact()
    assert pending(journal) == before
    assert pending(opened(tmp_path)) == before


async def test_without_a_connection_the_oldest_log_lines_go_first_with_a_mark(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(journal_module, "LAZY_LIMIT", 20_000)
    journal = opened(tmp_path)
    journal.record([state("starting")], entry=Entry("x"))
    for number in range(1, 101):
        journal.record([log_frame(number, [f"line {number} " + "x" * 500] * 2)], lazy=True)
        journal.record([window(number)], lazy=True)
    journal.record([state("completed")])
    for each in (journal, opened(tmp_path)):
        found = pending(each)
        assert sum(len(json.dumps(frame)) for _, frame in found) < 45_000
        logs = [frame for _, frame in found if frame["type"] == "log"]
        kept = [frame["number"] for frame in logs[1:]]
        assert kept == list(range(kept[0], 101))
        missing = 2 * (100 - len(kept))
        assert logs[0]["lines"][0].startswith(f"{missing} lines were dropped")
        assert names(each)[0] == "starting"
        assert names(each)[-1] == "completed"
        numbers = [number for number, _ in found]
        assert numbers == sorted(set(numbers))


async def test_counters_of_windows_and_logs_survive_a_crash(tmp_path):
    journal = opened(tmp_path)
    entry = Entry("x")
    journal.record(entry=entry)
    entry.logs, entry.windows = 4, 9
    journal.record([log_frame(4, ["a"])], lazy=True)
    journal.record([window(9)], lazy=True)
    again = opened(tmp_path).entries["x"]
    assert (again.logs, again.windows) == (4, 9)


def fill(folder):
    """Use up what is left of a file system; return the file that does."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filler


@pytest.fixture
def small_disk(tmp_path):
    """A file system of three MiB of its own."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], check=True, timeout=10
    )
    yield folder
    subprocess.run(["umount", "-l", folder], check=True, timeout=10)


async def test_on_a_full_disk_the_reserve_keeps_reports_and_new_work_is_refused(small_disk):
    journal = opened(small_disk)
    assert (small_disk / "journal.reserve").stat().st_size == RESERVE_BYTES
    filler = fill(small_disk)
    journal.record([state("running")], entry=Entry("x", phase="running"))
    for number in range(30):
        big = ResultReport(execution_id=str(number), status="completed", output="x" * 10_000)
        journal.record([big])
    assert journal.full
    assert not journal.recover_space()
    assert not journal.has_no_room
    assert len(pending(opened(small_disk))) == 31

    filler.unlink()
    assert journal.recover_space()
    assert (small_disk / "journal.reserve").stat().st_size == RESERVE_BYTES
    journal.close()


async def test_reports_beyond_the_reserve_wait_in_memory_until_there_is_room(small_disk):
    journal = opened(small_disk)
    filler = fill(small_disk)
    for number in range(30):
        big = ResultReport(execution_id=str(number), status="completed", output="x" * 100_000)
        journal.record([big])
    assert journal.has_no_room
    on_disk = len(pending(journal))
    assert 0 < on_disk < 30
    filler.unlink()
    (small_disk / "journal.reserve").unlink(missing_ok=True)
    journal.recover_space()
    assert [frame["execution_id"] for _, frame in pending(journal)][:on_disk] == [
        str(number) for number in range(on_disk)
    ]
    journal.close()
