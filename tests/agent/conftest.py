"""Fixtures of the agent's tests: a small control plane and nodes that talk to it."""

import contextlib

import pytest

from tests.agent.nodes import AgentProcess
from tests.agent.stub import stub_server


@pytest.fixture
def server():
    """A control plane on loopback."""
    with stub_server() as running:
        yield running


@pytest.fixture
def make_agent(tmp_path, server):
    """Make agents of this test; what still runs at its end is ended."""
    made = []

    def make(*options, folder="node", **more):
        agent = AgentProcess(tmp_path / folder, server, *options, **more)
        made.append(agent)
        return agent

    yield make
    for agent in made:
        if agent.process is not None and agent.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                agent.terminate()


@pytest.fixture
def agent(make_agent):
    """A running agent."""
    return make_agent().start()
