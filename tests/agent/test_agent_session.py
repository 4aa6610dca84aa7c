"""A real agent process enrols, connects, runs scripts and reports."""

from agent import protocol
from tests.agent.nodes import await_no_process


def test_an_agent_enrols_connects_runs_a_script_and_reports(server, agent):
    order = server.assign(server.script("echo hello; echo oops >&2; exit 3"))
    result = server.result(order.execution_id)
    assert (result.status, result.exit_code) == ("failed", 3)
    assert (result.output, result.error) == ("hello\n", "oops\n")
    assert server.states(order.execution_id) == ["starting", "running", "failed"]
    assert server.log_lines(order.execution_id) == ["hello"]
    assert [ack.desired_seq for ack in server.of(order.execution_id, protocol.Ack)] == [1]
    await_no_process(order.execution_id)
