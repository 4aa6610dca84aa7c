"""Pipelines under a real agent: windows, the agent's crash, its orderly end (docs/semantics.md 1.10)."""

import pytest

from agent import protocol
from tests.agent.nodes import await_no_process, processes_of
from tests.waiting import wait_until

pytestmark = pytest.mark.engine

STEADY = {
    "input": {"generate": {"mapping": "root.n = counter()", "interval": "50ms"}},
    "output": {"drop": {}},
}


@pytest.fixture
def pipeline(server, agent):
    return server.assign(
        server.assignment(
            job_type="pipeline",
            config=STEADY,
            restart_policy="on-failure",
            execution_timeout=None,
            interval=0.5,
            validates=True,
        )
    )


def windows(server, order):
    return server.of(order.execution_id, protocol.WindowReport)


def test_a_pipeline_validates_and_its_windows_arrive_numbered(server, pipeline):
    wait_until(lambda: len(windows(server, pipeline)) >= 3, 30)
    assert server.states(pipeline.execution_id) == ["starting", "validating"]
    found = windows(server, pipeline)
    assert [window.number for window in found] == list(range(1, len(found) + 1))
    assert sum(window.messages_in for window in found) > 0
    assert all(window.process_alive and window.errors == 0 for window in found)
    server.desire(pipeline.execution_id, 2)
    server.await_state(pipeline.execution_id, "stopped")
    await_no_process(pipeline.execution_id)


def test_a_pipeline_dies_with_its_agent_and_goes_on_with_the_next(server, agent, pipeline):
    wait_until(lambda: windows(server, pipeline), 30)
    agent.kill()
    await_no_process(pipeline.execution_id)
    agent.start()
    wait_until(lambda: server.states(pipeline.execution_id).count("validating") == 2, 30)
    states = server.of(pipeline.execution_id, protocol.State)
    assert [(s.observed_state, s.restarts) for s in states] == [
        ("starting", 0),
        ("validating", 0),
        ("starting", 1),
        ("validating", 1),
    ]
    assert states[2].details["restarted_at"]
    count = len(windows(server, pipeline))
    wait_until(lambda: len(windows(server, pipeline)) > count + 1, 30)
    numbers = [window.number for window in windows(server, pipeline)]
    assert numbers == sorted(set(numbers))
    assert any(window.restarts for window in windows(server, pipeline))


def test_an_orderly_end_stops_the_pipeline_and_reports_no_change(server, agent, pipeline):
    wait_until(lambda: windows(server, pipeline), 30)
    assert agent.terminate(30) == 0
    assert processes_of(pipeline.execution_id) == []
    assert server.states(pipeline.execution_id) == ["starting", "validating"]
    agent.start()
    wait_until(lambda: server.states(pipeline.execution_id).count("validating") == 2, 30)


def test_a_pipeline_that_cannot_be_is_refused_with_the_engines_words(server, agent):
    order = server.assign(
        server.assignment(
            job_type="pipeline",
            config={"input": {"no_such_input": {}}, "output": {"drop": {}}},
            restart_policy="always",
            execution_timeout=None,
        )
    )
    result = server.result(order.execution_id, 30)
    assert result.status == "failed"
    assert "no_such_input" in result.error
    assert server.states(order.execution_id) == ["starting", "failed"]
    assert server.of(order.execution_id, protocol.State)[-1].error_code == "invalid_config"
