"""When a silent node counts as disconnected or lost, and when silence proves nothing."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from nodes.models import IngestClock, IngestGap, Node, NodeEvent, NodePresence
from nodes.presence import record_presence, tick_ingest_clock
from nodes.services import Greeting, connect_node, mark_silent_nodes
from tests.rollouts.rows import make_node

pytestmark = pytest.mark.django_db

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
LOST = 30 * SECOND + 5 * MINUTE
START = timezone.now()


@pytest.fixture(autouse=True)
def clock():
    """The control plane has been listening for a day."""
    return IngestClock.objects.create(pk=1, last_ok_at=START, started_at=START - timedelta(days=1))


def connected(count=1, namespace="prod"):
    nodes = [make_node(namespace)[0] for _ in range(count)]
    for node in nodes:
        connect_node(node.pk, Greeting(), START)
    record_presence({node.pk: START for node in nodes}, "gateway", claim=True)
    return nodes


def state(node):
    return Node.objects.get(pk=node.pk).connection_state


def test_a_node_is_disconnected_strictly_after_thirty_seconds():
    (node,) = connected()
    mark_silent_nodes(START + 30 * SECOND)
    assert state(node) == "connected"
    mark_silent_nodes(START + 30 * SECOND + timedelta(microseconds=1))
    stored = Node.objects.get()
    assert stored.connection_state == "disconnected"
    assert stored.disconnected_since == START
    assert stored.revision == node.revision + 2
    assert stored.changed_at is not None
    assert NodeEvent.objects.filter(kind="node.disconnected").count() == 1


def test_a_node_is_lost_strictly_after_five_minutes_of_disconnection():
    (node,) = connected()
    mark_silent_nodes(START + MINUTE)
    mark_silent_nodes(START + LOST)
    assert state(node) == "disconnected"
    mark_silent_nodes(START + LOST + timedelta(microseconds=1))
    assert state(node) == "lost"


def test_a_node_that_comes_back_was_away_since_it_was_last_heard():
    (node,) = connected()
    mark_silent_nodes(START + MINUTE)
    arrival = connect_node(node.pk, Greeting(), START + 2 * MINUTE)
    assert arrival.away_since == START
    assert state(node) == "connected"
    assert Node.objects.get().connected_since == START + 2 * MINUTE


def test_time_in_which_nobody_could_be_heard_is_taken_off():
    (node,) = connected()
    IngestGap.objects.create(started_at=START + 5 * SECOND, ended_at=START + 10 * MINUTE)
    mark_silent_nodes(START + 10 * MINUTE + 24 * SECOND)
    assert state(node) == "connected"
    mark_silent_nodes(START + 10 * MINUTE + 26 * SECOND)
    assert state(node) == "disconnected"
    mark_silent_nodes(START + 14 * MINUTE)
    assert state(node) == "disconnected"
    mark_silent_nodes(START + 16 * MINUTE)
    assert state(node) == "lost"


def test_a_gap_before_the_last_heartbeat_excuses_nothing():
    (node,) = connected()
    IngestGap.objects.create(started_at=START - MINUTE, ended_at=START - SECOND)
    mark_silent_nodes(START + 31 * SECOND)
    assert state(node) == "disconnected"


def test_nothing_is_marked_in_the_grace_after_a_start(clock):
    (node,) = connected()
    IngestClock.objects.update(started_at=START)
    mark_silent_nodes(START + 90 * SECOND)
    assert state(node) == "connected"
    mark_silent_nodes(START + 91 * SECOND)
    assert state(node) == "disconnected"


def test_nothing_is_marked_before_the_control_plane_ever_listened():
    connected()
    IngestClock.objects.all().delete()
    assert mark_silent_nodes(START + timedelta(days=1)) == 0


def test_when_much_of_a_namespace_falls_silent_the_brake_holds_for_twice_the_time():
    nodes = connected(10)
    others = connected(1, "lab")
    record_presence({node.pk: START + 20 * MINUTE for node in nodes[3:]}, "gateway")
    mark_silent_nodes(START + MINUTE)
    mark_silent_nodes(START + 6 * MINUTE)
    assert {state(node) for node in nodes[:3]} == {"disconnected"}
    assert state(others[0]) == "lost"
    mark_silent_nodes(START + 2 * LOST + SECOND)
    assert {state(node) for node in nodes[:3]} == {"lost"}
    assert {state(node) for node in nodes[3:]} == {"connected"}


def test_a_fifth_of_a_namespace_is_lost_without_the_brake():
    nodes = connected(10)
    record_presence({node.pk: START + 20 * MINUTE for node in nodes[2:]}, "gateway")
    mark_silent_nodes(START + MINUTE)
    mark_silent_nodes(START + 6 * MINUTE)
    assert {state(node) for node in nodes[:2]} == {"lost"}


def test_the_number_of_queries_does_not_grow_with_the_fleet():
    connected(1)
    with CaptureQueriesContext(connection) as one:
        mark_silent_nodes(START + MINUTE)
    connected(30)
    with CaptureQueriesContext(connection) as many:
        assert mark_silent_nodes(START + 2 * MINUTE) == 30
    assert len(many) == len(one)


# --- The clock and who holds a session -----------------------------------------------------------


def test_a_jump_of_the_clock_is_a_gap_and_begins_the_grace_anew(clock):
    for second in range(1, 6):
        tick_ingest_clock(START + second * SECOND)
    assert not IngestGap.objects.exists()
    tick_ingest_clock(START + 5 * SECOND + MINUTE)
    gap = IngestGap.objects.get()
    assert (gap.started_at, gap.ended_at) == (START + 5 * SECOND, START + 5 * SECOND + MINUTE)
    assert IngestClock.objects.get().started_at == gap.ended_at


def test_the_clock_never_goes_back():
    tick_ingest_clock(START + MINUTE)
    tick_ingest_clock(START)
    assert IngestClock.objects.get().last_ok_at == START + MINUTE


def test_a_node_belongs_to_the_gateway_that_claimed_it_last():
    (node,) = connected()
    record_presence({node.pk: START + SECOND}, "second", claim=True)
    assert record_presence({node.pk: START + MINUTE}, "gateway") == set()
    assert record_presence({node.pk: START + 2 * SECOND}, "second") == {node.pk}
    assert NodePresence.objects.get().last_seen_at == START + 2 * SECOND


def test_presence_never_goes_back():
    (node,) = connected()
    record_presence({node.pk: START - MINUTE}, "gateway")
    assert NodePresence.objects.get().last_seen_at == START
