"""A pipeline runs on the real engine: what goes in, what comes out, how it is counted and ended."""

import asyncio
import json
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.agent.pipelines import Pipelines, alive_in_group, engine, generate, until

pytestmark = engine

FIFTH = {"mapping": 'root = if this.id % 5 == 0 { throw("bad") } else { this }'}


@pytest.fixture
async def pipelines(tmp_path):
    started = Pipelines(tmp_path)
    yield started
    await started.close()


def lines_of(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


async def test_a_pipeline_that_reads_to_the_end_completes(pipelines, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.log").write_text(f'{{"name":"{name}"}}\n' * 10)
    seeds_job = {
        "input": {"file": {"paths": [f"{tmp_path}/*.log"]}},
        "output": {"stdout": {}},
        "pipeline": {"processors": [{"mapping": "root = this\nroot.processed_at = now()\n"}]},
    }
    outcome, report = await pipelines.run(seeds_job)
    assert (outcome.status, outcome.exit_code, outcome.error) == ("completed", 0, "")
    records = [json.loads(line) for line in outcome.output.splitlines()]
    assert sorted(record["name"] for record in records) == ["a"] * 10 + ["b"] * 10
    assert all("processed_at" in record for record in records)
    assert report.lines["stdout"] == outcome.output.splitlines()
    assert (report.total("messages_in"), report.total("messages_ok")) == (20, 20)


async def test_a_pipeline_is_up_within_seconds_and_says_so_once(pipelines):
    work, report = await pipelines.start({"input": generate(), "output": {"drop": {}}})
    await until(lambda: report.up_after is not None)
    assert report.up_after < 10
    assert os.getpgid(work.pid) == work.pid
    assert os.getsid(work.pid) == work.pid


async def test_a_listener_is_up_before_any_message(pipelines):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = {"input": {"http_server": {"address": address}}, "output": {"drop": {}}}
    _, report = await pipelines.start(config)
    await until(lambda: report.up_after is not None)
    await until(lambda: report.windows)
    assert report.windows[0].process_alive
    assert (report.windows[0].messages_in, report.windows[0].errors) == (0, 0)


async def test_a_mapping_that_throws_on_a_fifth_gives_a_fifth_of_errors(pipelines):
    config = {
        "input": generate(count=1000, interval=""),
        "pipeline": {"processors": [FIFTH]},
        "output": {"drop": {}},
    }
    outcome, report = await pipelines.run(config)
    assert outcome.status == "completed"
    assert report.total("messages_in") == 1000
    assert report.total("errors") == report.total("processor_errors") == 200
    assert report.total("messages_ok") == 800
    assert report.windows[-1].last_error.endswith("bad")


async def test_messages_that_a_mapping_deletes_still_came_in(pipelines):
    config = {
        "input": generate(count=300, interval=""),
        "pipeline": {"processors": [{"mapping": "root = deleted()"}]},
        "output": {"stdout": {}},
    }
    outcome, report = await pipelines.run(config)
    assert outcome.output == ""
    assert report.total("messages_in") == 300
    assert (report.total("errors"), report.total("messages_ok")) == (0, 0)


async def test_each_window_says_what_happened_in_it(pipelines):
    work, report = await pipelines.start(
        {"input": generate(), "pipeline": {"processors": [FIFTH]}, "output": {"drop": {}}}
    )
    await until(lambda: len(report.windows) >= 4)
    for window in report.windows[1:4]:
        assert 0.1 < window.errors / window.messages_in < 0.3
        assert window.process_alive
        assert window.restarts == 0
        assert window.rss > 50_000_000
        assert 0.4 < (window.ended_at - window.started_at).total_seconds() < 3
    await work.stop(15)


async def test_error_state_and_metadata_types_cross_the_seam(pipelines, tmp_path):
    show = 'root = {"failed": errored(), "why": error(), "meta": @}'
    config = {
        "input": generate(count=5, interval=""),
        "pipeline": {
            "processors": [{"mapping": 'meta n = this.id\nmeta o = {"a": 1}\nmeta z = null'}, FIFTH]
        },
        "output": {
            "file": {"path": f"{tmp_path}/out", "codec": "lines"},
            "processors": [{"mapping": show}],
        },
    }
    outcome, _ = await pipelines.run(config)
    assert outcome.status == "completed"
    records = sorted(lines_of(f"{tmp_path}/out"), key=lambda record: record["meta"]["n"])
    assert [record["meta"] for record in records] == [
        {"n": n, "o": {"a": 1}, "z": None} for n in range(1, 6)
    ]
    assert [record["failed"] for record in records] == [False] * 4 + [True]
    assert "bad" in records[4]["why"]


async def test_reject_errored_drops_the_failed_and_the_pipeline_goes_on(pipelines, tmp_path):
    config = {
        "input": generate(count=50, interval="1ms"),
        "pipeline": {"processors": [FIFTH]},
        "output": {"reject_errored": {"file": {"path": f"{tmp_path}/out", "codec": "lines"}}},
    }
    outcome, report = await pipelines.run(config)
    assert outcome.status == "completed"
    assert sorted(r["id"] for r in lines_of(f"{tmp_path}/out")) == [
        n for n in range(1, 51) if n % 5
    ]
    assert report.total("errors") == 10
    assert report.total("messages_ok") == 40
    assert report.total("restarts") == 0


async def test_one_thread_keeps_the_order(pipelines, tmp_path):
    config = {
        "input": generate(count=2000, interval=""),
        "pipeline": {"threads": 1, "processors": []},
        "output": {"file": {"path": f"{tmp_path}/out", "codec": "lines"}},
    }
    outcome, _ = await pipelines.run(config)
    assert outcome.status == "completed"
    assert [record["id"] for record in lines_of(f"{tmp_path}/out")] == list(range(1, 2001))


async def test_the_environment_holds_only_the_jobs_variables(pipelines, monkeypatch):
    monkeypatch.setenv("AGENT_SECRET", "hush")
    config = {
        "input": generate(
            1,
            "",
            'root = {"s": env("AGENT_SECRET"), "e": file("/proc/self/environ")'
            '.string().split("\\u0000").map_each(this.split("=").index(0))}',
        ),
        "output": {"stdout": {}},
    }
    outcome, _ = await pipelines.run(config, env={"GIVEN": "${HOME}"})
    record = json.loads(outcome.output)
    assert record["s"] is None
    assert set(record["e"]) == {"PATH", "HOME", "LANG", "GIVEN", "JOBSITE_WORKDIR", ""}


async def test_a_variable_is_put_in_before_the_engine_reads_it(pipelines):
    config = {
        "input": generate("${COUNT:9}", "", 'root = "${WORD} ${{WORD}}"'),
        "output": {"stdout": {}},
    }
    outcome, _ = await pipelines.run(config, env={"COUNT": "2", "WORD": "x ${HOME}"})
    assert outcome.output == "x ${HOME} ${WORD}\n" * 2


async def test_an_orderly_stop_loses_nothing_that_had_left_the_source(pipelines, tmp_path):
    config = {
        "input": generate(interval="2ms"),
        "output": {"file": {"path": f"{tmp_path}/out", "codec": "lines"}},
    }
    work, report = await pipelines.start(config)
    await until(lambda: report.total("messages_ok") > 100)
    await work.stop(15)
    outcome = await work.wait()
    assert (outcome.status, outcome.exit_code) == ("cancelled", 0)
    ids = [record["id"] for record in lines_of(f"{tmp_path}/out")]
    assert sorted(ids) == list(range(1, len(ids) + 1))
    assert report.total("messages_ok") == len(ids)
    assert any("after the signal" in line for line in report.lines["engine"])


async def test_a_pipeline_that_trickles_stops_at_once_and_loses_nothing(pipelines, tmp_path):
    config = {
        "input": generate(interval="300ms"),
        "output": {"file": {"path": f"{tmp_path}/out", "codec": "lines"}},
    }
    work, report = await pipelines.start(config)
    await until(lambda: report.total("messages_ok") > 3)
    began = asyncio.get_running_loop().time()
    await work.stop(15)
    # The engine alone takes four seconds to close such an input.
    assert asyncio.get_running_loop().time() - began < 2
    outcome = await work.wait()
    assert (outcome.status, outcome.exit_code) == ("cancelled", 0)
    ids = [record["id"] for record in lines_of(f"{tmp_path}/out")]
    assert ids == list(range(1, len(ids) + 1))
    assert report.total("messages_ok") == len(ids)


async def test_a_second_signal_ends_it_at_once(pipelines):
    work, report = await pipelines.start({"input": generate("0", "50ms"), "output": {"drop": {}}})
    await until(lambda: report.total("messages_ok") > 0)
    os.kill(work.pid, signal.SIGTERM)
    await until(lambda: report.windows[-1].messages_in == 0)
    os.kill(work.pid, signal.SIGTERM)
    outcome = await asyncio.wait_for(work.wait(), 2)
    assert outcome.exit_code == 4


async def test_nothing_of_a_stopped_pipeline_is_left(pipelines, tmp_path):
    (tmp_path / "grows").write_text("")
    config = {
        "input": {"subprocess": {"name": "tail", "args": ["-F", f"{tmp_path}/grows"]}},
        "output": {"stdout": {}},
    }
    work, report = await pipelines.start(config)
    await until(lambda: report.up_after is not None)
    with (tmp_path / "grows").open("a") as file:
        file.write("one\n")
    await until(lambda: report.lines["stdout"] == ["one"])
    await work.stop(15)
    await until(lambda: not alive_in_group(work.pid), within=2)


async def test_a_pipeline_that_does_not_obey_is_killed_with_its_group(pipelines):
    feed = {"subprocess": {"name": "sleep", "args": ["600"]}}
    work, report = await pipelines.start({"input": feed, "output": {"drop": {}}})
    await until(lambda: report.up_after is not None and len(alive_in_group(work.pid)) == 2)
    os.kill(work.pid, signal.SIGSTOP)
    await work.stop(0.3)
    outcome = await work.wait()
    assert (outcome.status, outcome.exit_code) == ("cancelled", 137)
    assert not report.windows[-1].process_alive
    await until(lambda: not alive_in_group(work.pid), within=2)


async def test_a_time_limit_ends_it(pipelines):
    config = {"input": generate(), "output": {"drop": {}}}
    outcome, _ = await pipelines.run(config, timeout=1.0)
    assert (outcome.status, outcome.exit_code) == ("timeout", None)
    assert "1 s" in outcome.error


async def test_six_pipelines_start_together(pipelines):
    config = {"input": generate(count=1, interval=""), "output": {"stdout": {}}}
    done = await asyncio.gather(*(pipelines.run(config) for _ in range(6)))
    assert [outcome.output for outcome, _ in done] == ['{"id":1}\n'] * 6
