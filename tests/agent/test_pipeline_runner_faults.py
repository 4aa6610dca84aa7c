"""What goes wrong in a pipeline is named, counted and contained (docs/semantics.md 5)."""

import asyncio
import socket
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from agent.engine.process import environment
from tests.agent.pipelines import Pipelines, alive_in_group, engine, generate, until

pytestmark = engine


@pytest.fixture
async def pipelines(tmp_path):
    started = Pipelines(tmp_path)
    yield started
    await started.close()


class Flaky:
    """An HTTP server on loopback whose answers a test can change."""

    def __init__(self):
        outer, self.status, self.bodies = self, 200, []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if outer.status == 200:
                    outer.bodies.append(body)
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def flaky():
    server = Flaky()
    yield server
    server.close()


async def test_a_bad_configuration_ends_at_once_with_every_problem(pipelines):
    config = {
        "input": generate(),
        "pipeline": {"processors": [{"mapping": "root = nofunc()"}, {"log": {"lvl": 1}}]},
        "output": {"kafka": {}},
    }
    outcome, report = await pipelines.run(config)
    assert (outcome.status, outcome.exit_code, outcome.error_code) == (
        "failed",
        3,
        "invalid_config",
    )
    assert outcome.error.splitlines() == [
        "/pipeline/processors/0/mapping: unrecognised function 'nofunc'",
        "/pipeline/processors/1/log/lvl: field lvl not recognised",
        "/output/kafka: node lacks output kafka",
    ]
    assert report.up_after is None
    assert report.windows == []


async def test_a_variable_without_value_ends_it_before_it_starts(pipelines):
    outcome, _ = await pipelines.run({"input": generate("${A}"), "output": {"drop": {}}})
    assert (outcome.exit_code, outcome.error_code) == (3, "missing_variables")
    assert outcome.error.endswith(": A")


async def test_a_port_in_use_is_fatal_and_says_so(pipelines):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        config = {"input": {"http_server": {"address": address}}, "output": {"drop": {}}}
        outcome, _ = await pipelines.run(config)
    assert (outcome.exit_code, outcome.error_code) == (3, "invalid_config")
    assert "address already in use" in outcome.error


async def test_an_output_that_fails_for_a_while_loses_nothing(pipelines, flaky):
    flaky.status = 500
    config = {
        "input": generate(count=50, interval="5ms"),
        "output": {"http_client": {"url": flaky.url, "verb": "POST", "retries": 0}},
    }
    work, report = await pipelines.start(config)
    await until(lambda: report.total("output_errors") > 0)
    flaky.status = 200
    outcome = await asyncio.wait_for(work.wait(), 40)
    assert outcome.status == "completed"
    assert set(flaky.bodies) == {b'{"id":%d}' % n for n in range(1, 51)}
    assert report.total("restarts") == 0


async def test_a_blocked_output_makes_every_window_unhealthy(pipelines, flaky):
    flaky.status = 500
    config = {
        "input": generate(),
        "output": {"http_client": {"url": flaky.url, "verb": "POST", "retries": 0}},
    }
    _, report = await pipelines.start(config)
    await until(lambda: len(report.windows) >= 4)
    for window in report.windows[1:4]:
        assert window.errors / max(1, window.messages_in) >= 1
        assert window.messages_ok == 0
        assert "500" in window.last_error


async def test_an_input_that_restarts_is_counted_and_called_degraded(pipelines):
    config = {"input": generate(), "output": {"reject": "never"}}
    work, report = await pipelines.start(config)
    await until(lambda: report.total("restarts") >= 3, within=30)
    await until(lambda: any(x.startswith("degraded: 3 restarts") for x in report.lines["engine"]))
    assert any("never" in window.last_error for window in report.windows)
    await work.stop(15)
    assert (await work.wait()).status == "cancelled"


async def test_running_out_of_memory_is_a_crash_with_its_reason(pipelines):
    config = {
        "input": generate(1, "", "root = range(0, 2000000000)"),
        "output": {"stdout": {}},
    }
    outcome, _ = await pipelines.run(config)
    assert (outcome.status, outcome.exit_code) == ("failed", 134)
    assert outcome.error_code == "engine_crashed"
    assert "out of memory" in outcome.error
    assert len(outcome.error) < 6000


async def test_growing_beyond_the_memory_limit_ends_it(pipelines):
    config = {
        "input": generate(1, "", "root = range(0, 60000000)"),
        "output": {"stdout": {}},
    }
    outcome, _ = await pipelines.run(config, memory_limit=700 << 20)
    assert outcome.status == "failed"
    assert outcome.error_code in {"memory_limit_exceeded", "engine_crashed"}


async def test_every_message_failing_does_not_flood_the_log(pipelines):
    config = {
        "input": generate(20_000, "", "root.id = 1"),
        "pipeline": {"processors": [{"mapping": 'root = throw("no")'}]},
        "output": {"drop": {}},
    }
    outcome, report = await pipelines.run(config)
    assert outcome.status == "completed"
    assert report.total("errors") == 20_000
    assert len(report.lines["engine"]) < 3000
    assert any("left out" in line for line in report.lines["engine"])


async def test_the_pipeline_dies_with_its_agent(tmp_path):
    script = f"""
import asyncio, sys
from pathlib import Path
from agent.runners.base import Order
from tests.agent.pipelines import Recorder, Pipelines, generate, until

async def main():
    work, report = await Pipelines(Path({str(tmp_path)!r})).start(
        {{"input": generate(), "output": {{"drop": {{}}}}}})
    await until(lambda: report.up_after is not None)
    print(work.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    root = str(Path(__file__).parents[2])
    agent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        stdout=asyncio.subprocess.PIPE,
        cwd=root,
        env=environment(str(tmp_path), {"PYTHONPATH": root}),
    )
    pid = int(await asyncio.wait_for(agent.stdout.readline(), 30))
    agent.kill()
    await agent.wait()
    await until(lambda: not alive_in_group(pid), within=5)


async def test_no_descriptor_is_left_open(pipelines):
    async def once():
        await pipelines.run({"input": generate(1, ""), "output": {"drop": {}}})

    await once()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        await once()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before
