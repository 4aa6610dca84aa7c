"""kill -9 at every point: no script runs twice, no result is lost, no process is left (S18, F4)."""

import contextlib
import os
import signal

import pytest

from agent import processes, protocol
from tests.agent.dying_agent import POINTS
from tests.agent.nodes import ROOT, await_no_process, processes_of
from tests.agent.stub import resent
from tests.waiting import wait_until

DYING = str(ROOT / "tests" / "agent" / "dying_agent.py")


@pytest.fixture
def make_dying(make_agent):
    def make(point):
        agent = make_agent(module=(DYING, point))
        agent.start()
        agent.module = ("-m", "agent")
        return agent

    return make


@pytest.mark.parametrize("point", POINTS)
def test_a_script_runs_exactly_once_whenever_the_agent_dies(server, make_dying, tmp_path, point):
    oracle = tmp_path / "oracle"
    agent = make_dying(point)
    order = server.script(f"echo ran >>{oracle}; echo hello")
    server.assign(order)
    assert agent.wait() == -9

    agent.start()
    server.assign(resent(order))
    result = server.result(order.execution_id)
    assert (result.status, result.exit_code, result.output) == ("completed", 0, "hello\n")
    assert oracle.read_text() == "ran\n"
    assert server.states(order.execution_id)[-1] == "completed"
    await_no_process(order.execution_id)
    assert agent.terminate() == 0
    assert agent.entries()[order.execution_id]["phase"] == "completed"
    assert not (agent.folder / "executions" / order.execution_id).exists()


def test_a_script_that_outlives_the_agent_is_adopted_with_all_its_output(server, agent, tmp_path):
    oracle, gate = tmp_path / "oracle", tmp_path / "gate"
    payload = f"echo ran >>{oracle}; echo one; while [ ! -e {gate} ]; do sleep 0.02; done; echo two"
    order = server.assign(server.script(payload))
    wait_until(lambda: server.log_lines(order.execution_id) == ["one"])
    agent.kill()
    assert processes_of(order.execution_id)
    agent.start()
    wait_until(lambda: len(server.hellos) == 2)
    assert server.hellos[1].running == [
        {
            "execution_id": order.execution_id,
            "observed_state": "running",
            "desired_seq": 1,
            "attempt": 1,
        }
    ]
    gate.touch()
    result = server.result(order.execution_id)
    assert (result.status, result.exit_code, result.output) == ("completed", 0, "one\ntwo\n")
    assert oracle.read_text() == "ran\n"
    assert server.states(order.execution_id) == ["starting", "running", "completed"]


def test_a_script_that_ended_while_no_agent_ran_is_reported_with_its_exit_code(
    server, agent, tmp_path
):
    gate = tmp_path / "gate"
    payload = f"echo one; while [ ! -e {gate} ]; do sleep 0.02; done; echo two; exit 9"
    order = server.assign(server.script(payload))
    wait_until(lambda: server.log_lines(order.execution_id) == ["one"])
    agent.kill()
    gate.touch()
    wait_until(lambda: list(agent.folder.glob(f"executions/{order.execution_id}/*/exit")))
    agent.start()
    result = server.result(order.execution_id)
    assert (result.status, result.exit_code) == ("failed", 9)
    assert result.output == "one\ntwo\n"


def test_a_script_whose_end_is_unknown_fails_and_does_not_run_again(server, agent, tmp_path):
    oracle = tmp_path / "oracle"
    order = server.assign(
        server.script(f"echo ran >>{oracle}; sleep 60", restart_policy="on-failure")
    )
    server.await_state(order.execution_id, "running")
    wait_until(oracle.exists)
    agent.kill()
    for pid in processes_of(order.execution_id):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    await_no_process(order.execution_id)
    agent.start()
    result = server.result(order.execution_id)
    assert (result.status, result.error_code) == ("failed", "agent_restarted")
    assert oracle.read_text() == "ran\n"


def test_a_timeout_counts_from_the_start_also_for_an_adopted_script(server, agent):
    order = server.assign(server.script("sleep 60", execution_timeout=4.0))
    server.await_state(order.execution_id, "running")
    agent.kill()
    (leader,) = [pid for pid in processes_of(order.execution_id) if os.getsid(pid) == pid]
    wait_until(lambda: processes.age(processes.started_at(leader)) > 4.0)
    agent.start()
    result = server.result(order.execution_id)
    assert result.status == "timeout"
    # Were it counted from the adoption, eight seconds would pass at least.
    assert result.duration_ms < 8000
    await_no_process(order.execution_id)


def test_an_adopted_script_can_be_stopped(server, agent):
    order = server.assign(server.script("sleep 60"))
    server.await_state(order.execution_id, "running")
    agent.kill()
    agent.start()
    wait_until(lambda: len(server.hellos) == 2)
    server.desire(order.execution_id, 2)
    assert server.result(order.execution_id).status == "cancelled"
    assert server.states(order.execution_id)[-2:] == ["stopping", "stopped"]
    await_no_process(order.execution_id)


def test_reports_that_were_never_committed_are_sent_again_after_a_crash(server, agent):
    server.commits = False
    order = server.assign(server.script("echo hello"))
    wait_until(lambda: any(isinstance(frame, protocol.ResultReport) for frame in server.received))
    agent.kill()
    sent = [frame.seq for frame in server.received]
    server.commits = True
    agent.start()
    assert server.result(order.execution_id).status == "completed"
    assert [frame.seq for frame in server.frames][: len(sent)] == sent


def test_an_assignment_that_was_stopped_while_no_agent_ran_is_not_started(
    server, make_dying, tmp_path
):
    oracle = tmp_path / "oracle"
    agent = make_dying("before_start")
    order = server.assign(server.script(f"echo ran >>{oracle}; sleep 0.5"))
    assert agent.wait() == -9
    agent.start()
    server.desire(order.execution_id, 2)
    result = server.result(order.execution_id)
    assert result.status in {"cancelled", "completed"}
    assert not oracle.exists() or oracle.read_text() == "ran\n"


def test_an_orderly_end_leaves_no_process_and_settles_scripts(server, agent):
    order = server.assign(server.script("sleep 60"))
    server.await_state(order.execution_id, "running")
    assert agent.terminate() == 0
    assert processes_of(order.execution_id) == []
    agent.start()
    result = server.result(order.execution_id)
    assert (result.status, result.error_code) == ("failed", "agent_stopped")
