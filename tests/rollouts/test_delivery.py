"""What nodes are told: which desired states, in which words, under which signature."""

import base64
import json
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agent.protocol import Assign, Desired, open_envelope, pre_authentication, to_assignment
from nodes.keys import control_key
from rollouts.delivery import meet_node, undelivered
from rollouts.models import Execution
from tests.rollouts.rows import make_execution, make_job, make_node, pipeline_spec, script_spec

pytestmark = pytest.mark.django_db

UNKNOWN = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def node():
    return make_node()[0]


def told(*nodes, **more):
    return undelivered([node.pk for node in nodes], timezone.now(), **more)


def opened(order):
    assert isinstance(order.frame, Assign)
    payload, signature, fingerprint = open_envelope(order.frame.envelope)
    key = control_key()
    assert fingerprint == key.fingerprint
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.public_key))
    public.verify(signature, pre_authentication(payload))
    return to_assignment(json.loads(payload))


def test_a_pipeline_is_assigned_with_its_health_interval(node):
    job = make_job(pipeline_spec("flow", interval=5_000_000_000))
    old = make_execution(node, job, desired_state="stopped", desired_seq=2, delivered_seq=2)
    execution = make_execution(node, job, previous=old)
    (order,) = told(node)
    assignment = opened(order)
    assert assignment.execution_id == str(execution.pk)
    assert assignment.previous_execution_id == str(old.pk)
    assert assignment.config == {"input": {"generate": {}}, "output": {"drop": {}}}
    assert (assignment.interval, assignment.validates) == (5.0, True)
    assert assignment.execution_timeout is None
    assert assignment.restart_policy == "on-failure"


def test_a_script_is_assigned_with_its_environment_and_its_limit(node):
    make_execution(node, make_job(script_spec("once")))
    assignment = opened(told(node)[0])
    assert assignment.env == {"A": "1"}
    assert assignment.execution_timeout == 60.0
    assert (assignment.validates, assignment.restart_policy) == (False, "never")


def test_an_immediate_job_and_a_resurrected_execution_are_not_validated(node):
    make_execution(node, make_job(pipeline_spec("a", strategy="immediate")))
    make_execution(node, make_job(pipeline_spec("b")), stable_at=timezone.now())
    assert [opened(order).validates for order in told(node)] == [False, False]


def test_a_stop_is_told_in_the_clear(node):
    execution = make_execution(node, desired_state="stopped", desired_seq=3, delivered_seq=1)
    (order,) = told(node)
    assert order.frame == Desired(
        execution_id=str(execution.pk), desired_state="stopped", desired_seq=3
    )


def test_what_is_confirmed_pending_or_another_nodes_is_not_told(node):
    make_execution(node, delivered_seq=1)
    make_execution(node, desired_state="pending")
    make_execution(make_node()[0])
    assert told(node) == []


def test_what_was_told_a_moment_ago_is_left_out_until_it_changes(node):
    execution = make_execution(node)
    skip = {(execution.pk, 1)}
    assert told(node, skip=skip) == []
    Execution.objects.update(desired_seq=2)
    assert [order.desired_seq for order in told(node, skip=skip)] == [2]


def test_every_assignment_has_a_nonce_of_its_own_and_an_end(node):
    make_execution(node)
    first, second = opened(told(node)[0]), opened(told(node)[0])
    assert first.nonce != second.nonce
    assert first.expires_at > first.not_before


def test_the_number_of_queries_does_not_grow_with_the_wave(node):
    job = make_job()
    nodes = [make_node()[0] for _ in range(40)]
    for each in nodes:
        make_execution(each, job)
    told(nodes[0])
    with CaptureQueriesContext(connection) as one:
        assert len(told(nodes[0])) == 1
    with CaptureQueriesContext(connection) as many:
        assert len(told(*nodes)) == 40
    assert len(many) == len(one)


# --- Hello ---------------------------------------------------------------------------------------


def test_what_a_node_lacks_is_told_again(node):
    has = make_execution(node, delivered_seq=1, observed_state="running")
    lacks = make_execution(node, delivered_seq=1, observed_state="running")
    outdated = make_execution(node, desired_seq=3, delivered_seq=3, observed_state="stopping")
    ended = make_execution(node, delivered_seq=1, observed_state="completed")
    known = {str(has.pk): 1, str(outdated.pk): 2}
    assert meet_node(node.pk, known, None, timezone.now()) == []
    delivered = dict(Execution.objects.values_list("pk", "delivered_seq"))
    assert delivered == {has.pk: 1, lacks.pk: 0, outdated.pk: 0, ended.pk: 1}


def test_what_is_not_of_this_node_is_to_be_given_up(node):
    foreign = make_execution(make_node()[0])
    own = make_execution(node, observed_state="failed", desired_state="stopped")
    known = {str(foreign.pk): 1, UNKNOWN: 0, str(own.pk): 1}
    frames = meet_node(node.pk, known, None, timezone.now())
    assert {(f.execution_id, f.desired_state) for f in frames} == {
        (str(foreign.pk), "stopped"),
        (UNKNOWN, "stopped"),
    }


@pytest.mark.parametrize(
    ("away", "moved"),
    [(10, 10), (40, 40), (100, 60), (5000, 60)],
)
def test_a_clock_is_held_while_its_node_is_away_up_to_its_cap(node, away, moved):
    now = timezone.now()
    released = now - timedelta(hours=1)
    execution = make_execution(
        node,
        released_at=released,
        deadline_at=now,
        deadline_cap_at=now + timedelta(seconds=60),
    )
    meet_node(node.pk, {}, now - timedelta(seconds=away), now)
    execution.refresh_from_db()
    expected = min(timedelta(seconds=moved), timedelta(seconds=60))
    assert execution.deadline_at - now == expected


def test_a_clock_that_began_while_its_node_was_away_is_held_from_its_beginning(node):
    now = timezone.now()
    execution = make_execution(
        node, released_at=now - timedelta(seconds=5), deadline_at=now, deadline_cap_at=None
    )
    meet_node(node.pk, {}, now - timedelta(seconds=300), now)
    execution.refresh_from_db()
    assert execution.deadline_at - now == timedelta(seconds=5)
