"""Agents' sessions on a real server: who may come in, what is told, and what is committed."""

import asyncio
import json
import threading
from datetime import timedelta

import psycopg
import pytest
import websockets
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone

from agent.protocol import Facts, Log, Refused, decode
from jobs.models import Event, Job
from live.push import call_gateways
from nodes.models import IngestClock, Node, NodePresence
from nodes.services import revoke_node
from rollouts.models import Execution, LogChunk
from rollouts.sweeper import LOCK
from tests.rollouts.agent_client import AgentClient, SessionRefusedError, new_key
from tests.rollouts.rows import make_execution, make_job, make_node
from tests.rollouts.servers import in_db, running_server

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def outsider(transactional_db):
    """A connection to the database that is neither the server's nor Django's."""
    with psycopg.connect(**connection.get_connection_params(), autocommit=True) as own:
        yield own


@pytest.fixture
def no_sweep(monkeypatch):
    """No scheduler touches these rows."""
    monkeypatch.setattr("rollouts.gateway.look", lambda: None)
    monkeypatch.setattr("rollouts.gateway.decide", lambda: False)


@pytest.fixture
def server(no_sweep):
    with running_server() as running:
        yield running


@pytest.fixture
async def agent(server):
    node, private = await in_db(make_node)
    client = AgentClient(server.agents, node.pk, private)
    yield client
    if client.socket:
        await client.close()


async def new_execution(agent, **values):
    node = await in_db(Node.objects.get, pk=agent.node_id)
    return await in_db(make_execution, node, **values)


async def stored(execution):
    return await in_db(Execution.objects.get, pk=execution.pk)


async def eventually(function, *args, deadline=60.0, **more):
    """Ask the database until the answer is true."""
    async with asyncio.timeout(deadline):
        while not (answer := await in_db(function, *args, **more)):
            await asyncio.sleep(0.02)
        return answer


def stop(execution):
    """Want an execution stopped, as the scheduler does."""
    with transaction.atomic():
        Execution.objects.filter(pk=execution.pk).update(
            desired_state="stopped", observed_state="stopping", desired_seq=F("desired_seq") + 1
        )
        call_gateways()


# --- Work ----------------------------------------------------------------------------------------


async def test_an_assignment_is_delivered_and_its_reports_are_committed(agent):
    execution = await new_execution(agent)
    await agent.connect()
    assignment = await agent.assigned()
    assert assignment.execution_id == str(execution.pk)
    assert assignment.node_id == agent.node_id
    assert assignment.validates
    await agent.state(execution.pk, "starting")
    await agent.state(execution.pk, "validating")
    await agent.window(execution.pk, 1)
    await agent.committed(await agent.window(execution.pk, 2))
    row = await stored(execution)
    assert row.observed_state == "running"
    assert row.stable_at is not None
    assert row.delivered_seq == row.desired_seq


async def test_work_that_is_placed_later_comes_with_the_doorbell(agent):
    await agent.connect()
    execution = await new_execution(agent)
    await in_db(transaction.atomic()(call_gateways))
    assert (await agent.assigned()).execution_id == str(execution.pk)


async def test_a_stop_reaches_its_node(agent):
    execution = await new_execution(agent)
    await agent.connect()
    await agent.assigned()
    await in_db(stop, execution)
    await agent.until(lambda: agent.desired.get(str(execution.pk)) == 2)
    await agent.committed(await agent.state(execution.pk, "stopped"))
    assert (await stored(execution)).observed_state == "stopped"


async def test_what_was_not_committed_is_sent_again_after_a_lost_connection(agent):
    execution = await new_execution(agent)
    await agent.connect()
    await agent.assigned()
    await agent.state(execution.pk, "starting")
    await agent.close()
    await agent.connect()
    await agent.committed(await agent.state(execution.pk, "validating"))
    assert (await stored(execution)).observed_state == "validating"
    steps = Event.objects.order_by("job_seq").values_list("details__new_state", flat=True)
    assert await in_db(list, steps) == ["starting", "validating"]


async def test_a_node_without_its_journal_is_told_everything_again(agent):
    execution = await new_execution(agent)
    await agent.connect()
    await agent.assigned()
    await agent.committed(await agent.state(execution.pk, "starting"))
    await agent.close()
    agent.forget_returned()
    await agent.connect(running=[])
    assert (await agent.assigned()).execution_id == str(execution.pk)


async def test_what_the_server_does_not_know_is_given_up(agent):
    unknown = "00000000-0000-7000-8000-000000000000"
    agent.desired[unknown] = 4
    await agent.connect()
    await agent.until(lambda: agent.desired[unknown] == 5)


async def test_the_newer_session_of_a_node_replaces_the_older(agent, server):
    await agent.connect()
    other = AgentClient(server.agents, agent.node_id, agent.private)
    await other.connect()
    await asyncio.wait_for(agent.socket.wait_closed(), 10)
    execution = await new_execution(agent)
    assert (await other.assigned()).execution_id == str(execution.pk)
    await other.close()


# --- Who may come in -----------------------------------------------------------------------------


async def test_only_the_nodes_own_key_opens_a_session(agent):
    agent.private, _ = new_key()
    with pytest.raises(SessionRefusedError, match="bad_signature"):
        await agent.connect()


async def test_a_node_that_waits_for_acceptance_gets_no_session(server):
    node, private = await in_db(make_node, auto_accept=False)
    with pytest.raises(SessionRefusedError, match="not_accepted") as refused:
        await AgentClient(server.agents, node.pk, private).connect()
    assert refused.value.frame.retry_after > 0


@pytest.mark.parametrize("node_id", ["00000000-0000-7000-8000-000000000000", "x"])
async def test_an_unknown_node_gets_no_session(server, node_id):
    with pytest.raises(SessionRefusedError, match="unknown_node"):
        await AgentClient(server.agents, node_id, new_key()[0]).connect()


async def test_another_protocol_gets_no_session(agent):
    with pytest.raises(SessionRefusedError, match="not_accepted"):
        await agent.connect(protocol=2)


async def test_a_browser_is_refused(server):
    with pytest.raises(websockets.InvalidStatus):
        await websockets.connect(server.agents, origin="http://127.0.0.1", proxy=None)


async def test_whoever_does_not_begin_with_hello_is_refused(server):
    async with websockets.connect(server.agents, proxy=None) as socket:
        await socket.recv()
        await socket.send("{}")
        assert isinstance(decode(await socket.recv()), Refused)


async def test_the_session_of_a_revoked_node_ends(agent):
    await agent.connect()
    await in_db(revoke_node, agent.node_id)
    await asyncio.wait_for(agent.socket.wait_closed(), 10)
    with pytest.raises(SessionRefusedError, match="not_accepted"):
        await agent.connect()


# --- Presence and facts --------------------------------------------------------------------------


async def test_a_session_makes_its_node_connected_and_is_heard(agent):
    await agent.connect(labels={"zone": "north"}, capabilities={"runtimes": ["shell"]})
    node = await in_db(Node.objects.get)
    assert node.connection_state == "connected"
    assert node.labels == {"zone": "north"}
    assert node.capabilities == {"runtimes": ["shell"]}
    assert node.changed_at is not None
    first = (await in_db(NodePresence.objects.get)).last_seen_at
    await agent.heartbeat(resources={"cpu_percent": 50.0})
    assert await eventually(NodePresence.objects.filter(last_seen_at__gt=first).exists)
    assert await eventually(IngestClock.objects.filter(last_ok_at__gt=first).exists)


async def test_facts_are_stored_and_acknowledged(agent):
    await agent.connect()
    await agent.committed(await agent.report(Facts, facts={"kernel": "6"}, labels={"a": "b"}))
    node = await in_db(Node.objects.get)
    assert (node.facts, node.labels) == ({"kernel": "6"}, {"a": "b"})


async def test_a_clock_stands_still_while_its_node_is_away(agent):
    now = timezone.now()
    execution = await new_execution(agent, deadline_at=now, released_at=now - timedelta(hours=1))
    await in_db(
        Node.objects.update,
        connection_state="disconnected",
        disconnected_since=now - timedelta(seconds=40),
    )
    await agent.connect()
    moved = (await stored(execution)).deadline_at - now
    assert timedelta(seconds=40) <= moved < timedelta(seconds=50)


# --- When things go wrong ------------------------------------------------------------------------


async def test_nonsense_neither_ends_a_session_nor_blocks_it(agent):
    execution = await new_execution(agent)
    await agent.connect()
    for text in ("no json", "[]", '{"type":"state"}', '{"type":"nothing"}', '{"seq":"x"}'):
        await agent.socket.send(text)
    agent.seq += 1
    await agent.socket.send(json.dumps({"type": "newer", "seq": agent.seq}))
    await agent.committed(agent.seq)
    await agent.committed(await agent.state(execution.pk, "starting"))
    assert (await stored(execution)).observed_state == "starting"


async def test_a_frame_that_the_database_refuses_does_not_hold_back_the_others(agent):
    job = await in_db(make_job)
    first = await new_execution(agent, job=job, observed_state="running", desired_state="stopped")
    second = await new_execution(agent, job=job)
    other = await new_execution(agent)
    await agent.connect()
    await agent.state(second.pk, "starting")  # two live ones of one job: an agent that lies
    await agent.committed(await agent.state(other.pk, "starting"))
    assert (await stored(first)).observed_state == "running"
    assert (await stored(second)).observed_state == "pending"
    assert (await stored(other)).observed_state == "starting"


@pytest.fixture
def cut_all(outsider):
    """End every connection to the database but this one and the tests' own."""
    connection.ensure_connection()
    kept = connection.connection.info.backend_pid

    def cut():
        outsider.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid NOT IN (pg_backend_pid(), %s)",
            [kept],
        )

    yield cut
    connection.close_pool()


async def test_reports_outlive_the_loss_of_every_database_connection(cut_all, agent):
    execution = await new_execution(agent)
    await agent.connect()
    await agent.assigned()
    last = 0
    for number in range(1, 31):
        if number % 10 == 0:
            cut_all()
        last = await agent.report(
            Log, execution_id=str(execution.pk), number=number, stream="stdout", lines=["x"]
        )
    await agent.committed(last)
    assert LogChunk.objects.count() == 30


async def test_it_serves_without_a_lifespan(no_sweep):
    with running_server(lifespan="off") as server:
        node, private = await in_db(make_node)
        execution = await in_db(make_execution, node)
        agent = AgentClient(server.agents, node.pk, private)
        await agent.connect()
        assert (await agent.assigned()).execution_id == str(execution.pk)
        await agent.close()


async def test_many_nodes_report_at_once(server):
    job = await in_db(make_job)
    pairs = await in_db(lambda: [make_node() for _ in range(30)])
    agents = [AgentClient(server.agents, node.pk, private) for node, private in pairs]
    for node, _ in pairs:
        await in_db(make_execution, node, job)
    await asyncio.gather(*(agent.connect() for agent in agents))
    await asyncio.gather(*(agent.assigned() for agent in agents))

    async def work(agent):
        (execution_id,) = agent.assignments
        for state in ("starting", "validating"):
            await agent.state(execution_id, state)
        await agent.window(execution_id, 1)
        await agent.committed(await agent.window(execution_id, 2))
        await agent.close()

    await asyncio.gather(*(work(agent) for agent in agents))
    assert await in_db(Execution.objects.filter(observed_state="running").count) == 30


@pytest.mark.parametrize("others_look", [False, True])
async def test_what_is_due_is_done_without_a_message(outsider, others_look):
    """Also while another process, which may be stopped, has the right to look at the fleet."""
    if others_look:
        outsider.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    job = await in_db(make_job)
    await in_db(Job.objects.update, reconcile_due_at=timezone.now())
    with running_server():
        await eventually(Job.objects.filter(pk=job.pk).exclude(state="pending").exists)


async def test_what_is_due_is_decided_while_looking_takes_long(monkeypatch):
    looked = threading.Event()
    monkeypatch.setattr("rollouts.gateway.look", lambda: looked.wait(120))
    with running_server():
        job = await in_db(make_job)
        await in_db(Job.objects.update, reconcile_due_at=timezone.now())
        try:
            await eventually(Job.objects.filter(pk=job.pk).exclude(state="pending").exists)
        finally:
            looked.set()


async def test_reports_wait_while_the_database_is_of_another_version(agent, outsider):
    execution = await new_execution(agent)
    await agent.connect()
    await agent.assigned()
    outsider.execute("ALTER TABLE rollouts_execution RENAME COLUMN restarts TO restarted")
    try:
        last = await agent.state(execution.pk, "starting")
        with pytest.raises(TimeoutError):
            await agent.committed(last, deadline=0.5)
    finally:
        outsider.execute("ALTER TABLE rollouts_execution RENAME COLUMN restarted TO restarts")
    await agent.committed(last)
    assert (await stored(execution)).observed_state == "starting"
