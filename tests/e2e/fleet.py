"""The running product as a client of REST sees it, and the jobs that the tests submit."""

import logging
from collections import defaultdict
from functools import partial
from pathlib import Path

import httpx

from tests import waiting
from tests.stack import PROJECT

# Every request asks the product for something: asking seldom leaves it the time to answer.
wait_until = partial(waiting.wait_until, every=0.2)
logging.getLogger("httpx").setLevel(logging.WARNING)

EXAMPLES = Path(PROJECT) / "examples"
ENDED = {"completed", "failed", "stopped", "lost"}
NODES = ["edge-1", "edge-2", "edge-3", "edge-4", "edge-5"]


def example(name):
    """The text of one of the jobs in examples/."""
    return (EXAMPLES / name).read_text()


def script(name, payload, **more):
    """A shell script for every node."""
    return {
        "name": name,
        "type": "script",
        "selector": {"target": "_all"},
        "config": {"runner": "shell", "payload": payload},
        **more,
    }


def pipeline(name, mark, *, strategy="rolling", **rollout):
    """A pipeline that makes ten messages a second; `mark` makes the version differ from others."""
    health = {"interval": "1s", "deadline": "60s", "success_threshold": 2, "failure_threshold": 2}
    block = {"strategy": strategy, "health_check": health, **rollout}
    return {
        "name": name,
        "type": "pipeline",
        "selector": {"match_labels": {"role": "gateway"}},
        "rollout": block if strategy != "immediate" else {"strategy": strategy},
        "config": {
            "input": {"generate": {"interval": "100ms", "mapping": f'root = "{mark}"'}},
            "output": {"drop": {}},
        },
    }


class Fleet:
    """REST with a token that `create_token` printed."""

    def __init__(self, product):
        self.product = product
        token = product.manage("create_token", "--user", "admin", "--name", "e2e").strip()
        self.token = token.splitlines()[-1]
        self.http = httpx.Client(
            base_url=f"{product.url}/api/v1",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout=60,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.close()

    # --- asking ----------------------------------------------------------------------------------

    def get(self, path, **params):
        """GET a path and give its body; it must be there."""
        answer = self.http.get(path, params=params)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    def all_of(self, path, **params):
        """Every item of a list, page by page."""
        items, token = [], ""
        while True:
            page = self.get(path, **params, **({"next_token": token} if token else {}))
            items += page["items"]
            token = page["next_token"]
            if not token:
                return items

    def put(self, spec, **params):
        """Submit a spec, as YAML text or as a mapping, and give the answer."""
        if isinstance(spec, str):
            kind = {"Content-Type": "application/yaml"}
            return self.http.put("/jobs", content=spec, headers=kind, params=params)
        return self.http.put("/jobs", json=spec, params=params)

    def submit(self, spec, **params):
        """Submit a spec that is right, and give the job."""
        answer = self.put(spec, **params)
        assert answer.status_code in (200, 201), answer.text
        return answer.json()["job"]

    def plan(self, spec):
        """What a dry run says."""
        answer = self.put(spec, dry_run=1)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def act(self, name, verb, **body):
        """Post one of a rollout's verbs and give the answer's body."""
        answer = self.http.post(f"/jobs/{name}/rollout/{verb}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def delete_if_there(self, name):
        """Delete a job and wait until nothing of it runs."""
        answer = self.http.delete(f"/jobs/{name}")
        if answer.status_code == 202:
            job_id = answer.json()["id"]
            wait_until(lambda: not self.live(job_id), 120, f"{name} goes on running")

    # --- what is ---------------------------------------------------------------------------------

    def eligible_nodes(self):
        """Names of the nodes that could run the example pipeline now."""
        plan = self.plan(example("web-log-v1.yaml").replace("name: web-log", "name: never-sent"))
        return sorted(name for wave in plan["rollout"]["wave_names"] for name in wave)

    def state(self, name):
        """The state of a job."""
        return self.get(f"/jobs/{name}")["status"]["state"]["state_type"]

    def rollout(self, name):
        """The newest rollout of a job; empty when the scheduler has not started one."""
        answer = self.http.get(f"/jobs/{name}/rollout")
        return answer.json() if answer.status_code == 200 else {}

    def history(self, name):
        """Every event of a job, oldest first."""
        return self.all_of(f"/jobs/{name}/history", limit=200)[::-1]

    def executions(self, name):
        """Every execution of a job, oldest first."""
        return self.all_of(f"/jobs/{name}/executions", limit=200)[::-1]

    def live(self, name):
        """Node name -> (version, observed state), of what runs or is about to."""
        return {
            row["node_name"]: (row["job_version"], state)
            for row in self.executions(name)
            if (state := row["status"]["observed_state"]["state_type"]) not in ENDED
        }

    def results(self, name):
        """Node name -> how its script ended; each node must have one result at most."""
        names = {row["id"]: row["node_name"] for row in self.executions(name)}
        rows = self.all_of(f"/jobs/{name}/results")
        found = {names[row["execution_id"]]: row for row in rows}
        assert len(found) == len(rows), rows
        return found

    # --- waiting ---------------------------------------------------------------------------------

    def wait_rollout(self, name, version, status="completed", deadline=120.0):
        """Wait until the rollout of that version stands so, and give it."""

        def stands():
            rollout = self.rollout(name)
            is_it = (rollout.get("version"), rollout.get("status")) == (version, status)
            return rollout if is_it else None

        return wait_until(stands, deadline, f"{name}: version {version} is not {status}")

    def wait_state(self, name, *states, deadline=120.0):
        """Wait until the job is in one of these states."""
        wait_until(
            lambda: self.state(name) in states, deadline, f"{name} is not {' or '.join(states)}"
        )

    def wait_live(self, name, expected, deadline=120.0):
        """Wait until exactly this runs."""
        wait_until(
            lambda: self.live(name) == expected, deadline, f"{name} is not on {sorted(expected)}"
        )

    def run_first_version(self, name):
        """Get version 1 of a pipeline onto every node at once."""
        self.submit(pipeline(name, "one", strategy="immediate"))
        self.wait_rollout(name, 1)
        self.wait_live(name, dict.fromkeys(NODES, (1, "running")))


def waves_in_order(history, rollout_id):
    """Give each wave's nodes, once it is sure that none opened before the one before settled.

    The history is read in order: when a wave opens, as many nodes of the wave before must have
    settled as it took.
    """
    taken, settled, nodes = defaultdict(int), defaultdict(int), defaultdict(list)
    for event in history:
        details = event["details"]
        if event["rollout_id"] != rollout_id:
            continue
        if event["kind"] == "wave.opened":
            for earlier in range(1, details["wave"]):
                assert settled[earlier] == taken[earlier] > 0, (earlier, details)
            taken[details["wave"]] += details["size"]
        elif event["kind"] == "wave.settled":
            settled[details["wave"]] += details.get("updated", 0) + details.get("failed", 0)
        elif event["kind"] == "execution.created":
            nodes[details["wave"]].append(details["node"])
    return {wave: sorted(names) for wave, names in nodes.items()}
