"""A herd of agents comes back at once: each is judged by its own key, all by few statements."""

import base64
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from agent.protocol import Desired, Hello, Refused, session_message
from nodes.models import Node, NodeEvent, NodePresence
from nodes.services import revoke_node
from rollouts.admission import Admission, Knock, admit_all
from rollouts.models import Execution
from tests.rollouts.rows import make_execution, make_job, make_node

pytestmark = pytest.mark.django_db
NONCE = "a challenge of this session"


def knock(node_id, private, **values):
    """A hello as the node with this key would sign it."""
    signature = private.sign(session_message(NONCE, str(node_id)))
    said = {"boot_id": "b", "agent_version": "2", "hostname": "h", "os": "linux", "arch": "arm64"}
    hello = Hello(
        node_id=str(node_id), signature=base64.b64encode(signature).decode(), **(said | values)
    )
    return Knock(hello=hello, nonce=NONCE)


def herd(count):
    return [make_node() for _ in range(count)]


def codes(answers):
    """Give what each was told: the code of its refusal, or nothing."""
    return [answer.code if isinstance(answer, Refused) else "" for answer in answers]


def test_a_herd_comes_in_each_with_its_own_welcome():
    nodes = herd(5)
    Node.objects.filter(pk=nodes[3][0].pk).update(last_edge_seq_num=7)
    answers = admit_all([knock(node.pk, private) for node, private in nodes], "gateway")
    assert [answer.node_id for answer in answers] == [node.pk for node, _ in nodes]
    assert [answer.welcome.node_id for answer in answers] == [str(node.pk) for node, _ in nodes]
    assert [answer.welcome.last_up_seq for answer in answers] == [0, 0, 0, 7, 0]
    assert set(Node.objects.values_list("connection_state", "arch")) == {("connected", "arm64")}
    assert NodePresence.objects.filter(gateway="gateway").count() == 5
    came = NodeEvent.objects.filter(kind="node.connected").values_list("node_id", flat=True)
    assert sorted(came) == sorted(node.pk for node, _ in nodes)


def test_one_that_may_not_come_in_holds_up_nobody():
    (good, key), (pending, its_key), (revoked, old_key) = (
        make_node(),
        make_node(auto_accept=False),
        make_node(),
    )
    revoke_node(revoked.pk)
    answers = admit_all(
        [
            knock(good.pk, its_key),
            knock(pending.pk, its_key),
            knock(revoked.pk, old_key),
            knock("00000000-0000-7000-8000-000000000000", key),
            knock("x", key),
            knock(good.pk, key, protocol=9),
            knock(good.pk, key),
        ],
        "gateway",
    )
    assert codes(answers) == [
        "bad_signature",
        "not_accepted",
        "not_accepted",
        "unknown_node",
        "unknown_node",
        "not_accepted",
        "",
    ]
    assert list(Node.objects.filter(connection_state="connected")) == [good]


def test_of_two_sessions_of_one_node_the_newer_is_opened():
    node, private = make_node()
    first, second = knock(node.pk, private), knock(node.pk, private, agent_version="3")
    answers = admit_all([first, second], "gateway")
    assert codes(answers) == ["busy", ""]
    assert Node.objects.get().agent_version == "3"


def test_each_node_answers_for_what_is_its_own():
    (one, key), (other, other_key) = make_node(), make_node()
    lost = make_execution(one, delivered_seq=1)
    kept = make_execution(other, delivered_seq=1)

    def says(execution):
        return [{"execution_id": str(execution.pk), "desired_seq": 1}]

    # The first has lost its own execution and holds the other's; the other has its own.
    answers = admit_all(
        [knock(one.pk, key, running=says(kept)), knock(other.pk, other_key, running=says(kept))],
        "gateway",
    )
    give_up = Desired(execution_id=str(kept.pk), desired_state="stopped", desired_seq=2)
    assert [answer.frames for answer in answers] == [[give_up], []]
    assert Execution.objects.get(pk=lost.pk).delivered_seq == 0
    assert Execution.objects.get(pk=kept.pk).delivered_seq == 1


def test_each_clock_goes_on_by_the_time_that_its_own_node_was_away():
    now = timezone.now()
    job, nodes = make_job(), herd(3)
    for seconds, (node, _) in zip((10, 50, None), nodes, strict=True):
        make_execution(node, job, deadline_at=now, released_at=now - timedelta(hours=1))
        if seconds:
            away = {"disconnected_since": now - timedelta(seconds=seconds)}
            Node.objects.filter(pk=node.pk).update(connection_state="disconnected", **away)
        else:
            Node.objects.filter(pk=node.pk).update(connection_state="connected")
    admit_all([knock(node.pk, private) for node, private in nodes], "gateway", now)
    moved = {row.node_id: (row.deadline_at - now).seconds for row in Execution.objects.all()}
    assert [moved[node.pk] for node, _ in nodes] == [10, 50, 0]


@pytest.mark.parametrize("values", [{"capabilities": {"a\x00": "\ud800"}}, {"os": "\x00"}])
def test_words_that_the_database_cannot_hold_keep_nobody_out(values):
    node, private = make_node()
    (answer,) = admit_all([knock(node.pk, private, **values)], "gateway")
    assert isinstance(answer, Admission)


def test_the_number_of_statements_does_not_grow_with_the_herd():
    seen = {}
    for count in (2, 60):
        nodes = herd(count)
        for node, _ in nodes:
            make_execution(node, delivered_seq=1)
            away = timezone.now() - timedelta(seconds=40)
            Node.objects.filter(pk=node.pk).update(
                connection_state="disconnected", disconnected_since=away
            )
        knocks = [knock(node.pk, private) for node, private in nodes]
        with CaptureQueriesContext(connection) as queries:
            assert set(codes(admit_all(knocks, "gateway"))) == {""}
        seen[count] = len(queries)
    assert seen[2] == seen[60] < 15
