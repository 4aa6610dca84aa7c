"""An agent's session on a real server: from its hello to a committed report."""

import pytest

from rollouts.models import Execution
from tests.rollouts.agent_client import AgentClient
from tests.rollouts.rows import make_execution, make_node
from tests.rollouts.servers import in_db, running_server

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def server(transactional_db):
    with running_server() as running:
        yield running


async def test_an_assignment_is_delivered_and_its_reports_are_committed(server):
    node, private = await in_db(make_node)
    execution = await in_db(make_execution, node)
    agent = AgentClient(server.agents, node.pk, private)
    await agent.connect()
    assignment = await agent.assigned()
    assert assignment.execution_id == str(execution.pk)
    assert assignment.node_id == str(node.pk)
    await agent.state(execution.pk, "starting")
    await agent.state(execution.pk, "validating")
    await agent.window(execution.pk, 1)
    last = await agent.window(execution.pk, 2)
    await agent.committed(last)
    stored = await in_db(Execution.objects.get, pk=execution.pk)
    assert stored.observed_state == "running"
    assert stored.stable_at is not None
    assert stored.delivered_seq == stored.desired_seq
    await agent.close()
