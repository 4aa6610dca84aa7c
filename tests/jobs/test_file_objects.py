"""File objects: stored once under their name, seen in one's namespaces, sent with operations."""

import base64
import hashlib

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import IntegrityError, transaction

from access.models import AuditEntry, Namespace
from access.problems import Refused
from access.services import Actor, delete_namespace
from jobs.models import FileObject
from jobs.object_queries import contents_of, missing_objects, object_named, with_objects
from jobs.objects import MAX_BYTES, Upload, delete_object, put_object

pytestmark = pytest.mark.django_db
FILES = "/api/v1/files"
CONF = "nginx/site.conf"
ACTOR = Actor(name="otto")


def code(answer):
    return answer.status_code, answer.json()["code"]


def names(answer):
    assert answer.status_code == 200, answer.content
    return [item["name"] for item in answer.json()["items"]]


def put(client, name=CONF, query="", **more):
    said = {"name": name, "namespace": "prod", "content": "a"} | more
    return client.post(f"{FILES}{query}", said, format="json")


def store(name=CONF, content=b"a", namespace="prod", **more):
    upload = Upload(namespace=namespace, name=name, content=content, **more)
    return put_object(ACTOR, upload).row


# --- Storing -------------------------------------------------------------------------------------


def test_a_new_file_is_stored_with_what_is_known_of_it(rest_as):
    answer = put(rest_as("otto"), content="ü\n", content_type="template")
    assert answer.status_code == 201
    body = answer.json()
    assert body["changed"] is True
    row = FileObject.objects.get()
    assert bytes(row.content) == "ü\n".encode()
    assert body["object"] == {
        "id": str(row.pk),
        "namespace": "prod",
        "name": CONF,
        "content_type": "template",
        "size": 3,
        "sha256": hashlib.sha256("ü\n".encode()).hexdigest(),
        "created_by": "otto",
        "created_at": body["object"]["created_at"],
        "updated_by": "otto",
        "updated_at": body["object"]["created_at"],
    }


def test_the_same_content_again_changes_nothing(rest_as):
    first = put(rest_as("otto")).json()["object"]
    for query in ("", "?force=1"):
        answer = put(rest_as("ada"), query=query)
        assert answer.status_code == 200
        assert answer.json() == {"object": first, "changed": False}
    assert AuditEntry.objects.filter(action="file.put").count() == 1


@pytest.mark.parametrize("other", [{"content": "b"}, {"content_type": "template"}])
def test_another_content_needs_force(rest_as, other):
    put(rest_as("otto"))
    assert code(put(rest_as("ada"), **other)) == (409, "conflict")
    assert FileObject.objects.get().updated_by == "otto"
    answer = put(rest_as("ada"), query="?force=1", **other)
    assert (answer.status_code, answer.json()["changed"]) == (200, True)
    made = answer.json()["object"]
    assert (made["created_by"], made["updated_by"]) == ("otto", "ada")
    assert made["updated_at"] > made["created_at"]
    row = FileObject.objects.get()
    assert bytes(row.content).decode() == other.get("content", "a")
    assert (row.content_type, row.sha256) == (made["content_type"], made["sha256"])


def test_any_bytes_come_in_base64_or_by_a_form(rest_as):
    data = bytes(range(256))
    said = {"name": "a", "namespace": "prod", "content_base64": base64.b64encode(data).decode()}
    assert rest_as("otto").post(FILES, said, format="json").status_code == 201
    form = {"name": "b", "namespace": "prod", "file": SimpleUploadedFile("x.bin", data)}
    assert rest_as("otto").post(FILES, form, format="multipart").status_code == 201
    assert [bytes(row.content) for row in FileObject.objects.all()] == [data, data]


def test_an_empty_file_is_a_file(rest_as):
    assert put(rest_as("otto"), content="").status_code == 201


def test_the_namespace_is_default_unless_given(rest_as):
    Namespace.objects.create(name="default")
    answer = rest_as("ada").post(FILES, {"name": "a", "content": "a"}, format="json")
    assert answer.json()["object"]["namespace"] == "default"


@pytest.mark.parametrize(
    ("said", "wanted"),
    [
        ({"name": ""}, "invalid_spec"),
        ({"name": 1}, "invalid_type"),
        ({"name": "/etc/passwd"}, "invalid_value"),
        ({"name": "../x"}, "invalid_value"),
        ({"name": "a/../x"}, "invalid_value"),
        ({"name": "a/./x"}, "invalid_value"),
        ({"name": "a//x"}, "invalid_value"),
        ({"name": "a/"}, "invalid_value"),
        ({"name": "a b"}, "invalid_value"),
        ({"name": "ü"}, "invalid_value"),
        ({"name": "a\n"}, "invalid_value"),
        ({"name": "n" * 256}, "invalid_value"),
        ({"content_type": "binary"}, "invalid_value"),
        ({"content": 1}, "invalid_type"),
        ({"content_base64": "YQ=="}, "invalid_value"),
        ({"contents": "a"}, "unknown_field"),
    ],
)
def test_what_makes_no_sense_is_refused(rest_as, said, wanted):
    assert code(put(rest_as("otto"), **said)) == (422, wanted)
    assert not FileObject.objects.exists()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({}, "invalid_spec"),
        ({"content_base64": "no base64!"}, "invalid_value"),
        ({"content_base64": "/w==", "content_type": "template"}, "invalid_value"),
        ({"file": "a text"}, "invalid_type"),
    ],
)
def test_a_content_that_cannot_be_read_is_refused(rest_as, content, wanted):
    said = {"name": "a", "namespace": "prod", **content}
    assert code(rest_as("otto").post(FILES, said, format="json")) == (422, wanted)


def test_names_may_be_long_and_have_dots(cast):
    for name in ("n" * 255, "a..b/...", ".hidden", "-x"):
        assert store(name).name == name


def test_the_products_own_names_are_forbidden_and_the_try_is_kept(rest_as):
    assert code(put(rest_as("ada"), "jobsite/agent")) == (403, "forbidden")
    assert AuditEntry.objects.filter(outcome="denied", actor="ada").exists()
    assert put(rest_as("ada"), "jobsite-agent").status_code == 201


def test_a_file_has_at_most_a_mebibyte(rest_as):
    form = {"namespace": "prod", "name": "a"}
    most = SimpleUploadedFile("a", b"x" * MAX_BYTES)
    more = SimpleUploadedFile("a", b"x" * (MAX_BYTES + 1))
    far_more = SimpleUploadedFile("a", b"x" * (3 * MAX_BYTES))
    otto = rest_as("otto")
    assert otto.post(FILES, form | {"file": most}, format="multipart").status_code == 201
    for file in (more, far_more):
        answer = otto.post(FILES, form | {"file": file}, format="multipart")
        assert code(answer) == (413, "body_too_large")


def test_a_form_of_very_many_fields_is_malformed(rest_as):
    form = {f"field-{number}": "x" for number in range(1001)}
    answer = rest_as("otto").post(FILES, form, format="multipart")
    assert code(answer) == (400, "malformed_body")


# --- Reading and deleting ------------------------------------------------------------------------


def test_a_file_is_read_by_its_name(rest_as):
    row = store(content=b"\x00\xff")
    vera = rest_as("vera")
    assert vera.get(f"{FILES}/{CONF}").json()["sha256"] == row.sha256
    answer = vera.get(f"{FILES}/{CONF}?content=1")
    assert answer.content == b"\x00\xff"
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"] == 'attachment; filename="site.conf"'
    assert code(vera.get(f"{FILES}/{CONF}?contents=1")) == (400, "unknown_parameter")


def test_a_name_of_several_namespaces_needs_one(rest_as):
    store(content=b"prod")
    store(content=b"lab", namespace="lab")
    ada = rest_as("ada")
    assert code(ada.get(f"{FILES}/{CONF}")) == (409, "conflict")
    assert ada.get(f"{FILES}/{CONF}?namespace=lab&content=1").content == b"lab"
    assert rest_as("vera").get(f"{FILES}/{CONF}?content=1").content == b"prod"


def test_a_file_is_deleted_once(rest_as):
    store()
    assert rest_as("otto").delete(f"{FILES}/{CONF}").status_code == 204
    assert code(rest_as("otto").delete(f"{FILES}/{CONF}")) == (404, "not_found")
    assert not FileObject.objects.exists()


def test_of_two_who_delete_at_once_one_is_told(cast):
    row = store()
    delete_object(ACTOR, row.pk)
    with pytest.raises(Refused) as refused:
        delete_object(ACTOR, row.pk)
    assert refused.value.code == "not_found"


def test_the_list_is_filtered_and_never_reads_contents(rest_as, count_queries):
    store("a/one")
    store("b/two")
    store("a/three", namespace="lab")
    ada = rest_as("ada")
    assert names(ada.get(f"{FILES}?order_by=name&order=asc")) == ["a/one", "a/three", "b/two"]
    assert names(ada.get(f"{FILES}?namespace=lab,nowhere")) == ["a/three"]
    assert names(ada.get(f"{FILES}?name=TWO")) == ["b/two"]
    assert code(ada.get(f"{FILES}?names=a")) == (400, "unknown_parameter")
    few = count_queries(lambda: ada.get(f"{FILES}?limit=1"))
    assert count_queries(lambda: ada.get(FILES)) == few


def test_pages_together_are_the_list_once(rest_as):
    wanted = [store(f"f{number}").name for number in range(5)]
    seen, token = [], ""
    while True:
        query = {"limit": 2, "order_by": "name", "order": "asc"}
        answer = rest_as("vera").get(FILES, query | ({"next_token": token} if token else {}))
        seen += names(answer)
        token = answer.json()["next_token"]
        if not token:
            break
    assert seen == wanted


# --- Rights --------------------------------------------------------------------------------------


def test_a_foreign_namespace_is_not_there(cast, rest_as):
    store(namespace="lab")
    for name in ("otto", "vera", "nils"):
        client = rest_as(name)
        assert names(client.get(FILES)) == []
        assert names(client.get(f"{FILES}?namespace=lab")) == []
        for query in ("", "?namespace=lab", "?content=1", "?namespace=nowhere"):
            assert code(client.get(f"{FILES}/{CONF}{query}")) == (404, "not_found")
        assert code(client.delete(f"{FILES}/{CONF}?namespace=lab")) == (404, "not_found")
        assert code(put(client, namespace="lab")) == (404, "not_found")
        assert code(put(client, namespace="nowhere")) == (404, "not_found")
    assert FileObject.objects.count() == 1


def test_readers_read_and_do_not_write(cast, rest_as):
    store()
    vera = rest_as("vera")
    assert names(vera.get(FILES)) == [CONF]
    assert vera.get(f"{FILES}/{CONF}?content=1").content == b"a"
    assert code(put(vera, "other")) == (403, "forbidden")
    assert code(put(vera, query="?force=1", content="b")) == (403, "forbidden")
    assert code(vera.delete(f"{FILES}/{CONF}")) == (403, "forbidden")
    assert bytes(FileObject.objects.get().content) == b"a"


def test_a_token_that_was_cut_down_reaches_no_further(cast, rest_as):
    store()
    assert names(rest_as("ada", ["job:read"]).get(FILES)) == []
    assert code(put(rest_as("ada", ["file:read"]), "other")) == (403, "forbidden")


def test_every_change_has_its_audit_entry(rest_as):
    otto = rest_as("otto")
    made = put(otto).json()["object"]
    put(otto, query="?force=1", content="b")
    otto.delete(f"{FILES}/{CONF}")
    entries = AuditEntry.objects.filter(object_kind="file").order_by("pk")
    assert [entry.action for entry in entries] == ["file.put", "file.put", "file.delete"]
    for entry in entries:
        told = (entry.actor, entry.object_id, entry.namespace, entry.details["name"])
        assert told == ("otto", made["id"], "prod", CONF)
    assert entries[1].details["old_sha256"] == made["sha256"] == entries[0].details["sha256"]
    assert entries[2].details["sha256"] == hashlib.sha256(b"b").hexdigest()


def test_the_database_keeps_a_name_once_per_namespace(cast):
    row = store()
    row.pk = None
    with pytest.raises(IntegrityError, match="file_object_once"), transaction.atomic():
        row.save(force_insert=True)


def test_reading_objects_neither_joins_nor_locks_their_namespaces():
    assert "JOIN" not in str(FileObject.objects.all().query)


def test_a_namespace_with_files_is_not_deleted(cast):
    store(namespace="lab")
    with pytest.raises(Refused) as refused:
        delete_namespace("lab")
    assert refused.value.code == "conflict"


# --- For nodes -----------------------------------------------------------------------------------

DEPLOY = {"object_name": CONF, "path": "/etc/x", "content_type": "raw"}
UNIT = {"name": "x", "object": CONF}


@pytest.mark.parametrize(
    ("operation", "params", "wanted"),
    [
        ("file.deploy.execute", DEPLOY, CONF),
        ("service.unit.create", UNIT, CONF),
        ("cron.entry.update", {"name": "x", "user": "root"}, ""),
        ("file.undeploy.execute", {"path": "/etc/x", "object_name": CONF}, ""),
        ("no.such.operation", UNIT, ""),
    ],
)
def test_an_object_is_named_where_the_registry_says_so(operation, params, wanted):
    assert object_named(operation, params) == wanted


def test_files_go_with_their_bytes_and_all_else_with_text(cast):
    row = store(content="ü".encode())
    encoded = base64.b64encode("ü".encode()).decode()
    for found in (None, contents_of([("prod", CONF)])):
        assert with_objects("prod", "file.deploy.execute", DEPLOY, found) == {
            **DEPLOY, "content": encoded, "sha256": row.sha256,
        }  # fmt: skip
        for operation in ("cron.entry.create", "service.unit.update", "certificate.ca.create"):
            assert with_objects("prod", operation, UNIT, found) == UNIT | {"content": "ü"}


def test_what_is_no_text_goes_as_bytes_alone(cast):
    store(content=b"\xff")
    assert with_objects("prod", "service.unit.create", UNIT) == UNIT
    assert with_objects("prod", "file.deploy.execute", DEPLOY)["content"] == "/w=="


def test_without_such_an_object_the_parameters_stay(cast):
    store(namespace="lab")
    assert with_objects("prod", "file.deploy.execute", DEPLOY) == DEPLOY
    assert with_objects("prod", "file.deploy.execute", DEPLOY, {}) == DEPLOY
    assert with_objects("prod", "node.disk.get", {}) == {}


def test_the_contents_of_many_are_read_in_one_query(cast, count_queries):
    for namespace in ("prod", "lab"):
        for name in ("a", "b"):
            store(name, namespace.encode(), namespace)
    wanted = {("prod", "a"), ("lab", "b"), ("lab", "gone"), ("nowhere", "a")}
    found = contents_of(wanted)
    assert {key: bytes(row.content) for key, row in found.items()} == {
        ("prod", "a"): b"prod",
        ("lab", "b"): b"lab",
    }
    assert count_queries(lambda: contents_of(wanted)) == 1
    assert count_queries(lambda: contents_of([])) == 0
    step = ("prod", "file.deploy.execute", DEPLOY)
    assert count_queries(lambda: with_objects(*step, found)) == 0


def test_missing_objects_are_named_with_their_step(cast, count_queries):
    store()
    store("elsewhere", namespace="lab")
    steps = [
        ("file.deploy.execute", DEPLOY | {"object_name": "gone"}),
        ("node.hostname.update", {"hostname": "x"}),
        ("file.deploy.execute", DEPLOY),
        ("cron.entry.create", {"name": "x", "object": "elsewhere"}),
    ]
    assert missing_objects("prod", steps) == [(0, "gone"), (3, "elsewhere")]
    assert count_queries(lambda: missing_objects("prod", steps)) == 1
    assert missing_objects("prod", steps[1:2]) == []
    assert count_queries(lambda: missing_objects("prod", steps[1:2])) == 0
