"""Typed operations on real agents: asked by REST, done on nodes, answered in one request."""

import os

import pytest

from tests.e2e.fleet import NODES, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_every_node_answers_in_one_request(fleet):
    answer = fleet.http.get("/nodes/_all/status", params={"wait": 60})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [told["node_name"] for told in body["results"]] == NODES
    assert {told["status"] for told in body["results"]} == {"ok"}
    assert all(told["cpu_count"] == os.cpu_count() for told in body["results"])
    job = fleet.get(f"/jobs/{body['job_id']}")
    assert (job["spec"]["type"], job["spec"]["selector"]) == ("query", {"target": "_all"})


def test_a_command_answers_with_its_output_from_one_node(fleet):
    answer = fleet.http.post(
        "/nodes/edge-2/command/shell",
        params={"wait": 60},
        json={"command": "echo on $JOBSITE_NODE @fact.arch; echo oh >&2; exit 3"},
    )
    assert answer.status_code == 200, answer.text
    (told,) = answer.json()["results"]
    assert (told["node_name"], told["status"], told["exit_code"]) == ("edge-2", "failed", 3)
    assert told["stdout"].startswith("on ")
    assert told["stderr"] == "oh\n"


def test_without_waiting_the_answers_are_fetched_later(fleet):
    answer = fleet.http.get("/nodes/_any/uptime", params={"wait": 0})
    assert (answer.status_code, answer.json()["results"]) == (202, [])
    job = answer.json()["job_id"]
    results = wait_until(lambda: fleet.get(f"/jobs/{job}/results")["items"], 60)
    assert [result["status"] for result in results] == ["completed"]
    assert results[0]["data"]["uptime"] > 0


def test_a_wait_that_ends_too_soon_says_who_is_missing(fleet):
    answer = fleet.http.post(
        "/nodes/edge-3/command/shell", params={"wait": 1}, json={"command": "sleep 4"}
    )
    assert answer.status_code == 202, answer.text
    assert [node["node_name"] for node in answer.json()["missing"]] == ["edge-3"]
    job = answer.json()["job_id"]
    wait_until(lambda: fleet.get(f"/jobs/{job}/results")["items"], 60)


def test_a_stack_of_operations_holds_on_every_node_and_says_what_it_did(fleet, job_name, tmp_path):
    tmp_path.chmod(0o777)
    step = {"command": f"echo x >> {tmp_path}/$JOBSITE_NODE"}
    spec = {
        "name": job_name,
        "type": "config",
        "selector": {"match_labels": {"role": "gateway"}},
        "config": {
            "operations": [{"operation": "command.shell.execute", "params": step}],
            "interval": "1s",
        },
    }
    fleet.submit(spec)
    fleet.wait_state(job_name, "running")
    wait_until(
        lambda: len([p for p in tmp_path.iterdir() if p.read_text().count("x") > 1]) == len(NODES),
        60,
        "the stack is not applied again at its interval",
    )
