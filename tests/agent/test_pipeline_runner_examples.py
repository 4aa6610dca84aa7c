"""The example jobs do on the real engine what their comments promise."""

import json
from pathlib import Path

import pytest

from agent.engine import api
from tests.agent.pipelines import Pipelines, engine, until

yaml = pytest.importorskip("yaml")
pytestmark = engine

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    return yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text())


@pytest.fixture
async def pipelines(tmp_path):
    started = Pipelines(tmp_path)
    yield started
    await started.close()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_pipeline_is_sound(path):
    job = yaml.safe_load(path.read_text())
    if job.get("type") == "pipeline":
        assert api.lint(job["config"], {"JOBSITE_WORKDIR": "/tmp"}) == []
    api.close()


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_a_good_version_follows_the_log_and_marks_each_line(pipelines, tmp_path, version):
    log = tmp_path / "web.jsonl"
    log.write_text('{"message":"before"}\n')
    env = {"JOBSITE_LOG": str(log), "JOBSITE_NODE": "n1"}
    work, report = await pipelines.start(example(f"web-log-{version}")["config"], env=env)
    await until(lambda: report.total("messages_ok") > 3)
    with log.open("a") as file:
        file.write('{"message":"request","path":"/readyz","duration_ms":3}\nnot json\n')
    kept = tmp_path / "work0" / "web-log.jsonl"
    await until(lambda: kept.exists() and kept.read_text().count("\n") == 2)
    found = {record["message"]: record for record in map(json.loads, kept.read_text().splitlines())}
    assert set(found) == {"request", "not json"}
    assert found["request"]["pipeline"] == version
    assert found["request"]["node"] == "n1"
    assert "processed_at" in found["request"]
    await until(lambda: len(report.windows) >= 3)
    assert report.total("errors") == 0
    assert json.loads(report.lines["stdout"][0])["kind"] == "heartbeat"
    await work.stop(15)


async def test_v3_fails_a_fifth_of_its_messages_even_on_a_quiet_node(pipelines):
    job = example("web-log-v3")
    limit = job["rollout"]["health_check"]["max_error_rate"]
    _, report = await pipelines.start(job["config"], interval=2.0)
    await until(lambda: len(report.windows) >= 3)
    for window in report.windows:
        assert window.messages_in > 0
        assert window.errors / window.messages_in > limit
    assert "v3 cannot read this record" in report.windows[-1].last_error
