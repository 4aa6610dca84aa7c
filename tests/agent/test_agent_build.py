"""The agent as one file: it builds the same every time and runs on Python alone."""

import subprocess
import sys
import zipfile

from agent.build import build
from agent.config import VERSION
from tests.agent.nodes import await_no_process
from tests.waiting import wait_until

BARE_PYTHON = sys._base_executable


def test_equal_sources_give_equal_bytes(tmp_path):
    assert build(tmp_path / "a.pyz") == build(tmp_path / "b" / "b.pyz")
    assert (tmp_path / "a.pyz").read_bytes() == (tmp_path / "b" / "b.pyz").read_bytes()


def test_it_holds_only_what_the_agent_needs(tmp_path):
    build(tmp_path / "a.pyz")
    names = zipfile.ZipFile(tmp_path / "a.pyz").namelist()
    assert {name.partition("/")[0] for name in names} == {"__main__.py", "agent", "websockets"}
    assert all(name.endswith(".py") for name in names)
    assert "agent/build.py" not in names
    assert (tmp_path / "a.pyz").stat().st_size < 600_000


def test_it_is_a_program(tmp_path):
    build(tmp_path / "a.pyz")
    command = [BARE_PYTHON, "-I", "-S", str(tmp_path / "a.pyz"), "version"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout == f"{VERSION}\n"
    assert (tmp_path / "a.pyz").read_bytes().startswith(b"#!/usr/bin/env python3\n")
    assert (tmp_path / "a.pyz").stat().st_mode & 0o111 == 0o111


def test_it_enrols_runs_scripts_and_says_why_it_runs_no_pipelines(server, make_agent, tmp_path):
    build(tmp_path / "a.pyz")
    agent = make_agent()
    agent.python = (BARE_PYTHON, "-I", "-S")
    agent.module = (str(tmp_path / "a.pyz"),)
    agent.start()
    order = server.assign(
        server.assignment(config={"runner": "python", "payload": "import sys; print(sys.path[0])"})
    )
    result = server.result(order.execution_id)
    assert result.status == "completed"
    assert order.execution_id in result.output
    (hello,) = server.hellos
    assert hello.capabilities["pipeline"]["available"] is False
    assert hello.capabilities["pipeline"]["reason"]

    pipeline = server.assign(
        server.assignment(job_type="pipeline", config={"input": {}}, execution_timeout=None)
    )
    wait_until(lambda: "failed" in server.states(pipeline.execution_id))
    assert agent.terminate() == 0
    await_no_process(pipeline.execution_id)
