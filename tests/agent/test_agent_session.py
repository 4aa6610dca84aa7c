"""A real agent process enrols, connects, runs scripts and reports."""

import base64
import os
import socket
import time
from pathlib import Path

import pytest

from agent import keys, protocol
from agent.reports import timestamp
from tests.agent.nodes import await_no_process
from tests.waiting import wait_until


def test_an_agent_enrols_connects_runs_a_script_and_reports(server, agent):
    order = server.assign(server.script("echo hello; echo oops >&2; exit 3"))
    result = server.result(order.execution_id)
    assert (result.status, result.exit_code) == ("failed", 3)
    assert (result.output, result.error) == ("hello\n", "oops\n")
    assert server.states(order.execution_id) == ["starting", "running", "failed"]
    assert server.log_lines(order.execution_id) == ["hello"]
    assert [ack.desired_seq for ack in server.of(order.execution_id, protocol.Ack)] == [1]
    await_no_process(order.execution_id)


def test_a_node_waits_until_it_is_accepted(server, make_agent):
    server.enrolment_answers = [(202, {}), (503, {}), (202, {}), (200, {})]
    agent = make_agent("--token", "t0ken", "--label", "tier=edge").start()
    wait_until(lambda: server.is_connected, 30)
    assert len(server.enrolments) == 4
    first, *others = server.enrolments
    assert all(other["machine_id"] == first["machine_id"] for other in others)
    assert len({body["nonce"] for body in server.enrolments}) == 4
    assert (first["token"], first["labels"], first["name"]) == ("t0ken", {"tier": "edge"}, "edge-1")
    assert server.hellos[0].labels == {"tier": "edge"}
    assert "waiting for an administrator" in agent.output()


def test_an_enrolled_node_does_not_enrol_again(server, agent):
    wait_until(lambda: server.is_connected)
    assert agent.terminate() == 0
    agent.start()
    wait_until(lambda: len(server.hellos) == 2)
    assert len(server.enrolments) == 1
    assert server.hellos[0].node_id == server.hellos[1].node_id


@pytest.mark.parametrize(
    "answer", [(401, {"detail": "unknown token"}), (403, {"code": "invalid_token"})]
)
def test_a_bad_token_ends_the_agent_with_a_clear_message(server, make_agent, answer):
    server.enrolment_answers = [answer]
    agent = make_agent("--token", "wrong").start()
    assert agent.wait() == 2
    assert "refused this node" in agent.output()
    assert not (agent.folder / "node.json").exists()


def test_a_second_agent_on_the_same_folder_is_refused(server, make_agent, agent):
    wait_until(lambda: server.is_connected)
    assert make_agent().start().wait() == 3


def test_another_key_of_the_control_plane_is_never_accepted(server, agent, tmp_path):
    wait_until(lambda: server.is_connected)
    server.shown_key = base64.b64encode(keys.public_key(bytes(32))).decode()
    server.cut()
    wait_until(lambda: "not the one that was pinned" in agent.output())
    (agent.folder / "node.json").unlink()
    agent.terminate()
    server.seed = bytes(32)
    server.public = server.shown_key
    agent.start()
    assert agent.wait() == 2
    assert len(server.hellos) >= 2


def test_a_refused_session_waits_as_long_as_it_is_told(server, agent):
    wait_until(lambda: server.is_connected)
    server.refusal = protocol.Refused(code="busy", message="later", retry_after=1.5)
    server.cut()
    wait_until(lambda: "refused (busy): later" in agent.output())
    refused_at = time.monotonic()
    server.refusal = None
    wait_until(lambda: len(server.hellos) == 2)
    assert time.monotonic() - refused_at > 1.4


def test_what_was_not_committed_is_sent_again_in_order_and_only_once_counted(server, agent):
    first = server.assign(server.script("echo one"))
    server.result(first.execution_id)
    server.commits = False
    second = server.assign(server.script("echo two"))
    wait_until(
        lambda: any(
            isinstance(frame, protocol.ResultReport) and frame.execution_id == second.execution_id
            for frame in server.received
        )
    )
    committed = server.last_up_seq
    uncommitted = [frame.seq for frame in server.received if frame.seq > committed]
    server.cut()
    server.commits = True
    assert server.result(second.execution_id).output == "two\n"
    numbers = [frame.seq for frame in server.frames]
    assert numbers == sorted(set(numbers))
    assert [seq for seq in numbers if seq > committed][: len(uncommitted)] == uncommitted
    assert len(server.of(first.execution_id, protocol.ResultReport)) == 1


def test_a_committed_report_is_never_sent_again(server, agent):
    order = server.assign(server.script("echo one"))
    server.result(order.execution_id)
    wait_until(lambda: server.received[-1].seq == server.last_up_seq)
    count = len(server.received)
    server.cut()
    wait_until(lambda: len(server.hellos) == 2)
    later = server.assign(server.script("echo two"))
    server.result(later.execution_id)
    assert all(frame.execution_id == later.execution_id for frame in server.received[count:])


def test_work_goes_on_and_is_kept_while_the_control_plane_is_away(server, agent, tmp_path):
    gate = tmp_path / "gate"
    order = server.assign(
        server.script(f"while [ ! -e {gate} ]; do sleep 0.02; done; echo offline; exit 5")
    )
    server.await_state(order.execution_id, "running")
    server.go_offline()
    gate.touch()
    await_no_process(order.execution_id)
    server.come_back()
    result = server.result(order.execution_id, 30)
    assert (result.status, result.exit_code, result.output) == ("failed", 5, "offline\n")
    assert server.log_lines(order.execution_id) == ["offline"]


def test_a_frame_that_comes_twice_acts_once(server, agent, tmp_path):
    order = server.script(f"echo ran >>{tmp_path}/oracle")
    frame = protocol.Assign(envelope=server.envelope(order))
    for _ in range(3):
        server.send(frame)
    server.result(order.execution_id)
    later = server.assign(server.script("true"))
    server.result(later.execution_id)
    assert (tmp_path / "oracle").read_text() == "ran\n"
    assert len(server.of(order.execution_id, protocol.ResultReport)) == 1


def test_the_window_of_an_assignment_is_judged_by_the_control_planes_clock(server, make_agent):
    server.server_time = timestamp(time.time() + 86_400)
    make_agent().start()
    wait_until(lambda: server.is_connected)
    stale = server.assign(server.script("true"))
    assert server.result(stale.execution_id).error_code == "assignment_signature_invalid"
    tomorrow = {
        "not_before": timestamp(time.time() + 86_390),
        "expires_at": timestamp(time.time() + 86_460),
    }
    fresh = server.assign(server.script("true", **tomorrow))
    assert server.result(fresh.execution_id).status == "completed"


def test_heartbeats_and_facts_say_how_the_machine_is(server, agent):
    wait_until(
        lambda: sum(isinstance(frame, protocol.Heartbeat) for frame in server.unnumbered) >= 3
    )
    beat = next(f for f in server.unnumbered if isinstance(f, protocol.Heartbeat))
    assert 0 < beat.resources["memory_used_bytes"] < beat.resources["memory_capacity_bytes"]
    assert 0 <= beat.resources["cpu_percent"] <= 100
    assert {condition["type"] for condition in beat.conditions} == {
        "MemoryPressure",
        "HighLoad",
        "DiskPressure",
        "JournalFull",
    }
    facts = next(f for f in server.unnumbered if isinstance(f, protocol.Facts)).facts
    assert facts["cpu_count"] == os.cpu_count()
    assert facts["hostname"] == socket.gethostname()
    assert server.hellos[0].capabilities["runtimes"] == ["exec", "python", "shell"]


def test_frames_that_make_no_sense_end_the_session_but_not_the_agent(server, agent):
    wait_until(lambda: server.is_connected)
    server.send_text("nonsense")
    wait_until(lambda: len(server.hellos) == 2)
    order = server.assign(server.script("true"))
    assert server.result(order.execution_id).status == "completed"


def test_an_idle_agent_is_small(server, make_agent):
    # What measures coverage takes memory of its own.
    agent = make_agent(env={"COVERAGE_PROCESS_CONFIG": "", "COVERAGE_PROCESS_START": ""}).start()
    wait_until(lambda: len(server.unnumbered) >= 10)
    rollup = Path(f"/proc/{agent.process.pid}/smaps_rollup").read_text()
    private = sum(
        int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_")
    )
    assert private / 1024 < 20
