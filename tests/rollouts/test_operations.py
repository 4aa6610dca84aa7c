"""Typed operations over REST: who may call, what is submitted, what comes back (domain 2.3, 4.10)."""

import base64
import hashlib
import json
from urllib.parse import urlencode

import pytest
from django.utils import timezone

from access.roles import ROLE_PERMISSIONS, Role
from jobs.models import Job
from jobs.objects import Upload, put_object
from nodes.operations import OPERATIONS, TYPED_OPERATIONS, ParamType
from rollouts import operate
from rollouts.delivery import undelivered
from rollouts.models import Execution
from rollouts.scheduler import reconcile_job
from tests.factories import CustomRoleFactory, RoleBindingFactory
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db
ROLE_OF = {"ada": Role.ADMIN, "otto": Role.WRITE, "vera": Role.READ}
SAMPLES = {
    ParamType.TEXT: "x",
    ParamType.INTEGER: 1,
    ParamType.BOOLEAN: True,
    ParamType.TEXTS: ["x"],
    ParamType.MAP: {"a": "b"},
    ParamType.OBJECTS: [{"a": "b"}],
}


def sample_of(param):
    if param.hashed:
        return "$6$abcdefgh$UqYV1qHOVjSV7sBv2X"
    return param.choices[0] if param.choices else SAMPLES[param.type]


def params_of(operation):
    """Give parameters that are right for an operation."""
    names = {param.name for param in operation.params if param.required}
    names |= {*operation.at_least_one[:1], *operation.exactly_one[:1]}
    return {param.name: sample_of(param) for param in operation.params if param.name in names}


def call(client, operation, target="_all", params=None, **query):
    """Call an operation as its row says."""
    given = dict(params_of(operation) if params is None else params)
    tail = operation.path
    for name in operation.path_params:
        tail = tail.replace(f"{{{name}}}", str(given.pop(name)))
    where = {"namespace": "prod", "wait": "0", **query}
    address = f"/api/v1/nodes/{target}{tail}"
    if operation.method in ("GET", "DELETE"):
        return client.generic(operation.method, address, QUERY_STRING=urlencode({**where, **given}))
    return client.generic(
        operation.method, f"{address}?{urlencode(where)}", json.dumps(given), "application/json"
    )


@pytest.fixture
def nodes(cast):
    """Two nodes that can do everything, and a file object x."""
    put_object(fleet.ADA, Upload(namespace="prod", name="x", content=b"text"))
    return fleet.make_nodes(2)


# --- Who may ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ada", "otto", "vera"])
def test_those_may_call_whose_role_holds_the_operations_permission(rest_as, nodes, name):
    client, held = rest_as(name), ROLE_PERMISSIONS[ROLE_OF[name]]
    allowed = [row for row in TYPED_OPERATIONS if {row.permission, row.also} & held]
    for operation in allowed:
        answer = call(client, operation)
        assert answer.status_code == 202, (operation.name, answer.json())
        spec = Job.objects.get(pk=answer.json()["job_id"]).versions.get().spec
        assert spec["config"]["operation"] == operation.name
        assert spec["config"].get("params", {}) == params_of(operation)
    for operation in set(TYPED_OPERATIONS) - set(allowed):
        answer = call(client, operation)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), operation.name
        assert operation.permission in answer.json()["detail"]
    assert Job.objects.count() == len(allowed)
    assert {"ada": 94, "otto": 88, "vera": 38}[name] == len(allowed)


def test_a_permission_that_is_taken_in_its_place_is_enough(cast, rest_as, nodes):
    CustomRoleFactory(name="netops", permissions=["network:write"])
    RoleBindingFactory(user=cast.nils, role="netops", namespace_id="prod")
    assert call(rest_as("nils"), OPERATIONS["network.ping.do"]).status_code == 202
    assert call(rest_as("nils"), OPERATIONS["network.dns.get"]).status_code == 403


def test_a_namespace_that_one_may_not_see_is_unknown(rest_as, nodes):
    answer = call(rest_as("nils"), OPERATIONS["node.status.get"])
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_namespace")


# --- What is submitted -----------------------------------------------------------------------------


def test_a_call_is_a_job_that_anybody_could_have_submitted(rest_as, nodes):
    answer = call(
        rest_as("ada"),
        OPERATIONS["command.exec.execute"],
        target="role:gateway",
        params={"command": "uname", "args": ["-r"], "timeout": 120},
        reason="because",
    )
    job = Job.objects.get(pk=answer.json()["job_id"])
    version = job.versions.get()
    assert job.name.startswith("command.exec.execute-")
    assert version.reason == "because"
    assert version.spec["type"] == "update"
    assert version.spec["selector"] == {"target": "role:gateway"}
    # The command's own limit, and time to tell what it wrote.
    assert version.spec["timeouts"] == {"execution_timeout": 130}


def test_parameters_in_path_and_query_have_their_types(rest_as, nodes):
    call(
        rest_as("ada"), OPERATIONS["docker.container.delete"], params={"id": "web", "force": "true"}
    )
    call(rest_as("ada"), OPERATIONS["process.entry.get"], params={"pid": 17})
    call(rest_as("ada"), OPERATIONS["docker.image.delete"], params={"image": "ghcr.io/a/b:1"})
    told = {
        version.spec["config"]["operation"]: version.spec["config"]["params"]
        for job in Job.objects.all()
        for version in job.versions.all()
    }
    assert told == {
        "docker.container.delete": {"id": "web", "force": True},
        "process.entry.get": {"pid": 17},
        "docker.image.delete": {"image": "ghcr.io/a/b:1"},
    }


@pytest.mark.parametrize(
    ("name", "params", "wrong"),
    [
        ("process.entry.get", {"pid": "x"}, ("invalid_type", "/pid")),
        ("process.entry.signal", {"pid": 1, "signal": "STOP"}, ("invalid_value", "/signal")),
        ("node.hostname.update", {}, ("invalid_spec", "/hostname")),
        ("node.hostname.update", {"hostname": "a", "force": True}, ("unknown_field", "/force")),
        ("network.dns.update", {"interface_name": "eth0"}, ("invalid_value", "/search_domains")),
    ],
)
def test_a_wrong_parameter_is_named_as_the_caller_wrote_it(rest_as, nodes, name, params, wrong):
    answer = call(rest_as("ada"), OPERATIONS[name], params=params)
    assert answer.status_code == 422
    assert [(found["code"], found["path"]) for found in answer.json()["errors"]] == [wrong]
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"wait": "61"}, "invalid_value"),
        ({"wait": "x"}, "invalid_value"),
        ({"x": "1"}, "unknown_parameter"),
    ],
)
def test_a_wrong_query_is_refused(rest_as, nodes, query, code):
    answer = call(rest_as("ada"), OPERATIONS["node.status.get"], **query)
    assert answer.json()["code"] == code


@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "PATCH", "DELETE"])
def test_a_method_that_an_operation_has_not_makes_no_job(rest_as, nodes, method):
    answer = rest_as("ada").generic(method, "/api/v1/nodes/_all/status?namespace=prod")
    assert answer.status_code == 405
    assert not Job.objects.exists()


def test_a_target_that_is_nobody_is_told(rest_as, nodes):
    answer = call(rest_as("ada"), OPERATIONS["node.status.get"], target="gw-none")
    assert (answer.status_code, answer.json()["code"]) == (422, "no_matching_node")
    answer = call(rest_as("ada"), OPERATIONS["node.status.get"], target="role:web.")
    assert answer.json()["code"] == "invalid_selector"
    assert answer.json()["errors"][0]["path"] == "/target"


# --- What comes back -------------------------------------------------------------------------------


def test_answers_come_in_one_by_one(rest_as, nodes):
    answer = call(rest_as("vera"), OPERATIONS["node.hostname.get"])
    assert answer.status_code == 202
    job_id = answer.json()["job_id"]
    assert answer.json()["results"] == []
    assert not operate.is_answered(job_id)
    reconcile_job(job_id)
    first, second = (
        Execution.objects.filter(job=job_id).select_related("node").order_by("node__name")
    )

    told = operate.answers_of(job_id)
    assert [node["node_name"] for node in told.missing] == [first.node.name, second.node.name]
    fleet.report(
        first,
        fleet.heard(first),
        fleet.in_state(first, "completed"),
        fleet.ended(first, data={"hostname": "elsewhere", "fqdn": "gw.example"}, duration_ms=4),
    )
    told = operate.answers_of(job_id)
    assert [node["node_name"] for node in told.missing] == [second.node.name]
    assert not told.is_all_in
    assert not operate.is_answered(job_id)

    fleet.report(
        second,
        fleet.heard(second),
        fleet.in_state(second, "failed", error_code="operation_failed"),
        fleet.ended(second, "failed", error="no such thing", changed=False, exit_code=None),
    )
    told = operate.answers_of(job_id)
    assert told.is_all_in
    assert operate.is_answered(job_id)
    ok, failed = told.results
    # The node's name is ours to say, whatever its operation answers.
    assert (ok["status"], ok["fqdn"], ok["hostname"]) == ("ok", "gw.example", first.node.hostname)
    assert "changed" not in ok
    assert (failed["status"], failed["error"], failed["changed"]) == (
        "failed",
        "no such thing",
        False,
    )
    assert failed["error_code"] == "operation_failed"


def test_a_command_answers_with_what_it_wrote(rest_as, nodes):
    answer = call(rest_as("ada"), OPERATIONS["command.exec.execute"], target=nodes[0].name)
    job_id = answer.json()["job_id"]
    reconcile_job(job_id)
    (execution,) = Execution.objects.filter(job=job_id)
    fleet.report(
        execution,
        fleet.heard(execution),
        fleet.in_state(execution, "completed"),
        fleet.ended(
            execution, output="out", error="err", exit_code=0, changed=True, data={"duration_ms": 3}
        ),
    )
    (told,) = operate.answers_of(job_id).results
    assert (told["stdout"], told["stderr"], told["exit_code"]) == ("out", "err", 0)
    assert (told["status"], told["changed"], told["duration_ms"]) == ("ok", True, 3)


def test_work_that_was_skipped_says_so_and_one_given_up_has_failed(rest_as, nodes):
    job_id = call(rest_as("vera"), OPERATIONS["node.load.get"]).json()["job_id"]
    reconcile_job(job_id)
    first, second = Execution.objects.filter(job=job_id).order_by("node__name")
    fleet.report(
        first,
        fleet.heard(first),
        fleet.in_state(first, "completed"),
        fleet.ended(first, "skipped"),
    )
    fleet.report(second, fleet.heard(second), fleet.in_state(second, "failed", message="gone"))
    told = operate.answers_of(job_id)
    assert [answer["status"] for answer in told.results] == ["skipped", "failed"]
    assert told.results[1]["error"] == "gone"
    assert told.is_all_in


def test_the_answers_of_many_nodes_take_as_many_queries(
    rest_as, cast, django_assert_max_num_queries
):
    fleet.make_nodes(30)
    job_id = call(rest_as("vera"), OPERATIONS["node.load.get"]).json()["job_id"]
    reconcile_job(job_id)
    with django_assert_max_num_queries(2):
        assert len(operate.answers_of(job_id).missing) == 30


def test_more_answers_than_a_response_holds_are_pointed_at(rest_as, nodes, monkeypatch):
    monkeypatch.setattr(operate, "MOST_ANSWERS", 1)
    job_id = call(rest_as("vera"), OPERATIONS["node.load.get"]).json()["job_id"]
    reconcile_job(job_id)
    told = operate.answers_of(job_id)
    assert told.is_cut
    assert len(told.missing) == 1
    assert not told.is_all_in


# --- What a node is given --------------------------------------------------------------------------


def test_a_node_gets_what_has_a_default(rest_as, nodes):
    answer = call(rest_as("ada"), OPERATIONS["docker.container.list"], target=nodes[0].name)
    reconcile_job(answer.json()["job_id"])
    (order,) = undelivered([nodes[0].pk], timezone.now())
    assignment = json.loads(base64.b64decode(order.frame.envelope["payload"]))
    assert assignment["config"] == {
        "operation": "docker.container.list",
        "params": {"state": "all", "limit": 20},
    }


def test_a_node_gets_the_file_object_that_an_operation_names(rest_as, nodes):
    wanted = {"object_name": "x", "path": "/etc/x", "content_type": "raw"}
    answer = call(rest_as("ada"), OPERATIONS["file.deploy.execute"], nodes[0].name, wanted)
    reconcile_job(answer.json()["job_id"])
    (order,) = undelivered([nodes[0].pk], timezone.now())
    assignment = json.loads(base64.b64decode(order.frame.envelope["payload"]))
    digest = hashlib.sha256(b"text").hexdigest()
    brought = {"content": base64.b64encode(b"text").decode(), "sha256": digest}
    assert assignment["config"]["params"] == {**wanted, **brought}
    # What was submitted and is shown names the object alone.
    assert Job.objects.get().versions.get().spec["config"]["params"] == wanted


def test_an_object_that_is_not_there_is_refused_before_anything_is_stored(rest_as, nodes):
    params = {"object_name": "y", "path": "/etc/x", "content_type": "raw"}
    answer = call(rest_as("ada"), OPERATIONS["file.deploy.execute"], params=params)
    assert answer.status_code == 422
    (wrong,) = answer.json()["errors"]
    assert (wrong["path"], wrong["code"]) == ("/object_name", "invalid_value")
    assert "no file object y in namespace prod" in wrong["message"]
    assert not Job.objects.exists()


def test_a_stack_names_its_step_and_line_whose_object_is_not_there(rest_as, nodes):
    text = """
name: stack
namespace: prod
type: config
config:
  operations:
    - operation: timezone.config.update
      params: {timezone: UTC}
    - operation: file.deploy.execute
      params:
        object_name: nothing
        path: /etc/x
        content_type: raw
"""
    answer = rest_as("ada").put("/api/v1/jobs", text, content_type="application/yaml")
    (wrong,) = answer.json()["errors"]
    assert wrong["path"] == "/config/operations/1/params/object_name"
    assert wrong["line"] == 11
