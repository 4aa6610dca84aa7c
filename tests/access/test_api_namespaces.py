"""REST for namespaces and for one's own API tokens."""

import pytest
from rest_framework.test import APIClient

from access.models import ApiToken, AuditEntry, Namespace
from tests.factories import RoleBindingFactory
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db
SPACES = "/api/v1/namespaces"
TOKENS = "/api/v1/tokens"


def code(answer):
    return answer.status_code, answer.json()["code"]


def names(answer):
    return [item["name"] for item in answer.json()["items"]]


def test_people_see_their_own_namespaces(cast, rest_as):
    assert names(rest_as("ada").get(SPACES)) == ["lab", "prod"]
    assert names(rest_as("vera").get(SPACES)) == ["prod"]
    assert names(rest_as("nils").get(SPACES)) == []
    assert rest_as("vera").get(f"{SPACES}/prod").json()["name"] == "prod"
    assert code(rest_as("vera").get(f"{SPACES}/lab")) == (404, "not_found")
    assert rest_as().get(SPACES).status_code == 401


def test_an_administrator_makes_changes_and_deletes_one(cast, rest_as):
    ada = rest_as("ada")
    said = {"name": "edge-eu.1", "description": "Shops"}
    assert ada.post(SPACES, said, format="json").status_code == 201
    changed = ada.patch(
        f"{SPACES}/edge-eu.1", {"require_signatures": True, "min_signatures": 2}, format="json"
    ).json()
    assert (changed["description"], changed["min_signatures"]) == ("Shops", 2)
    assert changed["require_signatures"] is True
    assert ada.delete(f"{SPACES}/edge-eu.1").status_code == 204
    assert not Namespace.objects.filter(name="edge-eu.1").exists()
    entries = AuditEntry.objects.filter(object_kind="namespace", actor="ada").order_by("id")
    assert [entry.action for entry in entries] == [
        "namespace.create", "namespace.change", "namespace.delete",
    ]  # fmt: skip


def test_one_that_has_nodes_is_not_deleted(cast, rest_as):
    fleet.make_nodes(1)
    assert code(rest_as("ada").delete(f"{SPACES}/prod")) == (409, "conflict")
    assert Namespace.objects.filter(name="prod").exists()
    assert not AuditEntry.objects.filter(action="namespace.delete").exists()


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"name": "Prod"}, (422, "invalid_value")),
        ({"name": ""}, (422, "invalid_value")),
        ({}, (422, "invalid_value")),
        ({"name": "a" * 64}, (422, "invalid_value")),
        ({"name": "prod"}, (409, "conflict")),
        ({"name": 7}, (422, "invalid_type")),
        ({"name": "x", "min_signatures": 0}, (422, "invalid_value")),
        ({"name": "x", "owner": "ada"}, (422, "unknown_field")),
    ],
)
def test_what_is_no_namespace_is_refused(cast, rest_as, said, wanted):
    assert code(rest_as("ada").post(SPACES, said, format="json")) == wanted
    assert Namespace.objects.count() == 2


def test_changing_needs_namespace_write_and_making_needs_it_everywhere(cast, rest_as):
    for name in ("otto", "vera"):
        rest = rest_as(name)
        assert code(rest.post(SPACES, {"name": "new"}, format="json")) == (403, "forbidden")
        assert code(rest.patch(f"{SPACES}/prod", {}, format="json")) == (403, "forbidden")
        assert code(rest.delete(f"{SPACES}/prod")) == (403, "forbidden")
        assert code(rest.delete(f"{SPACES}/lab")) == (404, "not_found")


def test_the_admin_of_one_namespace_makes_no_other(cast, rest_as):
    RoleBindingFactory(user=cast.nils, role="admin", namespace=Namespace.objects.get(name="lab"))
    nils = rest_as("nils")
    assert code(nils.post(SPACES, {"name": "new"}, format="json")) == (403, "forbidden")
    assert nils.patch(f"{SPACES}/lab", {"description": "x"}, format="json").status_code == 200


# --- Tokens --------------------------------------------------------------------------------------


def test_a_token_works_until_it_is_revoked(cast, rest_as):
    vera = rest_as("vera")
    answer = vera.post(TOKENS, {"name": "ci", "ttl": "7d"}, format="json")
    assert answer.status_code == 201
    made = answer.json()
    other = APIClient()
    other.credentials(HTTP_AUTHORIZATION=f"Bearer {made['token']}")
    listed = other.get(TOKENS).json()["items"]
    assert sorted(item["name"] for item in listed) == ["ci", "test"]
    assert all("token" not in item for item in listed)
    assert code(rest_as("otto").delete(f"{TOKENS}/{made['id']}")) == (404, "not_found")
    assert vera.delete(f"{TOKENS}/{made['id']}").status_code == 204
    assert other.get(TOKENS).status_code == 401


def test_a_token_that_was_cut_down_makes_none_that_reaches_further(cast, rest_as):
    cut = rest_as("ada", scopes=["agent:read", "job:read"])
    further = cut.post(TOKENS, {"name": "x", "scopes": ["agent:write"]}, format="json")
    assert code(further) == (403, "forbidden")
    made = cut.post(TOKENS, {"name": "x"}, format="json").json()
    assert made["scopes"] == ["agent:read", "job:read"]
    less = cut.post(TOKENS, {"name": "y", "scopes": ["job:read"]}, format="json").json()
    assert less["scopes"] == ["job:read"]


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({}, (422, "invalid_spec")),
        ({"name": "x", "ttl": "366d"}, (422, "invalid_value")),
        ({"name": "x", "ttl": -1}, (422, "invalid_value")),
        ({"name": "x", "scopes": ["all"]}, (422, "invalid_value")),
        ({"name": "x", "scopes": "job:read"}, (422, "invalid_type")),
        ({"name": "x", "owner": "ada"}, (422, "unknown_field")),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(cast, rest_as, said, wanted):
    vera = rest_as("vera")
    before = ApiToken.objects.count()
    assert code(vera.post(TOKENS, said, format="json")) == wanted
    assert ApiToken.objects.count() == before
