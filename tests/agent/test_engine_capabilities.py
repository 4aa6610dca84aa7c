"""An agent says which components its engine has, and why there are none when there are none."""

import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

from agent.engine import api
from agent.engine.process import environment
from tests.agent.pipelines import engine

pytestmark = engine

ROOT = Path(__file__).parents[2]
ASK = """
from agent.engine import api
found = api.capabilities()
print(found.available, found.reason, len(found.inputs), api.lint({"input": {"nope": {}}}, {}))
api.close()
"""


def test_the_components_of_the_engine_are_listed():
    found = api.capabilities()
    api.close()
    assert (found.available, found.reason) == (True, "")
    assert (found.engine_version, found.connect_version) == ("v4.84.0", "v4.115.1")
    assert {"file", "http_server", "subprocess", "resource"} <= set(found.inputs)
    assert {"mapping", "switch", "command", "resource"} <= set(found.processors)
    assert {"file", "stdout", "retry", "drop", "resource"} <= set(found.outputs)
    assert {"memory", "redis"} <= set(found.caches)
    assert found.rate_limits == ("local", "redis")
    assert {"lines", "csv"} <= set(found.scanners)
    assert not {"kafka", "redpanda"} & set(found.inputs + found.outputs)
    assert "protobuf" not in found.processors


def test_the_agent_itself_never_loads_the_engine():
    api.capabilities()
    api.close()
    assert "mq_bridge_connect_go" not in Path("/proc/self/maps").read_text()


def test_without_the_packages_there_are_none_and_the_reason_says_so(tmp_path):
    done = subprocess.run(
        [sys._base_executable, "-c", ASK],
        env=environment(str(tmp_path), {"PYTHONPATH": str(ROOT)}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("False the package mq-bridge is not installed 0")


def test_it_works_from_inside_the_one_file_agent(tmp_path):
    source = tmp_path / "source"
    for module in [
        ROOT / "agent" / "__init__.py",
        *ROOT.glob("agent/engine/*.py"),
        *ROOT.glob("agent/runners/*.py"),
    ]:
        target = source / module.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(module.read_bytes())
    (source / "__main__.py").write_text(ASK)
    zipapp.create_archive(source, tmp_path / "agent.pyz")
    done = subprocess.run(
        [sys.executable, tmp_path / "agent.pyz"],
        env=environment(str(tmp_path), {}),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert done.stdout.startswith("True  56 [")
    assert "node lacks input nope" in done.stdout


@pytest.fixture(autouse=True)
def _helper_ends():
    yield
    api.close()
