"""What a person does by REST alone: the walk of the README, scripts, and every button of a rollout."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.fleet import NODES, example, pipeline, script, wait_until, waves_in_order
from tests.stack import PROJECT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]


def kinds(history):
    return [event["kind"] for event in history]


# --- the walk of the README -------------------------------------------------------------------


def test_good_versions_go_out_in_waves_and_a_bad_one_comes_back(fleet):
    v1, v2, v3 = (example(f"web-log-v{number}.yaml") for number in (1, 2, 3))

    plan = fleet.plan(v1)
    assert [sorted(wave) for wave in plan["rollout"]["wave_names"]] == [NODES]
    assert fleet.http.get("/jobs/web-log").status_code == 404, "a dry run stored something"

    fleet.submit(v1)
    fleet.wait_rollout("web-log", 1)
    fleet.wait_live("web-log", dict.fromkeys(NODES, (1, "running")))
    again = fleet.put(v1)
    assert (again.status_code, again.json()["code"]) == (422, "no_changes")

    plan = fleet.plan(v2)["rollout"]
    assert [len(wave) for wave in plan["waves"]] == [1, 3, 1]
    assert sorted(name for wave in plan["wave_names"] for name in wave) == NODES
    fleet.submit(v2)
    second = fleet.wait_rollout("web-log", 2)
    assert (second["type"], second["updated_nodes"]) == ("update", 5)
    fleet.wait_live("web-log", dict.fromkeys(NODES, (2, "running")))
    went = waves_in_order(fleet.history("web-log"), second["id"])
    assert went == {i: sorted(wave) for i, wave in enumerate(plan["wave_names"], 1)}

    fleet.submit(v3)
    last = fleet.wait_rollout("web-log", 4)
    assert last["type"] == "rollback"
    fleet.wait_state("web-log", "running")
    check_that_v3_came_back(fleet, canary=plan["wave_names"][0])
    fleet.delete_if_there("web-log")


def check_that_v3_came_back(fleet, canary):
    versions = {row["version"]: row for row in fleet.all_of("/jobs/web-log/versions")}
    assert sorted(versions) == [1, 2, 3, 4]
    assert versions[4]["cause"] == "rollback"
    assert versions[4]["spec"] == versions[2]["spec"]

    third = next(row for row in fleet.all_of("/jobs/web-log/rollouts") if row["version"] == 3)
    assert (third["status"], third["current_wave"], third["failed_nodes"]) == ("halted", 1, 1)
    history = fleet.history("web-log")
    assert waves_in_order(history, third["id"]) == {1: canary}, "v3 went beyond its canary"
    told = [e["kind"] for e in history if e["job_version"] >= 3 and "execution" not in e["kind"]]
    order = ["rollout.started", "wave.opened", "wave.settled", "rollout.halted"]
    order += ["rollout.rolled_back", "rollout.completed"]
    assert [kind for kind in told if kind in order and kind != "rollout.started"] == order[1:]
    reason = next(
        e["message"] for e in history if e["execution_id"] and "unhealthy" in e["message"]
    )
    assert re.search(r"error rate \d+\.\d% above 5\.0%", reason), reason

    every_node_runs_v2(fleet, versions[2]["spec"])


def every_node_runs_v2(fleet, spec):
    def settled():
        live = fleet.live("web-log")
        return sorted(live) == NODES and {state for _, state in live.values()} == {"running"}

    wait_until(settled, 30, "not every node runs again")
    alive = [
        row
        for row in fleet.executions("web-log")
        if row["status"]["observed_state"]["state_type"] == "running"
    ]
    assert [row["job_spec"]["config"] for row in alive] == [spec["config"]] * 5


def test_the_pipeline_writes_what_it_read_on_each_node(fleet, job_name):
    text = example("web-log-v1.yaml").replace("name: web-log", f"name: {job_name}")
    fleet.submit(text)
    fleet.wait_state(job_name, "running")

    def nodes_that_wrote():
        files = Path(fleet.product.data / "agents").rglob("web-log.jsonl")
        return {
            line.split('"node":"')[1].split('"')[0]
            for file in files
            for line in file.read_text().splitlines()
            if '"kind":"log"' in line and '"node":"' in line
        }

    # Every request to the control plane is a line of the log that the nodes follow.
    assert wait_until(lambda: len(nodes_that_wrote()) == 5, 30, "not every node read the log")


# --- scripts ----------------------------------------------------------------------------------


def test_a_script_says_hello_from_every_node(fleet):
    fleet.submit(example("hello-script.yaml"))
    fleet.wait_state("hello", "completed")
    results = fleet.results("hello")
    assert {name: row["output"] for name, row in results.items()} == {
        name: f"hello from {name}\n" for name in NODES
    }
    assert {(row["status"], row["exit_code"]) for row in results.values()} == {("completed", 0)}
    fleet.delete_if_there("hello")


def test_an_exit_code_and_what_was_written_are_kept(fleet, job_name):
    fleet.submit(script(job_name, "echo out; echo err >&2; exit 7"))
    fleet.wait_state(job_name, "failed")
    wait_until(lambda: len(fleet.results(job_name)) == 5, 20)
    for row in fleet.results(job_name).values():
        assert (row["status"], row["exit_code"], row["output"]) == ("failed", 7, "out\n")
        assert "err" in row["error"]


def test_a_script_that_takes_too_long_is_ended_with_its_children(fleet, job_name):
    spec = script(job_name, "sleep 300 & sleep 300", timeouts={"execution_timeout": 1})
    fleet.submit(spec)
    fleet.wait_state(job_name, "failed", deadline=30)
    wait_until(lambda: len(fleet.results(job_name)) == 5, 20)
    for row in fleet.results(job_name).values():
        assert row["status"] == "timeout"
        assert "longer than its limit of 1 s" in row["error"]
        assert row["duration_ms"] < 15_000


# --- stop and delete --------------------------------------------------------------------------


def test_stopping_and_deleting_end_the_work_and_keep_the_history(fleet, job_name):
    fleet.run_first_version(job_name)
    stopped = fleet.http.post(f"/jobs/{job_name}/stop").json()
    assert stopped["changed"]
    wait_until(lambda: not fleet.live(job_name), 30, "it goes on running")
    assert fleet.state(job_name) == "stopped"
    assert fleet.http.post(f"/jobs/{job_name}/stop").json()["changed"] is False

    job_id = stopped["job"]["id"]
    assert fleet.http.delete(f"/jobs/{job_name}").status_code == 202
    assert fleet.http.get(f"/jobs/{job_name}").status_code == 404
    assert fleet.get(f"/jobs/{job_id}")["status"]["state"]["state_type"] == "deleted"
    assert "job.submitted" in kinds(fleet.history(job_id))


# --- the buttons of a rollout -----------------------------------------------------------------


def latest(fleet, name):
    return fleet.get(f"/jobs/{name}")["status"]["version"]


def how_many_run(fleet, name, version):
    """How many of the nodes run that version; on each of the others an earlier one goes on."""
    versions = [number for number, _ in fleet.live(name).values()]
    assert len(versions) == 5
    return versions.count(version)


def test_a_paused_rollout_opens_no_wave_until_it_is_resumed(fleet, steady):
    new = latest(fleet, steady) + 1
    fleet.submit(pipeline(steady, "paused", max_parallel=40))
    wait_until(lambda: fleet.rollout(steady)["version"] == new, 20)
    paused = fleet.act(steady, "pause", reason="lunch")
    assert (paused["status"], paused["pause_reason"]) == ("paused", "manual")

    def first_wave_settled():
        done = [e for e in fleet.history(steady) if e["job_version"] == new]
        return sum(e["details"]["updated"] for e in done if e["kind"] == "wave.settled") == 2

    wait_until(first_wave_settled, 40, "the open wave did not settle")
    assert fleet.state(steady) == "rollout_paused"
    assert fleet.rollout(steady)["current_wave"] == 1
    assert how_many_run(fleet, steady, new) == 2

    fleet.act(steady, "resume")
    done = fleet.wait_rollout(steady, new)
    went = waves_in_order(fleet.history(steady), done["id"])
    assert [len(names) for names in went.values()] == [2, 2, 1]


def test_a_canary_waits_for_its_promotion(fleet, steady):
    new = latest(fleet, steady) + 1
    fleet.submit(pipeline(steady, "promoted", strategy="canary", canary_count=1, max_parallel=100))
    waiting = fleet.wait_rollout(steady, new, "paused")
    assert waiting["pause_reason"] == "awaiting_promotion"
    assert how_many_run(fleet, steady, new) == 1
    fleet.act(steady, "promote")
    assert fleet.wait_rollout(steady, new)["canary_promoted"]
    fleet.wait_live(steady, dict.fromkeys(NODES, (new, "running")))


def test_a_cancelled_rollout_takes_no_further_node_and_a_rollback_returns(fleet, steady):
    old = latest(fleet, steady)
    new = old + 1
    fleet.submit(pipeline(steady, "cancelled", strategy="canary", canary_count=1, max_parallel=100))
    fleet.wait_rollout(steady, new, "paused")
    assert fleet.act(steady, "cancel", reason="changed our mind")["status"] == "cancelled"
    fleet.wait_state(steady, "rollout_failed")
    assert how_many_run(fleet, steady, new) == 1
    refused = fleet.http.post(f"/jobs/{steady}/rollout/promote", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "rollout_not_active")

    back = fleet.act(steady, "rollback", target_version=old)["version"]
    assert (back["version"], back["cause"]) == (new + 1, "rollback")
    assert fleet.wait_rollout(steady, new + 1)["type"] == "rollback"
    versions = {row["version"]: row for row in fleet.all_of(f"/jobs/{steady}/versions")}
    assert versions[new + 1]["spec"] == versions[old]["spec"]
    fleet.wait_state(steady, "running")


# --- the seed's job, as it is written ---------------------------------------------------------


@pytest.fixture
def production_node(fleet, tmp_path):
    """A namespace `production` with one node of env=production, enrolled through REST."""
    made = fleet.http.post("/namespaces", json={"name": "production"})
    assert made.status_code == 201, made.text
    token = fleet.http.post(
        "/enrolment-tokens", json={"namespace": "production", "auto_accept": True}
    )
    assert token.status_code == 201, token.text
    argv = [sys.executable, "-m", "agent", "run", "--server", fleet.product.url]
    argv += ["--name", "prod-1", "--data-dir", str(tmp_path / "prod-1")]
    argv += ["--token", token.json()["token"], "--label", "env=production"]
    with (tmp_path / "agent.log").open("wb") as log:
        agent = subprocess.Popen(argv, cwd=PROJECT, stdout=log, stderr=subprocess.STDOUT)
    yield "prod-1"
    agent.terminate()
    agent.wait(20)


def test_the_seed_s_job_ends_once_it_has_read_the_files_that_are_there(fleet, production_node):
    text = example("seed-log-processor.yaml")
    folder = Path("/var/log/app")
    may_write = os.access("/var/log", os.W_OK) and not folder.exists()
    if may_write:
        folder.mkdir()
        (folder / "a.log").write_text('{"level":"info","message":"first"}\n')
    try:
        wait_until(lambda: fleet.plan(text)["evaluation"]["eligible"] == 1, 30, "no node takes it")
        fleet.submit(text)
        fleet.wait_state("log-processor", "completed", "failed")
        (execution,) = fleet.executions("log-processor")
        assert execution["node_name"] == production_node
        state = execution["status"]["observed_state"]
        if may_write:
            assert state["state_type"] == "completed", state
            lines = [
                line
                for chunk in fleet.get(f"/executions/{execution['id']}/logs")["items"]
                for line in chunk["lines"]
            ]
            assert any('"processed_at"' in line and '"first"' in line for line in lines)
        else:
            assert state["state_type"] in ("completed", "failed")
            assert state["state_type"] == "completed" or state["message"]
    finally:
        fleet.delete_if_there("log-processor")
        if may_write:
            (folder / "a.log").unlink()
            folder.rmdir()
