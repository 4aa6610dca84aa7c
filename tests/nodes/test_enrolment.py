"""How a machine joins: its token, the proof of its key, and the administrator's word."""

import base64
import hashlib
from datetime import timedelta

import pytest
from django.utils import timezone

from access.models import Namespace
from access.problems import Refused
from agent.protocol import enrol_message
from nodes.enrolment import Newcomer, enrol_node, issue_enrolment_token
from nodes.keys import KeyRefused, control_key, fingerprint_of, read_public_key
from nodes.models import EnrolmentToken, Node
from nodes.services import accept_node, delete_node, reject_node, revoke_node
from tests.rollouts.agent_client import new_key

pytestmark = pytest.mark.django_db

PRIME = 2**255 - 19
ORDER_8 = [
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
]


@pytest.fixture
def token():
    Namespace.objects.create(name="prod")
    return issue_enrolment_token("prod", labels={"zone": "north"}, max_uses=2)


def body(private, public, token, **more):
    values = {
        "machine_id": "machine-1",
        "hostname": "edge-1",
        "public_key": public,
        "nonce": "n" * 32,
        "token": token,
        "labels": {"zone": "south", "tier": "web", "bad key!": "x"},
        "os": "linux",
        "arch": "amd64",
    } | more
    message = enrol_message(values["machine_id"], values["public_key"], values["nonce"])
    signature = base64.b64encode(private.sign(message)).decode()
    return {"signature": signature} | values


def enrol(client, value):
    return client.post("/agent/v1/enroll", value, content_type="application/json")


def newcomer(public, machine_id="machine-1"):
    return Newcomer(machine_id=machine_id, public_key=public, hostname="edge-1")


def test_a_token_alone_gives_a_pending_node_and_its_labels_win(client, token):
    private, public = new_key()
    answer = enrol(client, body(private, public, token))
    assert answer.status_code == 202
    assert answer.json()["state"] == "pending"
    node = Node.objects.get(pk=answer.json()["node_id"])
    assert node.labels == {"zone": "north", "tier": "web"}
    assert node.namespace_id == "prod"
    assert node.fingerprint == fingerprint_of(base64.b64decode(public))


def test_an_accepted_machine_learns_it_by_asking_again_without_a_token(client, token):
    private, public = new_key()
    first = enrol(client, body(private, public, token)).json()
    accept_node(first["node_id"])
    answer = enrol(client, body(private, public, ""))
    assert answer.status_code == 200
    assert answer.json()["node_id"] == first["node_id"]
    assert answer.json()["control_public_key"] == control_key().public_key
    assert EnrolmentToken.objects.get().uses == 1


def test_a_request_that_is_not_signed_by_its_key_is_refused(client, token):
    private, public = new_key()
    _, other = new_key()
    value = body(private, public, token) | {"public_key": other}
    answer = enrol(client, value)
    assert answer.status_code == 403
    assert answer.json()["code"] == "signature_invalid"
    assert not Node.objects.exists()


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("hostname", "", "invalid_spec"),
        ("hostname", 7, "invalid_type"),
        ("hostname", "a\nb", "invalid_value"),
        ("nonce", "short", "invalid_value"),
        ("labels", ["a"], "invalid_type"),
    ],
)
def test_a_malformed_request_names_the_member(client, token, name, value, code):
    private, public = new_key()
    answer = enrol(client, body(private, public, token) | {name: value})
    assert answer.json()["code"] == code
    assert answer.json()["errors"][0]["path"] == f"/{name}"


def test_only_the_digest_of_a_token_is_stored(token):
    stored = EnrolmentToken.objects.get()
    assert stored.digest == hashlib.sha256(token.encode()).hexdigest()


def test_a_token_works_as_often_as_it_says(token):
    for number in (1, 2):
        enrol_node(token, newcomer(new_key()[1], f"machine-{number}"))
    with pytest.raises(Refused) as refused:
        enrol_node(token, newcomer(new_key()[1], "machine-3"))
    assert refused.value.code == "unauthenticated"


def test_a_token_dies_with_its_time(token):
    later = timezone.now() + timedelta(hours=1, seconds=1)
    with pytest.raises(Refused) as refused:
        enrol_node(token, newcomer(new_key()[1]), later)
    assert refused.value.code == "unauthenticated"


def test_a_live_machine_does_not_get_another_key(token):
    enrol_node(token, newcomer(new_key()[1]))
    with pytest.raises(Refused) as refused:
        enrol_node(token, newcomer(new_key()[1]))
    assert refused.value.code == "conflict"


def test_a_revoked_machine_joins_anew_with_another_key_only(token):
    _, public = new_key()
    node = enrol_node(token, newcomer(public))
    accept_node(node.pk)
    revoke_node(node.pk)
    with pytest.raises(Refused) as refused:
        enrol_node(token, newcomer(public))
    assert refused.value.code == "forbidden"
    again = enrol_node(token, newcomer(new_key()[1]))
    assert again.pk != node.pk


def test_a_rejected_machine_stays_out_until_an_administrator_accepts_it(token):
    _, public = new_key()
    node = enrol_node(token, newcomer(public))
    reject_node(node.pk)
    with pytest.raises(Refused):
        enrol_node(token, newcomer(public))
    accept_node(node.pk)
    assert enrol_node("", newcomer(public)).pk == node.pk


def test_a_deleted_machine_is_a_new_node(token):
    _, public = new_key()
    node = enrol_node(token, newcomer(public))
    delete_node(node.pk)
    assert enrol_node(token, newcomer(public)).pk != node.pk


def test_accepting_with_the_wrong_fingerprint_is_refused(token):
    node = enrol_node(token, newcomer(new_key()[1]))
    with pytest.raises(Refused):
        accept_node(node.pk, fingerprint="sha256:" + "0" * 64)
    accept_node(node.pk, fingerprint=node.fingerprint)
    with pytest.raises(Refused):
        reject_node(node.pk)


@pytest.mark.parametrize(
    "raw",
    [
        *(bytes.fromhex(text) for text in ORDER_8),
        *(y.to_bytes(32, "little") for y in (0, 1, PRIME - 1, PRIME, PRIME + 1)),
        (1 | 1 << 255).to_bytes(32, "little"),
        b"short",
    ],
    ids=lambda raw: raw.hex()[:12],
)
def test_keys_that_would_sign_anything_are_refused(raw):
    with pytest.raises(KeyRefused):
        read_public_key(base64.b64encode(raw).decode())


def test_the_points_of_order_eight_are_negatives_of_each_other():
    first, second = (int.from_bytes(bytes.fromhex(text), "little") for text in ORDER_8)
    assert first + second == PRIME


def test_the_control_key_is_private_to_its_user_and_stays(tmp_path, settings):
    settings.CONTROL_KEY_FILE = tmp_path / "deep" / "key"
    made = control_key()
    assert settings.CONTROL_KEY_FILE.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in settings.CONTROL_KEY_FILE.parent.iterdir()] == ["key"]
    assert control_key().public_key == made.public_key
