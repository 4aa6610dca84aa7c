"""The benchmarks' simulated fleet carries real rollouts: to their end, and to a halt."""

import asyncio
from datetime import timedelta

import pytest
from django.db import connection

from access.models import Namespace
from bench.agents import Script
from bench.fleet import Fleet, enrol
from nodes.models import Node
from rollouts.models import Execution, Result
from tests.rollouts.fleet import script_of, spec_of, start
from tests.rollouts.servers import in_db, running_server

pytestmark = pytest.mark.django_db(transaction=True)

QUICK = Script(interval=0.05)
HEALTH = {"interval": "1s", "deadline": "30s", "success_threshold": 2, "failure_threshold": 2}


@pytest.fixture
def members(transactional_db):
    """Twenty nodes with keys, and five that are rows alone."""
    Namespace.objects.create(name="prod")

    def execute(statement, parameters):
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    enrol(execute, 5, namespace="prod", prefix="bare", connection="disconnected")
    return enrol(execute, 20, agents=20, namespace="prod", connection="disconnected")


@pytest.fixture
def server(members):
    with running_server() as running:
        yield running


@pytest.fixture
async def fleets(server, members):
    """Connects fleets of the twenty nodes, and ends them."""
    made = []

    async def connected(script=QUICK, **more):
        made.append(fleet := Fleet(server.http, members, script, **more))
        await fleet.connect(20)
        return fleet

    yield connected
    for fleet in made:
        await fleet.close()


async def eventually(function, *args, deadline=60.0):
    """Ask the database until the answer is true."""
    async with asyncio.timeout(deadline):
        while not (answer := await in_db(function, *args)):
            await asyncio.sleep(0.05)
        return answer


def state_of(rollout):
    rollout.refresh_from_db()
    return "" if rollout.state == "active" else rollout.state


def waves(strategy="rolling", **rollout):
    return spec_of(strategy=strategy, health_check=HEALTH, max_parallel=50, **rollout)


async def test_twenty_agents_carry_a_rollout_to_its_end(fleets):
    fleet = await fleets()
    rollout = await in_db(start, waves())
    assert await eventually(state_of, rollout) == "completed"
    stable = Execution.objects.filter(rollout=rollout, stable_at__isnull=False)
    assert await in_db(stable.count) == 20
    assert len(fleet.assignments) == 20


async def test_a_new_version_replaces_the_old_execution_on_each_node(fleets):
    fleet = await fleets()
    first = await in_db(start, waves(mark="v1"))
    await eventually(state_of, first)
    second = await in_db(start, waves(mark="v2"))
    assert await eventually(state_of, second) == "completed"
    assert fleet.reported["stopped"] == 20
    old = Execution.objects.filter(job_version=1, observed_state="stopped")
    assert await in_db(old.count) == 20


async def test_work_that_runs_once_ends_with_its_result(fleets):
    await fleets(scripts={1: Script(fails=True)})
    rollout = await in_db(start, script_of())
    results = Result.objects.filter(execution__rollout=rollout)
    await eventually(lambda: results.count() == 20)
    assert await in_db(results.filter(status="failed").count) == 1


async def test_a_scripted_failure_halts_the_rollout(fleets):
    failing = {number: Script(fails=True) for number in range(1, 21)}
    await fleets(scripts=failing)
    rollout = await in_db(start, waves(max_failed_nodes=1))
    assert await eventually(state_of, rollout) == "halted"


async def test_windows_with_errors_halt_the_rollout(fleets):
    await fleets(Script(interval=0.05, error_rate=0.9, windows=5))
    rollout = await in_db(start, waves(max_failed_nodes=1))
    assert await eventually(state_of, rollout) == "halted"


async def test_a_fleet_that_is_cut_comes_back_and_loses_no_report(fleets):
    fleet = await fleets(Script(interval=0.05, latency=0.5))
    rollout = await in_db(start, waves())
    await fleet.until(lambda: fleet.reported["starting"] >= 5)
    fleet.cut()
    await fleet.until(lambda: fleet.live == 0)
    await fleet.until(lambda: fleet.live == 20)
    assert await eventually(state_of, rollout) == "completed"
    assert {agent.welcomed for agent in fleet.agents} == {2}


async def test_a_node_that_falls_silent_is_noticed(fleets, settings):
    settings.HEARTBEAT_INTERVAL = timedelta(seconds=1)
    settings.DISCONNECTED_AFTER = timedelta(seconds=3)
    settings.START_GRACE = timedelta(0)
    await fleets(scripts={7: Script(silent_after=0.1)})
    silent = Node.objects.filter(connection_state="disconnected", name__startswith="gw-")
    await eventually(silent.exists)
    assert [node.name for node in await in_db(list, silent)] == ["gw-7"]
