"""The real agent against the real gateway: it enrols, runs a script and reports its result."""

import subprocess
import sys

import pytest

from access.models import Namespace
from nodes.enrolment import issue_enrolment_token
from nodes.models import Node
from rollouts.models import Execution, Result
from tests.rollouts.rows import make_execution, make_job, script_spec
from tests.rollouts.servers import running_server
from tests.stack import PROJECT, clean_environment
from tests.waiting import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.e2e]


@pytest.fixture
def agent(transactional_db, tmp_path):
    """An agent that has enrolled; its log is printed when the test fails."""
    Namespace.objects.create(name="prod")
    token = issue_enrolment_token("prod", auto_accept=True)
    with running_server() as server, (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", "run", "--server", server.http, "--token", token,
             "--data-dir", tmp_path / "agent", "--name", "edge-1", "--label", "zone=north"],
            cwd=PROJECT, env=clean_environment(), stderr=log, stdout=log,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)
            print((tmp_path / "log").read_text())  # noqa: T201 - shown when it fails


def test_a_machine_joins_runs_a_script_and_reports_it(agent):
    node = wait_until(Node.objects.filter(connection_state="connected").first, 20)
    assert node.labels == {"zone": "north"}
    assert "shell" in node.capabilities["runtimes"]
    spec = script_spec("once")
    spec["config"]["payload"] = "echo hello; exit 3"
    execution = make_execution(node, make_job(spec))
    result = wait_until(Result.objects.filter(execution=execution).first, 20)
    assert (result.status, result.exit_code) == ("failed", 3)
    assert "hello" in result.output
    ended = Execution.objects.filter(pk=execution.pk, observed_state="failed")
    assert wait_until(ended.first, 20).delivered_seq == 1
