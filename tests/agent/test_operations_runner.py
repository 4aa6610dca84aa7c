"""Operations run for real, each in a process of its own (docs/semantics.md 2.7, 4.2, 4.7)."""

import asyncio
import json
import os
import socket
import uuid

import pytest

from agent.processes import EXECUTION
from agent.runners import operations
from agent.runners.base import AdoptingRunner, GatedWork, Order
from agent.runners.operations import OperationsRunner


class Notes:
    """A reporter that keeps what it was told."""

    def __init__(self):
        self.ups = 0
        self.lines = []
        self.changed = asyncio.Event()

    def up(self):
        self.ups += 1
        self.changed.set()

    def window(self, w):
        raise AssertionError("operations have no windows")

    def log(self, stream, lines):
        self.lines += lines
        self.changed.set()


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture
def make_order(tmp_path):
    def make(config, *, job_type="update", timeout=60.0):
        execution_id = str(uuid.uuid4())
        return Order(
            execution_id=execution_id,
            attempt=1,
            job_type=job_type,
            config=config,
            env={EXECUTION: execution_id},
            workdir=tmp_path / execution_id / "work",
            timeout=timeout,
        )

    return make


def one(operation, **params):
    return {"operation": operation, "params": params}


def shell(command, **more):
    return one("command.shell.execute", command=command, **more)


async def run(order, notes):
    work = await OperationsRunner().start(order, notes)
    work.release()
    async with asyncio.timeout(60):
        return await work.wait()


async def until(condition, notes):
    async with asyncio.timeout(60):
        while not condition():
            notes.changed.clear()
            await notes.changed.wait()


# --- One operation ---------------------------------------------------------------------------------


async def test_a_query_answers_with_data_and_changes_nothing(make_order, notes):
    outcome = await run(make_order(one("node.hostname.get"), job_type="query"), notes)
    assert (outcome.status, outcome.changed, outcome.exit_code) == ("completed", None, None)
    assert outcome.data["hostname"] == socket.gethostname()
    assert notes.ups == 1


async def test_a_command_is_seen_while_it_runs_and_its_output_is_kept(make_order, notes):
    outcome = await run(make_order(shell("echo out; echo err >&2; exit 3")), notes)
    assert (outcome.status, outcome.exit_code, outcome.error_code) == ("failed", 3, "exit_code")
    assert (outcome.output, outcome.error) == ("out\n", "err\n")
    assert outcome.changed is True
    assert sorted(notes.lines) == ["err", "out"]


async def test_an_operation_that_cannot_be_done_says_why(make_order, notes):
    order = make_order(one("command.exec.execute", command="no-such-program"))
    outcome = await run(order, notes)
    assert (outcome.status, outcome.error_code) == ("failed", "not_found")
    assert outcome.error == "there is no program 'no-such-program'"
    outcome = await run(make_order(one("node.colour.get")), notes)
    assert (outcome.status, outcome.error_code) == ("failed", "unknown_operation")


async def test_a_defect_is_told_and_its_place_goes_to_the_log(make_order, notes):
    outcome = await run(make_order(one("process.entry.get", pid="x")), notes)
    assert (outcome.status, outcome.error_code) == ("failed", "operation_failed")
    assert outcome.error.startswith("process.entry.get broke: ValueError")
    assert "Traceback (most recent call last):" in notes.lines


async def test_facts_of_the_node_stand_in_for_their_tokens(make_order, notes):
    order = make_order(one("command.exec.execute", command="echo", args=["on @fact.hostname."]))
    outcome = await run(order, notes)
    assert outcome.output == f"on {socket.gethostname()}.\n"
    outcome = await run(make_order(shell("echo @fact.colour")), notes)
    assert (outcome.status, outcome.error_code) == ("failed", "unknown_fact")
    assert "no fact colour; it has arch, fqdn" in outcome.error


async def test_an_operation_that_takes_too_long_is_ended_with_all_it_started(make_order, notes):
    outcome = await run(make_order(shell("sleep 300"), timeout=1.0), notes)
    assert (outcome.status, outcome.error_code) == ("timeout", "execution_timeout")
    assert outcome.error.startswith("the operation ran longer than its limit of 1 s")


async def test_a_commands_own_limit_ends_it_and_keeps_what_it_wrote(make_order, notes):
    outcome = await run(make_order(shell("echo so far; exec sleep 300", timeout=1)), notes)
    assert (outcome.status, outcome.error_code) == ("failed", "execution_timeout")
    assert outcome.output == "so far\n"


async def test_a_process_that_dies_without_an_answer_has_failed(make_order, notes):
    outcome = await run(make_order(shell("kill -9 $PPID")), notes)
    assert (outcome.status, outcome.exit_code) == ("failed", None)


async def test_an_agent_that_comes_back_hears_the_answer_of_what_went_on(
    make_order, notes, tmp_path
):
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    order = make_order(shell(f"read word < {fifo}; echo $word"))
    runner = OperationsRunner()
    assert isinstance(runner, AdoptingRunner)
    work = await runner.start(order, notes)
    assert isinstance(work, GatedWork)
    work.release()
    # Its first agent watches no more.
    work._work._outcome.cancel()
    adopted = OperationsRunner().adopt(order, notes, work.pid, work.folder)
    await asyncio.to_thread(fifo.write_text, "hello\n")
    async with asyncio.timeout(60):
        outcome = await adopted.wait()
    await asyncio.to_thread(work._work._leader.process.wait)
    assert (outcome.status, outcome.exit_code, outcome.changed) == ("completed", 0, True)
    again = OperationsRunner().left_behind(order, work.folder)
    assert (again.status, again.data) == (outcome.status, outcome.data)


def test_the_machine_says_what_it_can_do():
    told = operations.capabilities()["operations"]
    assert told == sorted(told)
    assert {"node.status.get", "command.exec.execute", "process.entry.list"} <= set(told)


# --- A stack ---------------------------------------------------------------------------------------


def stack(*steps, interval=None):
    config = {"operations": list(steps)}
    return config if interval is None else {**config, "interval": int(interval * 1e9)}


async def test_a_stack_is_up_once_it_has_been_applied_and_stays(make_order, notes, tmp_path):
    order = make_order(
        stack(shell(f"echo 1 >> {tmp_path}/done"), shell(f"echo 2 >> {tmp_path}/done")),
        job_type="config",
    )
    work = await OperationsRunner().start(order, notes)
    assert not isinstance(work, GatedWork)
    await until(lambda: notes.ups, notes)
    assert (tmp_path / "done").read_text() == "1\n2\n"
    assert notes.lines == [
        "1 command.shell.execute: changed",
        "2 command.shell.execute: changed",
    ]
    await work.stop(1.0)
    assert (await work.wait()).status == "cancelled"


async def test_a_stack_is_applied_again_at_each_interval(make_order, notes, tmp_path):
    order = make_order(
        stack(shell(f"echo again >> {tmp_path}/done; echo seen"), interval=0.05), job_type="config"
    )
    work = await OperationsRunner().start(order, notes)
    await until(lambda: notes.lines.count("seen") >= 3, notes)
    assert notes.ups == 1
    await work.stop(1.0)
    assert list(order.workdir.parent.glob("*.run*")) == []


async def test_a_step_that_fails_ends_the_stack_and_is_named(make_order, notes, tmp_path):
    order = make_order(
        stack(shell("true"), shell("echo bad >&2; exit 4"), shell(f"touch {tmp_path}/third")),
        job_type="config",
    )
    work = await OperationsRunner().start(order, notes)
    async with asyncio.timeout(60):
        outcome = await work.wait()
    assert (outcome.status, outcome.error_code) == ("failed", "not_applied")
    assert outcome.error.startswith("step 2, command.shell.execute: exit code 4")
    assert [step["status"] for step in outcome.data["steps"]] == ["completed", "failed"]
    assert not (tmp_path / "third").exists()
    assert notes.ups == 0


async def test_a_drift_that_cannot_be_mended_is_tried_again_by_the_restart_policy(
    make_order, notes, tmp_path
):
    mark = tmp_path / "broken"
    order = make_order(stack(shell(f"test ! -e {mark}"), interval=0.05), job_type="config")
    work = await OperationsRunner().start(order, notes)
    await until(lambda: notes.ups, notes)
    mark.touch()
    async with asyncio.timeout(60):
        outcome = await work.wait()
    assert (outcome.status, outcome.error_code) == ("failed", "drift")


async def test_a_stack_that_is_stopped_while_it_is_applied_ends_at_once(
    make_order, notes, tmp_path
):
    order = make_order(stack(shell("echo begun; exec sleep 300")), job_type="config")
    work = await OperationsRunner().start(order, notes)
    await until(lambda: "begun" in notes.lines, notes)
    async with asyncio.timeout(60):
        await work.stop(0.5)
        outcome = await work.wait()
    assert outcome.status == "cancelled"
    assert notes.ups == 0


async def test_an_application_waits_for_one_that_outlived_its_agent(make_order, notes, tmp_path):
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    mark = tmp_path / "second"
    order = make_order(
        stack(shell(f"test -e {mark} || {{ touch {mark}; echo first; read word < {fifo}; }}")),
        job_type="config",
    )
    first = await OperationsRunner().start(order, notes)
    await until(lambda: "first" in notes.lines, notes)
    later = Notes()
    second = await OperationsRunner().start(order, later)
    assert later.lines == []
    await asyncio.to_thread(fifo.write_text, "go\n")
    await until(lambda: later.ups, later)
    for work in (first, second):
        await work.stop(0.5)
    assert json.loads((order.workdir / "answer.json").read_text())["status"] == "completed"
