"""REST for nodes and enrolment tokens: shapes, filters, permissions, refusals, audit."""

import uuid

import pytest

from access.models import AuditEntry
from nodes.models import EnrolmentToken, Node
from tests.rollouts import fleet
from tests.rollouts.rows import make_execution, make_node

pytestmark = pytest.mark.django_db
NODES = "/api/v1/nodes"
TOKENS = "/api/v1/enrolment-tokens"


def names(answer):
    assert answer.status_code == 200, answer.content
    return [item["spec"]["name"] for item in answer.json()["items"]]


def code(answer):
    return answer.status_code, answer.json()["code"]


@pytest.fixture
def node(cast):
    return fleet.make_nodes(1, labels={"region": "fra"})[0]


def test_a_node_has_the_seeds_members(node, rest_as):
    make_execution(node)
    body = rest_as("vera").get(f"{NODES}/{node.pk}").json()
    assert set(body) == {"id", "namespace", "spec", "status", "identity"}
    assert {
        "name", "hostname", "os", "arch", "agent_version", "labels", "hardware_fingerprint",
        "capabilities",
    } <= set(body["spec"])  # fmt: skip
    assert {
        "connection_state", "connected_since", "disconnected_since", "last_heartbeat", "message",
        "revision", "last_edge_seq_num", "last_orchestrator_seq_num", "resource_usage",
    } <= set(body["status"])  # fmt: skip
    assert body["status"]["badge"] == "ready"
    assert body["status"]["active_executions"] == 1
    assert body["status"]["last_heartbeat"].endswith("Z")
    assert body["identity"]["fingerprint"] == node.fingerprint


def test_the_list_is_filtered_and_scoped(node, rest_as):
    (lost,) = fleet.make_nodes(1, prefix="waw", connection="lost")
    (foreign,) = fleet.make_nodes(1, "lab")
    vera = rest_as("vera")
    assert names(vera.get(NODES)) == sorted([node.name, lost.name])
    assert names(rest_as("nils").get(NODES)) == []
    for query, wanted in (
        ("labels=region in (fra,par)", [node.name]),
        ("labels=!region", [lost.name]),
        ("badge=lost,pending", [lost.name]),
        ("connection_state=connected", [node.name]),
        ("scheduling_state=cordoned", []),
        ("enrolment_state=accepted&name=waw", [lost.name]),
        ("namespace=lab", []),
    ):
        assert names(vera.get(f"{NODES}?{query}")) == wanted, query
    assert names(rest_as("ada").get(f"{NODES}?namespace=lab")) == [foreign.name]
    assert code(vera.get(f"{NODES}?labels=a in ()")) == (422, "invalid_selector")
    assert code(vera.get(f"{NODES}?lable=x")) == (400, "unknown_parameter")
    assert rest_as().get(NODES).status_code == 401


def test_deleted_nodes_are_listed_on_request_alone(node, rest_as):
    ada = rest_as("ada")
    assert ada.delete(f"{NODES}/{node.pk}").status_code == 204
    assert names(ada.get(NODES)) == []
    assert names(ada.get(f"{NODES}?connection_state=deleted")) == [node.name]
    assert ada.get(f"{NODES}/{node.pk}").json()["status"]["badge"] == "deleted"
    assert ada.get(f"{NODES}/{node.name}").status_code == 404
    assert ada.post(f"{NODES}/{node.pk}/drain").status_code == 404


def test_pages_neither_skip_nor_repeat(cast, rest_as):
    fleet.make_nodes(5)
    vera, seen, token = rest_as("vera"), [], ""
    for _ in range(3):
        body = vera.get(f"{NODES}?limit=2&next_token={token}").json()
        seen += [item["id"] for item in body["items"]]
        token = body["next_token"]
    assert token == ""
    assert len(seen) == len(set(seen)) == 5


def test_the_list_asks_a_fixed_number_of_queries(cast, rest_as, django_assert_max_num_queries):
    vera = rest_as("vera")
    for count in (5, 45):
        fleet.make_nodes(count)
        with django_assert_max_num_queries(6):
            vera.get(f"{NODES}?limit=100")


def test_a_name_shared_by_two_nodes_needs_the_namespace(node, rest_as):
    (other,) = fleet.make_nodes(1, "lab")
    Node.objects.filter(pk=other.pk).update(name=node.name)
    ada = rest_as("ada")
    assert code(ada.get(f"{NODES}/{node.name}")) == (409, "conflict")
    assert ada.get(f"{NODES}/{node.name}?namespace=lab").json()["id"] == str(other.pk)
    assert rest_as("vera").get(f"{NODES}/{node.name}").json()["id"] == str(node.pk)


def test_what_is_foreign_or_missing_is_not_found(node, rest_as):
    for key in (node.pk, node.name, uuid.uuid4(), "no-such-node"):
        for name in ("nils",) if key in (node.pk, node.name) else ("nils", "vera"):
            assert code(rest_as(name).get(f"{NODES}/{key}")) == (404, "not_found")


@pytest.mark.parametrize("verb", ["drain", "undrain", "accept", "reject", "revoke"])
def test_changing_needs_agent_write(node, rest_as, verb):
    for name in ("otto", "vera"):
        assert code(rest_as(name).post(f"{NODES}/{node.pk}/{verb}")) == (403, "forbidden")
    assert code(rest_as("nils").post(f"{NODES}/{node.pk}/{verb}")) == (404, "not_found")
    cut = rest_as("ada", scopes=["agent:read"])
    assert code(cut.post(f"{NODES}/{node.pk}/{verb}")) == (403, "forbidden")


# --- Labels --------------------------------------------------------------------------------------


def patch(client, node, labels, **headers):
    return client.patch(f"{NODES}/{node.pk}", {"labels": labels}, format="json", **headers)


def test_labels_are_set_and_null_takes_them_away(node, rest_as):
    ada = rest_as("ada")
    assert patch(ada, node, {"a": "1", "region": "par"}).status_code == 200
    body = patch(ada, node, {"a": None, "b": "2"}).json()
    assert body["spec"]["operator_labels"] == {"region": "par", "b": "2"}
    assert body["spec"]["labels"] == {"role": "gateway", "region": "par", "b": "2"}
    assert AuditEntry.objects.filter(action="node.label", actor="ada").count() == 2


def test_a_revision_that_is_gone_is_refused(node, rest_as):
    ada = rest_as("ada")
    etag = ada.get(f"{NODES}/{node.pk}")["ETag"]
    assert patch(ada, node, {"a": "1"}, HTTP_IF_MATCH=etag).status_code == 200
    assert code(patch(ada, node, {"a": "2"}, HTTP_IF_MATCH=etag)) == (412, "stale_revision")
    assert code(patch(ada, node, {"a": "2"}, HTTP_IF_MATCH='"x"')) == (422, "invalid_value")
    node.refresh_from_db()
    assert node.operator_labels == {"a": "1"}


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        ({"labels": {"not a key": "x"}}, "invalid_value"),
        ({"labels": {"a": "no value!"}}, "invalid_value"),
        ({"labels": {"a": 1}}, "invalid_type"),
        ({"labels": []}, "invalid_type"),
        ({"label": {}}, "unknown_field"),
    ],
)
def test_what_are_no_labels_is_refused(node, rest_as, body, wanted):
    answer = rest_as("ada").patch(f"{NODES}/{node.pk}", body, format="json")
    assert code(answer) == (422, wanted)


# --- Scheduling and trust ------------------------------------------------------------------------


def test_drain_and_undrain(node, rest_as):
    ada = rest_as("ada")
    body = ada.post(f"{NODES}/{node.pk}/drain", {"evict": True}, format="json").json()
    assert (body["status"]["badge"], body["status"]["drain_evicts"]) == ("cordoned", True)
    assert code(ada.post(f"{NODES}/{node.pk}/drain")) == (409, "already_draining")
    body = ada.post(f"{NODES}/{node.pk}/undrain").json()
    assert (body["status"]["badge"], body["status"]["drain_evicts"]) == ("ready", False)
    assert code(ada.post(f"{NODES}/{node.pk}/undrain")) == (409, "not_draining")
    wrong = ada.post(f"{NODES}/{node.pk}/drain", {"evict": "yes"}, format="json")
    assert code(wrong) == (422, "invalid_type")
    actions = AuditEntry.objects.filter(object_id=str(node.pk)).values_list("action", flat=True)
    assert sorted(actions) == ["node.drain", "node.undrain"]


def test_pending_nodes_are_accepted_by_their_fingerprint(cast, rest_as):
    node, _ = make_node(auto_accept=False)
    ada = rest_as("ada")
    assert names(ada.get(f"{NODES}/pending")) == [node.name]
    other = ada.post(f"{NODES}/{node.pk}/accept", {"fingerprint": "sha256:0"}, format="json")
    assert code(other) == (409, "conflict")
    said = {"fingerprint": node.fingerprint}
    body = ada.post(f"{NODES}/{node.pk}/accept", said, format="json").json()
    assert body["status"]["enrolment_state"] == "accepted"
    assert body["identity"]["enrolled_by"] == "ada"
    assert names(ada.get(f"{NODES}/pending")) == []
    assert code(ada.post(f"{NODES}/{node.pk}/reject")) == (409, "conflict")
    assert ada.post(f"{NODES}/{node.pk}/revoke").json()["status"]["badge"] == "revoked"


def test_history_is_read_by_pages(node, rest_as):
    ada = rest_as("ada")
    ada.post(f"{NODES}/{node.pk}/drain")
    ada.post(f"{NODES}/{node.pk}/undrain")
    body = rest_as("vera").get(f"{NODES}/{node.name}/history?limit=2").json()
    assert [event["kind"] for event in body["items"]] == ["node.undrained", "node.cordoned"]
    rest = rest_as("vera").get(
        f"{NODES}/{node.name}/history", {"limit": 2, "next_token": body["next_token"]}
    )
    assert [event["kind"] for event in rest.json()["items"]] == ["node.draining"]


# --- Enrolment tokens ----------------------------------------------------------------------------


def test_a_token_is_shown_once_and_ended(cast, rest_as):
    ada = rest_as("ada")
    said = {"namespace": "prod", "labels": {"zone": "a"}, "max_uses": 2, "ttl": "30d"}
    answer = ada.post(TOKENS, said, format="json")
    assert answer.status_code == 201
    made = answer.json()
    assert made["token"].startswith("jse_")
    assert (made["labels"], made["max_uses"], made["auto_accept"]) == ({"zone": "a"}, 2, False)
    (listed,) = rest_as("vera").get(TOKENS).json()["items"]
    assert listed == {name: made[name] for name in made if name != "token"}
    assert code(rest_as("otto").delete(f"{TOKENS}/{made['id']}")) == (403, "forbidden")
    assert code(rest_as("nils").delete(f"{TOKENS}/{made['id']}")) == (404, "not_found")
    assert ada.delete(f"{TOKENS}/{made['id']}").status_code == 204
    assert not EnrolmentToken.objects.exists()
    actions = AuditEntry.objects.filter(object_kind="enrolment_token", actor="ada")
    assert sorted(entry.action for entry in actions) == [
        "enrolment_token.issue", "enrolment_token.revoke",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"ttl": "31d"}, (422, "invalid_value")),
        ({"ttl": "soon"}, (422, "invalid_value")),
        ({"ttl": 0}, (422, "invalid_value")),
        ({"ttl": True}, (422, "invalid_type")),
        ({"max_uses": 0}, (422, "invalid_value")),
        ({"max_uses": "3"}, (422, "invalid_type")),
        ({"auto_accept": 1}, (422, "invalid_type")),
        ({"labels": {"a": None}}, (422, "invalid_type")),
        ({"labels": {"not a key": "x"}}, (422, "invalid_value")),
        ({"uses": 3}, (422, "unknown_field")),
        ({"namespace": "nowhere"}, (404, "not_found")),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(cast, rest_as, said, wanted):
    answer = rest_as("ada").post(TOKENS, {"namespace": "prod"} | said, format="json")
    assert code(answer) == wanted
    assert not EnrolmentToken.objects.exists()


def test_making_tokens_needs_agent_write(cast, rest_as):
    assert code(rest_as("otto").post(TOKENS, {"namespace": "prod"}, format="json")) == (
        403, "forbidden",
    )  # fmt: skip
