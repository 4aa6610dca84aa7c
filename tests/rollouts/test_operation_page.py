"""The page that runs an operation: its picker, its forms, and the cards of what nodes answered."""

import json
import re
from urllib.parse import urlencode

import pytest

from jobs.models import Job
from jobs.objects import Upload, put_object
from jobs.planning import plan_spec
from jobs.spec import JobSpec
from nodes.models import Node
from nodes.operations import OPERATIONS, Operation
from rollouts import operation_answers
from rollouts.models import Execution
from rollouts.operation_form import OperationForm
from rollouts.operation_page import aim_at
from rollouts.operation_texts import Wish, command_of, masked
from rollouts.scheduler import reconcile_job
from tests.factories import CustomRoleFactory, RoleBindingFactory
from tests.rollouts import fleet

pytestmark = pytest.mark.django_db
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def nodes(cast):
    """Three nodes of prod that can do everything."""
    return fleet.make_nodes(3, labels={"region": "fra"})


def text_of(client, query="", path="/operations/"):
    answer = client.get(f"{path}{query}")
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def send(client, operation, target="_all", namespace="prod", **params):
    """Post the form of an operation; names without a parameter of it are sent as they are."""
    known = {param.name for param in OPERATIONS[operation].params}
    said = {f"param-{name}" if name in known else name: value for name, value in params.items()}
    place = {"operation": operation, "target": target, "namespace": namespace}
    return client.post("/operations/", place | said)


def sent(answer):
    """Give the job that a post has led to."""
    assert answer.status_code == 303, answer.content.decode()
    (found,) = re.findall(r"^/operations/([0-9a-f-]{36})/$", answer["Location"])
    return Job.objects.get(pk=found)


def spec_of(answer):
    return sent(answer).versions.get().spec


def field_of(text, name):
    """Give what a page shows of one field: from its label to the end of its box."""
    found = re.search(
        rf'<div class="field"><label for="id_[\w-]+_param-{name}">.*?</div>', text, re.DOTALL
    )
    return found and found[0]


# --- The picker ----------------------------------------------------------------------------------


def test_the_page_lists_every_operation_and_the_nodes_that_are_meant(nodes, page_as):
    text = text_of(page_as("ada"), "?namespace=prod")
    for name in OPERATIONS:
        assert f"operation={name}" in text
    assert 'value="_any"' in text
    assert "One of 3 nodes" in text
    assert '<option value="region:fra">' in text
    assert f'<option value="{nodes[0].name}">' in text
    assert "Choose an operation" in text


def test_an_address_says_operation_target_and_parameters(nodes, page_as):
    query = "?namespace=prod&target=region:fra&operation=command.exec.execute"
    more = "&param-command=uname&param-args=-a%0A-r&param-timeout=60"
    text = text_of(page_as("ada"), query + more)
    assert 'value="region:fra"' in text
    assert 'value="uname"' in field_of(text, "command")
    assert re.search(r">\s*-a\n-r</textarea>", field_of(text, "args"))
    assert 'value="60"' in field_of(text, "timeout")
    assert re.search(r'aria-current="true">exec.execute', text)
    assert "3 nodes" in text


def test_operations_are_found_by_what_is_typed(nodes, page_as):
    text = text_of(page_as("ada"), "?namespace=prod&q=process+update")
    assert "operation=process.entry.signal" in text
    assert "operation=process.entry.list" not in text
    assert "No operation is called so" in text_of(page_as("ada"), "?q=nothing")


def test_who_lacks_a_permission_sees_the_operation_locked_with_its_name(nodes, page_as):
    text = text_of(page_as("vera"))
    assert "operation=process.entry.list" in text
    assert "operation=process.entry.signal" not in text
    locked = re.search(r'<span class="operation-entry"[^>]*>entry.signal.*?</li>', text)[0]
    assert 'aria-disabled="true"' in locked
    assert "i-lock" in locked
    assert "process:execute" in locked


def test_the_form_of_a_locked_operation_cannot_be_sent_and_says_why(nodes, page_as):
    text = text_of(page_as("otto"), "?operation=command.shell.execute")
    assert "Needs the permission command:execute in namespace prod." in text
    assert 'type="submit">' not in re.search(r'id="operation-foot".*?</form>', text, re.DOTALL)[0]
    answer = send(page_as("otto"), "command.shell.execute", command="id")
    assert answer.status_code == 403
    assert "needs command:execute in namespace prod" in answer.content.decode()
    assert not Job.objects.exists()


def test_a_permission_that_is_taken_in_its_place_opens_the_lock(cast, nodes, page_as):
    CustomRoleFactory(name="netops", permissions=["network:write"])
    RoleBindingFactory(user=cast.nils, role="netops", namespace_id="prod")
    text = text_of(page_as("nils"))
    assert "operation=network.ping.do" in text
    assert "operation=network.dns.get" not in text
    # Nodes are not his to see, so they are neither named nor counted.
    assert "agent:read" in text
    assert nodes[0].name not in text


def test_nodes_that_cannot_do_it_now_are_told_apart(cast, nodes, page_as):
    able = {"operations": ["node.load.get"]}
    Node.objects.filter(pk=nodes[0].pk).update(capabilities={"operations": ["node.disk.get"]})
    Node.objects.filter(pk=nodes[1].pk).update(capabilities=able)
    Node.objects.filter(pk=nodes[2].pk).update(capabilities=able, connection_state="disconnected")
    query = "?namespace=prod&target=_all&operation=node.load.get"
    text = text_of(page_as("vera"), query)
    assert re.search(
        rf"<strong>1 node</strong>:\s+<span class=\"soft\">{nodes[1].name}</span>", text
    )
    assert "1 node does not offer node.load.get." in text
    assert "1 node is not connected" in text


@pytest.mark.parametrize(
    "target", ["_all", "_any", "region:fra", "region:f", "role:gateway", "gw-none"]
)
def test_the_nodes_shown_are_those_that_the_planner_takes(cast, nodes, target):
    Node.objects.filter(pk=nodes[0].pk).update(scheduling_state="cordoned")
    Node.objects.filter(pk=nodes[1].pk).update(capabilities={"operations": []})
    spec = JobSpec.model_validate(
        {
            "name": "x",
            "namespace": "prod",
            "type": "query",
            "selector": {"target": target},
            "config": {"operation": "node.load.get"},
        }
    )
    plan = plan_spec(spec, None, run_hash="")
    aim = aim_at(cast.vera, target, "prod", OPERATIONS["node.load.get"])
    assert (aim.total, aim.able) == (plan.matched, plan.eligible)
    assert aim.touched == len(plan.nodes)


def test_a_target_that_cannot_be_read_is_said_beside_it(nodes, page_as):
    text = text_of(page_as("vera"), "?target=region:a..b&operation=node.load.get")
    assert 'aria-invalid="true"' in text
    assert "is not a label value" in text


def test_a_foreign_namespace_is_neither_shown_nor_used(cast, page_as):
    (foreign,) = fleet.make_nodes(1, "lab", prefix="secret")
    text = text_of(page_as("vera"), "?namespace=lab&target=_all")
    assert foreign.name not in text
    assert 'name="namespace" value="prod"' in text
    for operation, more in (("node.load.get", {}), ("node.hostname.update", {"hostname": "a"})):
        answer = send(page_as("otto"), operation, namespace="lab", **more)
        assert answer.status_code == 422
        assert "There is no namespace" in answer.content.decode()
    assert not Job.objects.exists()


def test_who_has_no_namespace_is_told_so(cast, page_as):
    assert "No namespace to run in" in text_of(page_as("nils"))
    assert page_as().get("/operations/").status_code == 302


def test_the_picker_takes_as_many_queries_for_forty_nodes_as_for_three(
    nodes, page_as, django_assert_max_num_queries
):
    client, counts = page_as("vera"), []
    text_of(client, "?namespace=prod")
    for more in (0, 40):
        fleet.make_nodes(more)
        with django_assert_max_num_queries(15) as seen:
            text_of(client, "?namespace=prod&target=_all&operation=node.load.get")
        counts.append(len(seen))
    assert counts[0] == counts[1]


# --- Forms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operation", "param", "patterns"),
    [
        (
            "node.hostname.update",
            "hostname",
            ["<input", 'type="text"', 'maxlength="253"', "required"],
        ),
        (
            "command.exec.execute",
            "timeout",
            ['type="number"', 'min="1"', 'max="300"', 'value="30"'],
        ),
        ("docker.container.create", "auto_start", ['type="checkbox"', "checked"]),
        ("docker.container.delete", "force", ['type="checkbox"']),
        ("user.account.update", "lock", ["<select", "Leave as it is", ">Yes<", ">No<"]),
        ("process.entry.signal", "signal", ["<select", ">TERM<", ">Choose<", "required"]),
        ("docker.container.list", "state", ["<select", 'value="all" selected']),
        ("command.exec.execute", "args", ["<textarea", "One on a line."]),
        ("file.deploy.execute", "vars", ["<textarea", "key=value"]),
        ("network.route.create", "routes", ["<textarea", "JSON", "required"]),
        ("user.password.update", "password", ["openssl passwd -6", "required"]),
        ("cron.entry.create", "object", ["The name of a file object."]),
    ],
)
def test_each_parameter_has_the_field_of_its_type(nodes, page_as, operation, param, patterns):
    text = text_of(page_as("ada"), f"?namespace=prod&operation={operation}")
    shown = field_of(text, param)
    for pattern in patterns:
        assert pattern in shown
    is_required = next(p.required for p in OPERATIONS[operation].params if p.name == param)
    assert ("*</label>" in shown) == is_required


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=lambda operation: operation.name)
def test_what_a_form_shows_at_first_is_nothing_but_defaults(operation: Operation):
    form = OperationForm(operation)
    posted = {}
    for bound in form:
        value = bound.value()
        if value is not None and value is not False:
            posted[bound.html_name] = "on" if value is True else value
    form = OperationForm(operation, posted)
    form.is_valid()
    given = (p for p in operation.params if not isinstance(p.default, bool | None))
    defaults = {p.name: p.default for p in given}
    assert form.params() == defaults


def test_parameters_arrive_as_json_of_their_types(nodes, page_as):
    ada = page_as("ada")
    put_object(fleet.ADA, Upload(namespace="prod", name="nginx/site.conf", content=b"text"))
    spec = spec_of(send(ada, "process.entry.get", target=nodes[0].name, pid="17"))
    assert spec["type"] == "query"
    assert spec["selector"] == {"target": nodes[0].name}
    assert spec["config"] == {"operation": "process.entry.get", "params": {"pid": 17}}

    spec = spec_of(
        send(
            ada,
            "file.deploy.execute",
            target="region:fra",
            confirmed="3",
            reason="because",
            object_name="nginx/site.conf",
            path="/etc/x",
            content_type="template",
            vars="a=1\r\n\r\nb = c=d",
        )
    )
    assert (spec["type"], spec["selector"]) == ("update", {"target": "region:fra"})
    assert spec["config"]["params"] == {
        "object_name": "nginx/site.conf",
        "path": "/etc/x",
        "content_type": "template",
        "vars": {"a": "1", "b": "c=d"},
    }
    assert Job.objects.get(job_type="update").versions.get().reason == "because"

    routes = [{"to": "10.0.0.0/8", "via": "10.0.0.1"}]
    more = {"iface": "eth0", "routes": json.dumps(routes)}
    spec = spec_of(send(ada, "network.route.create", confirmed="3", **more))
    assert spec["config"]["params"] == {"iface": "eth0", "routes": routes}


def test_boxes_and_lists_arrive_as_what_differs_from_the_defaults(nodes, page_as):
    ada, asked = page_as("ada"), {"confirmed": "3", "image": "nginx", "env": "A=1\r\nB=2\r\n"}
    spec = spec_of(send(ada, "docker.container.create", **asked))
    assert spec["config"]["params"] == {
        "image": "nginx",
        "env": ["A=1", "B=2"],
        "auto_start": False,
    }
    spec = spec_of(send(ada, "docker.container.create", auto_start="on", **asked))
    assert "auto_start" not in spec["config"]["params"]


@pytest.mark.parametrize(
    ("said", "params"), [("", {}), ("true", {"lock": True}), ("false", {"lock": False})]
)
def test_a_flag_of_an_update_may_stay_as_it_is(nodes, page_as, said, params):
    answer = send(page_as("ada"), "user.account.update", confirmed="3", name="bob", lock=said)
    assert spec_of(answer)["config"]["params"] == {"name": "bob", **params}


@pytest.mark.parametrize(
    ("operation", "params", "wrong"),
    [
        ("process.entry.get", {"pid": "x"}, ("pid", "Enter a whole number.")),
        ("process.entry.get", {"pid": "0"}, ("pid", "greater than or equal to 1")),
        ("process.entry.get", {"pid": "9" * 40}, ("pid", "less than or equal")),
        ("node.hostname.update", {}, ("hostname", "It must be given.")),
        ("process.entry.signal", {"pid": "1", "signal": "STOP"}, ("signal", "must be one of TERM")),
        ("network.dns.update", {"interface_name": "eth0"}, ("search_domains", "At least one of")),
        ("cron.entry.create", {"name": "a", "object": "o", "schedule": "* * * * *", "interval": "daily"}, ("interval", "xactly one of")),
        ("file.deploy.execute", {"object_name": "a", "path": "/x", "content_type": "raw", "vars": "a=1\nb"}, ("vars", "Line 2: write it as key=value.")),
        ("network.route.create", {"iface": "eth0", "routes": "[{]"}, ("routes", "read as JSON (line 1)")),
        ("network.route.create", {"iface": "eth0", "routes": '[{"a": 1e999}]'}, ("routes", "read as JSON")),
        ("network.route.create", {"iface": "eth0", "routes": '[{"a": "\\u0000"}]'}, ("routes", "read as JSON")),
        ("network.route.create", {"iface": "eth0", "routes": '[{"a": "\\ud800"}]'}, ("routes", "read as JSON")),
        ("network.route.create", {"iface": "eth0", "routes": "[1]"}, ("routes", "must be a list of mappings")),
        ("network.route.create", {"iface": "eth0", "routes": "{}"}, ("routes", "It must be given.")),
        ("ntp.config.update", {"servers": "a\0b"}, ("servers", "NUL")),
        ("user.password.update", {"name": "bob", "password": "hunter2"}, ("password", "must be a hash")),
    ],
)  # fmt: skip
def test_what_is_wrong_stands_beside_its_field_and_nothing_typed_is_lost(
    nodes, page_as, operation, params, wrong
):
    field, words = wrong
    answer = send(page_as("ada"), operation, target="region:fra", reason="why not", **params)
    text = answer.content.decode()
    assert answer.status_code == 422
    shown = field_of(text, field)
    assert 'class="error"' in shown
    assert words in shown
    assert 'name="target" value="region:fra"' in text
    for name, value in params.items():
        first, kept = value.splitlines()[0].replace('"', "&quot;"), field_of(text, name)
        assert first in kept or "<select" in kept
    if OPERATIONS[operation].kind == "update":
        assert 'value="why not"' in text
    assert not Job.objects.exists()


def test_what_is_refused_when_it_is_submitted_is_said_beside_its_field_too(nodes, page_as):
    asked = {"name": "tls", "object": "ca.pem", "confirmed": "3"}
    answer = send(page_as("ada"), "certificate.ca.create", **asked)
    assert answer.status_code == 422
    assert "There is no file object ca.pem" in field_of(answer.content.decode(), "object")
    answer = send(page_as("vera"), "node.load.get", target="gw-none")
    assert answer.status_code == 422
    assert "No node that can take work now matches" in answer.content.decode()
    assert 'id="operation-target-error"' in answer.content.decode()
    answer = send(page_as("vera"), "node.load.get", target="region:a..b")
    assert answer.status_code == 422
    assert "is not a label value" in answer.content.decode()
    Node.objects.filter(pk=nodes[1].pk).update(name=nodes[0].name)
    answer = send(page_as("vera"), "node.load.get", target=nodes[0].name)
    assert answer.status_code == 409
    assert "Name one of them by its id." in answer.content.decode()
    # Too large a parameter is nobody's field but the spec's.
    answer = send(page_as("ada"), "command.exec.execute", confirmed="3", command="x" * 1_500_000)
    assert answer.status_code == 422
    assert "config is larger" in answer.content.decode()
    assert not Job.objects.exists()


def test_an_unknown_operation_is_refused(nodes, page_as):
    place = {"operation": "node.nothing", "target": "_all"}
    assert page_as("ada").post("/operations/", place).status_code == 422
    assert "Choose an operation" in text_of(page_as("ada"), "?operation=node.nothing")


# --- An update is asked about --------------------------------------------------------------------


def test_an_update_is_asked_about_with_the_nodes_that_it_touches(nodes, page_as):
    ada, asked = page_as("ada"), {"name": "nginx", "reason": "CVE"}
    text = send(ada, "service.unit.restart", **asked).content.decode()
    assert "Run service.unit.restart on 3 nodes?" in text
    for node in nodes:
        assert node.name in text
    assert not Job.objects.exists()
    passed = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', text))
    passed.pop("csrfmiddlewaretoken", None)
    answer = ada.post("/operations/", passed | {"confirmed": "3"})
    assert spec_of(answer)["config"]["params"] == {"name": "nginx"}
    assert sent(answer).versions.get().reason == "CVE"


def test_one_may_change_ones_mind_and_finds_what_was_typed(nodes, page_as):
    answer = send(page_as("ada"), "service.unit.restart", name="nginx", reason="CVE", change="1")
    text = answer.content.decode()
    assert answer.status_code == 200
    assert 'value="nginx"' in field_of(text, "name")
    assert 'value="CVE"' in text
    assert not Job.objects.exists()


def test_it_is_asked_again_when_other_nodes_are_meant_by_then(nodes, page_as):
    fleet.make_nodes(2)
    text = send(
        page_as("ada"), "service.unit.restart", name="nginx", confirmed="3"
    ).content.decode()
    assert "Other nodes are meant than a moment ago." in text
    assert "on 5 nodes?" in text
    assert not Job.objects.exists()


def test_an_update_of_any_node_touches_one(nodes, page_as):
    ada = page_as("ada")
    text = send(ada, "service.unit.restart", target="_any", name="nginx").content.decode()
    assert "on one of 3 nodes?" in text
    assert "Run on 1 node<" in text
    answer = send(ada, "service.unit.restart", target="_any", name="nginx", confirmed="3")
    assert spec_of(answer)["selector"] == {"target": "_any"}


def test_an_update_that_no_node_can_do_is_refused_before_it_is_asked_about(nodes, page_as):
    Node.objects.update(capabilities={})
    answer = send(page_as("ada"), "service.unit.restart", name="nginx")
    assert answer.status_code == 422
    assert "No node that is meant can do it now." in answer.content.decode()
    answer = send(page_as("ada"), "service.unit.restart", name="nginx", confirmed="0")
    assert answer.status_code == 422
    assert not Job.objects.exists()


def test_who_may_not_see_nodes_is_asked_all_the_same(cast, nodes, page_as):
    CustomRoleFactory(name="restarter", permissions=["service:write", "job:read"])
    RoleBindingFactory(user=cast.nils, role="restarter", namespace_id="prod")
    nils = page_as("nils")
    text = send(nils, "service.unit.restart", name="nginx").content.decode()
    assert "every node that _all means" in text
    assert nodes[0].name not in text
    answer = send(nils, "service.unit.restart", name="nginx", confirmed="unseen")
    assert sent(answer).job_type == "update"


# --- The page of a call --------------------------------------------------------------------------


def begun(client, operation="node.load.get", target="_all", **params):
    """Run an operation; give its job and its executions by the names of their nodes."""
    job = sent(send(client, operation, target, **params))
    reconcile_job(job.pk)
    found = Execution.objects.filter(job=job).select_related("node", "job").order_by("node__name")
    return job, list(found)


def answer(execution, status="completed", **result):
    """Let a node answer."""
    state = "failed" if status == "failed" else "completed"
    code = {"error_code": result.pop("error_code")} if "error_code" in result else {}
    fleet.report(
        execution,
        fleet.heard(execution),
        fleet.in_state(execution, state, **code),
        fleet.ended(execution, status, **result),
    )


def cards_of(text):
    """Give the cards of a page in their order: the node's name, and the card."""
    cards = re.findall(r'<article class="answer.*?</article>', text, re.DOTALL)
    return [(re.search(r'-h"><a[^>]*>([^<]*)<', card)[1], card) for card in cards]


def test_each_node_has_a_card_with_what_failed_first(nodes, page_as):
    fleet.make_nodes(1)
    vera = page_as("vera")
    job, (ok, failed, skipped, waiting) = begun(vera)
    answer(ok, data={"load_average": {"1min": 0.5}, "cpu_count": 4}, duration_ms=1400)
    answer(failed, "failed", error="cannot be read", error_code="not_found", changed=False)
    answer(skipped, "skipped")
    text = text_of(vera, path=f"/operations/{job.pk}/")
    cards = cards_of(text)
    names = [failed.node.name, waiting.node.name, skipped.node.name, ok.node.name]
    assert [name for name, _ in cards] == names
    for (_, card), word in zip(cards, ("Failed", "Waiting", "Skipped", "Ok"), strict=True):
        assert re.search(rf"</svg> {word}</span>", card)
    shown = dict(cards)
    assert "cannot be read" in shown[failed.node.name]
    assert "not_found" in shown[failed.node.name]
    assert "Unchanged" in shown[failed.node.name]
    assert "1 s" in shown[ok.node.name]
    assert re.search(r"<dt>Cpu count</dt><dd[^>]*>4</dd>", shown[ok.node.name])
    assert re.search(r"<dt>1min</dt><dd[^>]*>0.5</dd>", shown[ok.node.name])
    assert "hanged" not in shown[ok.node.name]
    counts = re.findall(r"</svg> (\w+)</span> <b>(\d+)</b>", text)
    assert counts == [("Failed", "1"), ("Waiting", "1"), ("Skipped", "1"), ("Ok", "1")]
    assert f"/executions/{ok.pk}/" in shown[ok.node.name]
    assert f"/nodes/{ok.node_id}/" in shown[ok.node.name]


def test_the_cards_ask_for_themselves_until_all_nodes_have_answered(nodes, page_as):
    vera = page_as("vera")
    job, executions = begun(vera)
    path = f"/operations/{job.pk}/answers/"
    text = text_of(vera, path=path)
    assert f'hx-get="{path}" hx-trigger="every 1s"' in text
    assert "<html" not in text
    assert "Refresh" in text
    assert "0 of 3 nodes" in text
    answer(executions[0])
    answer(executions[1])
    assert "2 of 3 nodes" in text_of(vera, path=path)
    answer(executions[2])
    text = text_of(vera, path=path)
    assert "every 1s" not in text
    assert "Refresh" not in text
    assert "3 of 3 nodes" in text


def test_a_call_that_has_not_begun_says_so(nodes, page_as):
    vera = page_as("vera")
    job = sent(send(vera, "node.load.get"))
    text = text_of(vera, path=f"/operations/{job.pk}/")
    assert "No node has been asked yet." in text
    assert "every 1s" in text
    Job.objects.filter(pk=job.pk).update(state="stopped", state_message="stopped by ada")
    text = text_of(vera, path=f"/operations/{job.pk}/")
    assert "No node was asked." in text
    assert "stopped by ada" in text
    assert "every 1s" not in text


def test_a_list_of_objects_is_a_table(nodes, page_as, monkeypatch):
    vera = page_as("vera")
    job, (one,) = begun(vera, "process.entry.list", nodes[0].name)
    rows = [
        {"pid": pid, "name": f"p{pid}", "memory_rss": 61_000_000, "threads": None, "cpus": [0, 1]}
        for pid in range(1, 251)
    ]
    answer(one, data={"processes": rows})
    text = text_of(vera, path=f"/operations/{job.pk}/")
    assert text.count("<tr>") == 201
    assert '<thead><tr><th scope="col" class="n">Pid</th><th scope="col">Name</th>' in text
    assert '<td class="n">61 MB</td>' in text or "<td>61 MB</td>" in text
    assert "<td>0, 1</td>" in text
    assert "50 more are not shown here." in text


def test_many_long_answers_leave_the_page_readable(cast, page_as):
    fleet.make_nodes(20)
    vera = page_as("vera")
    job, executions = begun(vera, "process.entry.list")
    rows = [{"pid": pid, "name": "x" * 60} for pid in range(300)]
    for one in executions:
        answer(one, data={"processes": rows})
    text = text_of(vera, path=f"/operations/{job.pk}/")
    assert len(cards_of(text)) == 20
    assert text.count("<tr>") <= 2000 + 20
    assert "read it by REST" in text
    assert len(text) < 1_500_000


def test_what_a_command_wrote_is_shown_as_log(nodes, page_as):
    ada = page_as("ada")
    job, (one,) = begun(
        ada, "command.shell.execute", nodes[0].name, command="x", timeout="30", confirmed="1"
    )
    answer(one, "failed", output="\x1b[31mout\x1b[0m\nnext\n", error=f"oh {EVIL}\n", exit_code=3,
           changed=True, data={"duration_ms": 3}, error_code="exit_code")  # fmt: skip
    ((_, card),) = cards_of(text_of(ada, path=f"/operations/{job.pk}/"))
    assert "<span>out</span>" in card
    assert "<span>next</span>" in card
    assert "is-err" in card
    assert "oh &lt;script&gt;" in card
    assert "exit 3" in card
    assert "Changed" in card
    assert "JSON" not in card


@pytest.mark.parametrize(
    "odd", [None, [], "text", 7, True, [1, "a"], {"a": {"b": {"c": 1}}}, {EVIL: EVIL}, [{EVIL: [EVIL]}, {}],
            {"a": [[1], [2]]}, {"a": []}, {"a": None, "b": 1.5}, [{"a": 1}, 2]]
)  # fmt: skip
def test_whatever_a_node_answers_the_page_stands_and_shows_it_as_text(nodes, page_as, odd):
    vera = page_as("vera")
    job, (one,) = begun(vera, target=nodes[0].name)
    answer(one, data=odd, error=EVIL)
    Node.objects.filter(pk=nodes[0].pk).update(name=EVIL)
    text = text_of(vera, path=f"/operations/{job.pk}/")
    assert EVIL not in text
    assert re.search(r"</svg> Ok</span>", text)


def test_the_call_is_told_with_its_secrets_left_out(nodes, page_as):
    ada, digest = page_as("ada"), "$6$abcdefgh$UqYV1qHOVjSV7sBv2X"
    more = {"name": "bob", "password": digest, "reason": "new here", "confirmed": "3"}
    job = sent(send(ada, "user.password.update", **more))
    text = text_of(ada, path=f"/operations/{job.pk}/")
    assert "UqYV1qHOVjSV7sBv2X" not in text
    assert "••••" in text
    assert "new here" in text
    assert "run by ada" in text
    assert f"/jobs/{job.pk}/" in text
    again = re.search(r'href="/operations/(\?[^"]+)">.*?Run again', text)[1].replace("&amp;", "&")
    filled = text_of(ada, again)
    assert 'value="bob"' in field_of(filled, "name")
    assert 'value="_all"' in filled


def test_run_again_fills_the_form_with_what_was_given(nodes, page_as):
    ada = page_as("ada")
    params = {"command": "uname", "args": "-a\n-r", "timeout": "60", "confirmed": "3"}
    job = sent(send(ada, "command.exec.execute", target="region:fra", **params))
    text = text_of(ada, path=f"/operations/{job.pk}/")
    again = re.search(r'href="/operations/(\?[^"]+)">.*?Run again', text)[1].replace("&amp;", "&")
    filled = text_of(ada, again)
    assert 'value="region:fra"' in filled
    assert 'value="uname"' in field_of(filled, "command")
    assert re.search(r">\s*-a\n-r</textarea>", field_of(filled, "args"))
    assert 'value="60"' in field_of(filled, "timeout")


@pytest.mark.parametrize(
    ("operation", "params", "command"),
    [
        ("node.load.get", {}, "https://x/api/v1/nodes/a:b/load?namespace=prod"),
        ("log.unit.get", {"name": "a b", "lines": 5},
         "https://x/api/v1/nodes/a:b/log/unit/a%20b?namespace=prod&lines=5"),
        ("docker.container.delete", {"id": "web", "force": True},
         """-X DELETE -H "Authorization: Bearer $TOKEN" 'https://x/api/v1/nodes/a:b/docker/web?namespace=prod&force=true'"""),
        ("sysctl.key.update", {"key": "kernel.x", "value": "it's"},
         """-d '{"value": "it'"'"'s"}' 'https://x/api/v1/nodes/a:b/sysctl/kernel.x?namespace=prod'"""),
        ("docker.image.delete", {"image": "ghcr.io/a:1"},
         "/docker/image/ghcr.io/a%3A1?namespace=prod"),
        ("agent.upgrade", {"version": "2"}, "-X PUT"),
    ],
)  # fmt: skip
def test_the_same_call_can_be_copied_as_a_command(operation, params, command):
    wish = Wish(operation=OPERATIONS[operation], target="a:b", namespace="prod", params=params)
    assert command in command_of("https://x/", wish)


def test_the_command_that_is_copied_does_the_same(nodes, page_as, rest_as):
    ada = page_as("ada")
    job = sent(send(ada, "process.entry.get", pid="17"))
    text = text_of(ada, path=f"/operations/{job.pk}/")
    command = re.search(
        r'data-copy="(curl [^"]+)"', text.replace("&quot;", "'").replace("&amp;", "&")
    )
    address = re.search(r"http://testserver(/api\S+?)(?:&#x27;|'|$)", command[1])[1]
    told = rest_as("ada").get(f"{address}&wait=0")
    again = Job.objects.get(pk=told.json()["job_id"]).versions.get().spec
    first = job.versions.get().spec
    assert again["config"] == first["config"]
    assert again["selector"] == first["selector"]


def test_secrets_are_masked_wherever_they_stand():
    assert masked("vars", {"A": "1", "API_KEY": "x"}) == {"A": "1", "API_KEY": "••••"}
    assert masked("env", ["A=1", "db_password=x=y", "alone"]) == [
        "A=1",
        "db_password=••••",
        "alone",
    ]
    assert masked("routes", [{"token": "x"}]) == [{"token": "••••"}]
    assert masked("key", "net.ipv4.ip_forward") == "net.ipv4.ip_forward"
    assert masked("password", "secret://db") == "secret://db"


def test_a_call_of_a_foreign_namespace_is_not_there(cast, page_as):
    fleet.make_nodes(1, "lab")
    job = sent(send(page_as("ada"), "node.load.get", namespace="lab"))
    for part in ("", "answers/"):
        path = f"/operations/{job.pk}/{part}"
        assert page_as("ada").get(path).status_code == 200
        for name in ("otto", "vera", "nils"):
            assert page_as(name).get(path).status_code == 404
        assert page_as().get(path).status_code == 302


@pytest.mark.parametrize("name", ["ada", "otto", "vera"])
def test_all_roles_of_the_namespace_may_look_at_a_call(nodes, page_as, name):
    job = sent(send(page_as("ada"), "node.load.get"))
    for part in ("", "answers/"):
        assert page_as(name).get(f"/operations/{job.pk}/{part}").status_code == 200


def test_without_the_permission_to_read_jobs_a_call_is_closed(cast, nodes, page_as):
    CustomRoleFactory(name="prober", permissions=["node:read"])
    RoleBindingFactory(user=cast.nils, role="prober", namespace_id="prod")
    job = sent(send(page_as("nils"), "node.load.get"))
    assert page_as("nils").get(f"/operations/{job.pk}/").status_code in (403, 404)


def test_a_job_that_is_no_call_has_no_page_of_one(nodes, page_as):
    for spec in (fleet.spec_of(), fleet.script_of()):
        rollout = fleet.start(spec)
        for part in ("", "answers/"):
            path = f"/operations/{rollout.job_id}/{part}"
            assert page_as("ada").get(path).status_code == 404


def test_a_call_with_a_selector_of_its_own_is_shown_and_not_offered_again(nodes, page_as):
    spec = {
        "name": "by-labels",
        "namespace": "prod",
        "type": "query",
        "selector": {"match_labels": {"region": "fra"}},
        "config": {"operation": "node.load.get"},
    }
    rollout = fleet.start(JobSpec.model_validate(spec))
    text = text_of(page_as("vera"), path=f"/operations/{rollout.job_id}/")
    assert "region=fra" in text
    assert len(cards_of(text)) == 3
    assert "Run again" not in text
    assert "The same by REST" not in text


def test_the_cards_take_as_many_queries_for_thirty_nodes_as_for_three(
    nodes, page_as, django_assert_max_num_queries
):
    vera, counts = page_as("vera"), []
    for more in (0, 27):
        fleet.make_nodes(more)
        job, executions = begun(vera)
        for one in executions[:-1]:
            answer(one, data={"cpu_count": 4})
        for part in ("", "answers/"):
            with django_assert_max_num_queries(15) as seen:
                text_of(vera, path=f"/operations/{job.pk}/{part}")
            counts.append(len(seen))
    assert counts[:2] == counts[2:]


def test_more_nodes_than_cards_are_counted_and_pointed_at(nodes, page_as, monkeypatch):
    monkeypatch.setattr(operation_answers, "CARDS_SHOWN", 2)
    vera = page_as("vera")
    job, executions = begun(vera)
    answer(executions[1], "failed", error="boom")
    text = text_of(vera, path=f"/operations/{job.pk}/")
    cards = cards_of(text)
    assert len(cards) == 2
    assert cards[0][0] == executions[1].node.name
    assert "1 more node" in text
    assert f"/executions/?{urlencode({'job': job.name})}" in text


# --- Ways to it ----------------------------------------------------------------------------------


def test_the_rail_and_the_pages_of_nodes_lead_to_it(nodes, page_as):
    vera, node = page_as("vera"), nodes[0]
    rail = re.search(r'<a class="rail-link" href="/operations/"[^>]*>', text_of(vera))[0]
    assert 'aria-current="page"' in rail
    rollouts = re.search(r'<a class="rail-link" href="/rollouts/"[^>]*>', text_of(vera))[0]
    assert "aria-current" not in rollouts
    assert 'href="/operations/"' in text_of(vera, path="/nodes/")
    text = text_of(vera, path=f"/nodes/{node.pk}/")
    assert f'href="/operations/?target={node.name}&amp;namespace=prod"' in text
    Node.objects.filter(pk=node.pk).update(enrolment_state="revoked")
    assert "/operations/?target" not in text_of(vera, path=f"/nodes/{node.pk}/")
