"""Parts of the product die by kill -9 in the middle of a wave: work goes on and nothing runs twice.

Two rollouts are under way each time. The witnesses are not the product's: each script writes to a
file of its node with fsync, and the pipelines are looked for among the computer's processes.
"""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.fleet import NODES, pipeline, wait_until, waves_in_order

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(420)]

BOUND = 60.0

WRITES_DOWN_WHAT_RUNS = """
import os, time
def say(word):
    with open(os.path.join({folder!r}, os.environ["JOBSITE_NODE"]), "a") as file:
        file.write(os.environ["JOBSITE_EXECUTION"] + " " + word + "\\n")
        file.flush()
        os.fsync(file.fileno())
say("begin")
time.sleep(3)
say("end")
"""


def kill_worker(fleet, at_work):
    """The parent and its pool at once, as the kernel does it when memory runs out."""
    worker = fleet.product.child("worker")
    for process in [worker, *worker.children(recursive=True)]:
        process.kill()


def kill_web(fleet, at_work):
    fleet.product.child("web").kill()


def kill_agent(fleet, at_work):
    """One with a script at work, and its process group; scripts and pipelines lead their own."""
    os.killpg(os.getpgid(fleet.product.child(at_work[0]).pid), signal.SIGKILL)


def kill_valkey_and_its_data(fleet, at_work):
    valkey = fleet.product.child("valkey")
    folder = Path(fleet.product.data) / "valkey"
    assert any(folder.iterdir())
    valkey.suspend()
    valkey.kill()
    shutil.rmtree(folder)


def ledger_job(name, folder):
    return {
        "name": name,
        "type": "script",
        "selector": {"match_labels": {"role": "gateway"}},
        "rollout": {"strategy": "rolling", "max_parallel": 40},
        "config": {
            "runner": "python",
            "payload": WRITES_DOWN_WHAT_RUNS.format(folder=str(folder)),
        },
    }


def words(folder):
    """Node name -> what its scripts wrote, in order."""
    return {
        file.name: [line.split() for line in file.read_text().splitlines()]
        for file in folder.iterdir()
    }


def executions_alive():
    """Ids of the executions that processes of this computer carry in their environment."""
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            found.add(process.environ().get("JOBSITE_EXECUTION"))
    return found - {None}


@pytest.mark.parametrize(
    "kill", [kill_worker, kill_web, kill_agent, kill_valkey_and_its_data], ids=lambda k: k.__name__
)
def test_rollouts_end_right_and_nothing_runs_twice(fleet, steady, job_name, tmp_path, kill):
    before = fleet.get(f"/jobs/{steady}")["status"]["version"]
    fleet.submit(pipeline(steady, f"{kill.__name__}", max_parallel=40))
    fleet.submit(ledger_job(job_name, tmp_path))
    # The first wave is in the middle of its work.
    wait_until(lambda: len(words(tmp_path)) == 2, 30, "the first wave wrote nothing")
    assert fleet.rollout(job_name)["status"] == "active"
    assert fleet.rollout(steady)["status"] == "active"

    kill(fleet, sorted(words(tmp_path)))
    since = time.monotonic()
    wait_until(lambda: fleet.product.get("/readyz")[0] == 200, 30, "the web did not come back")
    fleet.wait_state(job_name, "completed", deadline=BOUND)
    fleet.wait_rollout(steady, before + 1, deadline=BOUND - (time.monotonic() - since))

    scripts_ran_once(fleet, job_name, tmp_path)
    pipelines_run_once(fleet, steady, before + 1)


def scripts_ran_once(fleet, name, folder):
    executions = {row["node_name"]: row["id"] for row in fleet.executions(name)}
    assert len(executions) == len(fleet.executions(name)) == 5
    assert words(folder) == {
        node: [[executions[node], "begin"], [executions[node], "end"]] for node in NODES
    }
    results = fleet.results(name)
    assert {node: (row["status"], row["exit_code"]) for node, row in results.items()} == (
        dict.fromkeys(NODES, ("completed", 0))
    )
    went = waves_in_order(fleet.history(name), fleet.rollout(name)["id"])
    assert [len(nodes) for nodes in went.values()] == [2, 2, 1]


def pipelines_run_once(fleet, name, version):
    fleet.wait_live(name, dict.fromkeys(NODES, (version, "running")), deadline=30)
    went = waves_in_order(fleet.history(name), fleet.rollout(name)["id"])
    assert [len(nodes) for nodes in went.values()] == [2, 2, 1]
    running = {
        row["id"]
        for row in fleet.executions(name)
        if row["status"]["observed_state"]["state_type"] == "running"
    }
    ours = {row["id"] for row in fleet.executions(name)}
    wait_until(lambda: executions_alive() & ours == running, 20, "other pipelines run than it says")
