"""Labels, drains and deletion of nodes: what they change, and what they refuse."""

import pytest
from django.utils import timezone

from access.models import AuditEntry
from access.problems import Refused
from access.services import Actor
from nodes.models import Node, NodeEvent
from nodes.presence import Vitals, is_notable, record_vitals
from nodes.services import (
    Greeting,
    connect_node,
    delete_node,
    drain_node,
    record_facts,
    set_node_labels,
    undrain_node,
)
from rollouts.silence import cordon_drained
from tests.rollouts.rows import make_execution, make_job, make_node, script_spec

pytestmark = pytest.mark.django_db

ADA = Actor(name="ada")


@pytest.fixture
def node():
    return make_node()[0]


def fresh(node):
    return Node.objects.get(pk=node.pk)


def test_what_people_set_wins_over_what_the_agent_reports(node):
    connect_node(node.pk, Greeting(labels={"zone": "north", "tier": "web"}))
    set_node_labels(node.pk, {"zone": "south"}, ADA)
    assert fresh(node).labels == {"zone": "south", "tier": "web"}
    connect_node(node.pk, Greeting(labels={"zone": "east"}))
    assert fresh(node).labels == {"zone": "south"}
    assert AuditEntry.objects.filter(action="node.label", actor="ada").count() == 1


def test_labels_that_are_no_labels_are_refused_from_people_and_left_out_of_reports(node):
    with pytest.raises(Refused) as refused:
        set_node_labels(node.pk, {"not a key": "x"})
    assert refused.value.code == "invalid_value"
    with pytest.raises(Refused):
        set_node_labels(node.pk, {f"k{n}": "x" for n in range(65)})
    connect_node(node.pk, Greeting(labels={"ok": "x", "not a key": "y", "bad": "no value!"}))
    assert fresh(node).labels == {"ok": "x"}


def test_setting_the_same_labels_again_changes_nothing(node):
    first = set_node_labels(node.pk, {"a": "b"})
    assert set_node_labels(node.pk, {"a": "b"}).revision == first.revision


@pytest.mark.parametrize(
    ("greeting", "moves"),
    [
        (Greeting(labels={"a": "b"}), True),
        (Greeting(capabilities={"runtimes": ["shell"]}), True),
        (Greeting(agent_version="2"), False),
    ],
)
def test_only_what_can_move_work_marks_a_node_as_changed(node, greeting, moves):
    connect_node(node.pk, Greeting())
    Node.objects.update(changed_at=None)
    record_facts(node.pk, greeting, None, timezone.now())
    assert (fresh(node).changed_at is not None) == moves


def test_facts_that_every_look_changes_are_kept_and_not_told(node):
    record_facts(node.pk, Greeting(), {"uptime": 1, "kernel_version": "6.1"}, timezone.now())
    told, before = NodeEvent.objects.filter(node=node).count(), fresh(node)
    record_facts(node.pk, Greeting(), {"uptime": 9, "kernel_version": "6.1"}, timezone.now())
    assert fresh(node).facts["uptime"] == 9
    assert fresh(node).revision == before.revision
    assert NodeEvent.objects.filter(node=node).count() == told


def test_an_event_names_what_the_agent_reports_differently(node):
    record_facts(node.pk, Greeting(), {"uptime": 1, "kernel_version": "6.1"}, timezone.now())
    greeting = Greeting(labels={"zone": "east"}, agent_version="2")
    record_facts(node.pk, greeting, {"uptime": 2, "kernel_version": "6.2"}, timezone.now())
    newest = NodeEvent.objects.filter(node=node).latest("pk")
    assert newest.message == "its agent reports other agent version, labels, kernel version"
    assert fresh(node).facts == {"uptime": 2, "kernel_version": "6.2"}


def test_a_second_hello_of_a_connected_node_changes_nothing(node):
    connect_node(node.pk, Greeting(hostname="h"))
    before = fresh(node)
    arrival = connect_node(node.pk, Greeting(hostname="h"))
    assert arrival.away_since is None
    assert fresh(node).revision == before.revision
    assert fresh(node).connected_since == before.connected_since


def test_an_idle_node_is_cordoned_at_once(node):
    drained = drain_node(node.pk, ADA)
    assert drained.scheduling_state == "cordoned"
    kinds = NodeEvent.objects.filter(node=node).order_by("pk").values_list("kind", flat=True)
    assert list(kinds)[-2:] == ["node.draining", "node.cordoned"]


def test_a_drain_waits_for_one_shot_work_only(node):
    pipeline = make_execution(node, observed_state="running")
    script = make_execution(node, make_job(script_spec("once")), observed_state="running")
    assert drain_node(node.pk).scheduling_state == "draining"
    assert cordon_drained() == 0
    type(script).objects.filter(pk=script.pk).update(observed_state="completed")
    assert cordon_drained() == 1
    pipeline.refresh_from_db()
    assert pipeline.observed_state == "running"


def test_a_drain_with_eviction_waits_for_everything(node):
    execution = make_execution(node, observed_state="running")
    assert drain_node(node.pk, evict=True).drain_evicts
    assert cordon_drained() == 0
    type(execution).objects.update(observed_state="stopped")
    assert cordon_drained() == 1


def test_draining_twice_and_undraining_a_ready_node_are_refused(node):
    with pytest.raises(Refused) as refused:
        undrain_node(node.pk)
    assert refused.value.code == "not_draining"
    drain_node(node.pk)
    with pytest.raises(Refused) as refused:
        drain_node(node.pk)
    assert refused.value.code == "already_draining"
    assert undrain_node(node.pk).scheduling_state == "ready"


def test_a_deleted_node_is_gone_for_every_service(node):
    delete_node(node.pk, ADA)
    for service in (delete_node, drain_node, undrain_node):
        with pytest.raises(Refused) as refused:
            service(node.pk)
        assert refused.value.code == "not_found"


def test_vitals_are_written_where_they_differ(node):
    vitals = {node.pk: Vitals(resources={"cpu_percent": 5.0}, conditions=[{"type": "HighLoad"}])}
    record_vitals(vitals)
    first = fresh(node)
    assert first.resource_usage == {"cpu_percent": 5.0}
    assert first.conditions == [{"type": "HighLoad"}]
    record_vitals(vitals)
    assert fresh(node).revision == first.revision


@pytest.mark.parametrize(
    ("resources", "conditions", "notable"),
    [
        ({"cpu_percent": 14.0, "memory_used_bytes": 1000}, [], False),
        ({"cpu_percent": 15.0, "memory_used_bytes": 1000}, [], True),
        ({"cpu_percent": 10.0, "memory_used_bytes": 1049}, [], False),
        ({"cpu_percent": 10.0, "memory_used_bytes": 1100}, [], True),
        ({"cpu_percent": 10.0}, [], True),
        ({"cpu_percent": None, "memory_used_bytes": 1000}, [], True),
        ({"cpu_percent": 10.0, "memory_used_bytes": 1000}, [{"type": "HighLoad"}], True),
    ],
)
def test_a_heartbeat_is_written_when_it_says_something_new(resources, conditions, notable):
    old = Vitals(resources={"cpu_percent": 10.0, "memory_used_bytes": 1000}, conditions=[])
    assert is_notable(old, Vitals(resources=resources, conditions=conditions)) == notable
    assert is_notable(None, old)
