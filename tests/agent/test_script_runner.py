"""Scripts run for real: exit codes, limits, groups, output (docs/semantics.md 4.2, 4.7)."""

import asyncio
import json
import os
import signal
import sys
import time
import uuid

import pytest

from agent.processes import EXECUTION
from agent.runners import script
from agent.runners.base import Order
from agent.runners.script import OUTPUT_LIMIT, CannotStartError, ScriptRunner
from tests.agent.nodes import await_no_process


class Notes:
    """A reporter that keeps what it was told."""

    def __init__(self):
        self.ups = 0
        self.lines = {"stdout": [], "stderr": []}
        self.changed = asyncio.Event()

    def up(self):
        self.ups += 1

    def window(self, w):
        raise AssertionError("scripts have no windows")

    def log(self, stream, lines):
        self.lines[stream] += lines
        self.changed.set()


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def make_order(tmp_path):
    def make(payload, runner="shell", env=None, timeout=None, **config):
        execution_id = str(uuid.uuid4())
        return Order(
            execution_id=execution_id,
            attempt=1,
            job_type="script",
            config={"runner": runner, "payload": payload, **config},
            env={EXECUTION: execution_id, **(env or {})},
            workdir=tmp_path / execution_id / "work",
            timeout=timeout,
        )

    return make


async def run(order, notes):
    work = await ScriptRunner().start(order, notes)
    work.release()
    async with asyncio.timeout(60):
        return await work.wait()


async def until(condition, notes, deadline=60.0):
    async with asyncio.timeout(deadline):
        while not condition():
            notes.changed.clear()
            await notes.changed.wait()


async def test_a_script_completes_with_its_output_and_its_error_output(make_order, notes):
    outcome = await run(make_order("echo out; echo err >&2"), notes)
    assert (outcome.status, outcome.exit_code) == ("completed", 0)
    assert (outcome.output, outcome.error) == ("out\n", "err\n")
    assert not outcome.output_truncated
    assert notes.ups == 1
    assert notes.lines == {"stdout": ["out"], "stderr": ["err"]}


@pytest.mark.parametrize(
    ("payload", "code"),
    [("exit 7", 7), ("exit 125", 125), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("nope", 127)],
)
async def test_an_exit_code_is_kept_and_death_by_a_signal_is_128_and_more(
    make_order, notes, payload, code
):
    outcome = await run(make_order(payload), notes)
    assert (outcome.status, outcome.exit_code, outcome.error_code) == ("failed", code, "exit_code")


async def test_a_script_does_not_begin_before_its_start_is_journalled(make_order, notes, tmp_path):
    order = make_order(f"touch {tmp_path}/began")
    work = await ScriptRunner().start(order, notes)
    # Another script has the time to run from beginning to end.
    assert (await run(make_order("echo other"), Notes())).output == "other\n"
    await work.stop(0.5)
    outcome = await work.wait()
    assert outcome.status == "cancelled"
    assert not (tmp_path / "began").exists()
    assert notes.ups == 0


async def test_the_environment_is_clean(make_order, notes, monkeypatch):
    monkeypatch.setenv("AGENT_SECRET", "s3cret")
    order = make_order("env", env={"GREETING": "hello world"})
    outcome = await run(order, notes)
    names = {line.partition("=")[0] for line in outcome.output.splitlines()}
    assert names == {"PATH", "HOME", "LANG", "PWD", "GREETING", EXECUTION}
    assert "GREETING=hello world" in outcome.output.splitlines()


async def test_a_python_script_runs_in_the_agents_interpreter_with_its_arguments(make_order, notes):
    payload = "import sys, json; print(json.dumps([sys.executable, sys.argv[1:]]))"
    outcome = await run(make_order(payload, runner="python", args=["a b", "$HOME"]), notes)
    assert json.loads(outcome.output) == [sys.executable, ["a b", "$HOME"]]


async def test_exec_runs_a_program_without_a_shell(make_order, notes):
    outcome = await run(make_order("echo", runner="exec", args=["$HOME", "; exit 3", "*"]), notes)
    assert outcome.output == "$HOME ; exit 3 *\n"
    assert outcome.exit_code == 0


async def test_the_shell_gets_its_arguments(make_order, notes):
    outcome = await run(make_order('printf "%s|" "$@"', args=["a b", "", "-n"]), notes)
    assert outcome.output == "a b||-n|"


async def test_scripts_run_where_they_are_told(make_order, notes, tmp_path):
    (tmp_path / "there").mkdir()
    outcome = await run(make_order("pwd", cwd=str(tmp_path / "there")), notes)
    assert outcome.output.strip() == str(tmp_path / "there")
    order = make_order("pwd")
    assert (await run(order, notes)).output.strip() == str(order.workdir)


@pytest.mark.parametrize(
    ("order", "code"),
    [
        ({"payload": "true", "runner": "hero"}, "unknown_runner"),
        ({"payload": "no-such-program", "runner": "exec"}, "spawn_failed"),
        ({"payload": "true", "cwd": "/no/such/folder"}, "spawn_failed"),
    ],
)
async def test_what_cannot_start_says_why(make_order, notes, order, code):
    with pytest.raises(CannotStartError) as caught:
        await run(make_order(**order), notes)
    assert caught.value.code == code


async def test_the_payload_is_private(make_order, notes):
    order = make_order('stat -c "%a %a" "$0"; stat -c %a "$(dirname "$0")"')
    outcome = await run(order, notes)
    assert outcome.output.split() == ["600", "600", "700"]


async def test_a_timeout_ends_the_whole_group(make_order, notes, monkeypatch):
    monkeypatch.setattr(script, "KILL_AFTER", 0.3)
    payload = "trap '' TERM; (trap '' TERM; sleep 60) & echo started; while :; do sleep 60; done"
    order = make_order(payload, timeout=0.5)
    began = time.monotonic()
    outcome = await run(order, notes)
    assert time.monotonic() - began < 10
    assert (outcome.status, outcome.exit_code) == ("timeout", None)
    assert "limit of 0.5 s" in outcome.error
    assert outcome.output == "started\n"
    await_no_process(order.execution_id)


async def test_a_script_that_heeds_term_is_stopped_without_force(make_order, notes):
    order = make_order("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done")
    work = await ScriptRunner().start(order, notes)
    work.release()
    await until(lambda: notes.lines["stdout"], notes)
    await work.stop(10)
    outcome = await work.wait()
    assert (outcome.status, outcome.output) == ("cancelled", "ready\nbye\n")


async def test_what_a_script_leaves_running_in_its_group_ends_with_it(make_order, notes):
    order = make_order("sleep 60 & (env -i sleep 61) & echo done")
    outcome = await run(order, notes)
    assert outcome.status == "completed"
    await_no_process(order.execution_id)


async def test_the_end_of_a_long_output_is_kept(make_order, notes):
    line = "x" * 99
    order = make_order(f"yes {line} | head -n 40000; echo last")
    outcome = await run(order, notes)
    assert outcome.output_truncated
    assert len(outcome.output) == OUTPUT_LIMIT
    assert outcome.output.endswith(f"{line}\nlast\n")
    shown = notes.lines["stdout"]
    assert len(shown) < 2000
    assert any("lines were left out" in line for line in shown)


async def test_output_of_just_the_limit_is_whole(make_order, notes):
    outcome = await run(make_order(f"head -c {OUTPUT_LIMIT} /dev/zero | tr '\\0' x"), notes)
    assert (len(outcome.output), outcome.output_truncated) == (OUTPUT_LIMIT, False)


async def test_reopening_standard_output_loses_nothing(make_order, notes):
    outcome = await run(make_order("echo a; echo b >/dev/stdout; echo c | tee /dev/stderr"), notes)
    assert (outcome.output, outcome.error) == ("a\nb\nc\n", "c\n")


async def test_lines_are_shown_while_the_script_runs(make_order, notes):
    order = make_order("echo first; while :; do sleep 0.05; done")
    work = await ScriptRunner().start(order, notes)
    work.release()
    await until(lambda: notes.lines["stdout"] == ["first"], notes)
    await work.stop(1)
    await work.wait()


async def test_standard_input_is_empty(make_order, notes):
    outcome = await run(make_order("cat; echo $?"), notes)
    assert outcome.output == "0\n"


async def test_a_leader_that_was_killed_alone_takes_its_script_along(make_order, notes):
    order = make_order("echo ready; while :; do sleep 0.05; done")
    work = await ScriptRunner().start(order, notes)
    work.release()
    await until(lambda: notes.lines["stdout"], notes)
    os.kill(work.pid, signal.SIGKILL)
    async with asyncio.timeout(60):
        outcome = await work.wait()
    assert (outcome.status, outcome.exit_code) == ("failed", 137)
    await_no_process(order.execution_id)
