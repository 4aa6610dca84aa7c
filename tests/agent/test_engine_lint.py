"""The engine's own linter, asked without running anything, leads to the exact place of a fault."""

import os
import signal
import socket
import time

import pytest

from agent.engine import api
from agent.engine.client import Helper, HelperFailedError
from tests.agent.pipelines import engine, generate

pytestmark = engine


@pytest.fixture(scope="module", autouse=True)
def _helper_ends():
    yield
    api.close()


def said(config, **env):
    return [(p.path, p.line, p.message) for p in api.lint({"input": generate(), **config}, env)]


@pytest.mark.parametrize(
    ("config", "path", "line", "text"),
    [
        (
            {"pipeline": {"processors": [{"mapping": "root = this\n\nroot.b = now(\nroot.c = 1"}]}},
            "/pipeline/processors/0/mapping",
            4,
            "",
        ),
        (
            {"pipeline": {"processors": [{"log": {}}, {"switch": [{"check": "this.", "processors": []}]}]}},
            "/pipeline/processors/1/switch/0/check",
            0,
            "expected method or field path",
        ),
        ({"input": {"file": {"pth": ["x"]}}}, "/input/file/pth", 0, "field pth not recognised"),
        ({"input": {"file": {"paths": ["x"], "scanner": {"nope": {}}}}},
         "/input/file/scanner/nope", 0, "node lacks scanner nope"),
        ({"input": {"kafka": {}}}, "/input/kafka", 0, "node lacks input kafka"),
        (
            {"output": {"broker": {"outputs": [{"stdout": {}}, {"kafka_franz": {}}]}}},
            "/output/broker/outputs/1/kafka_franz",
            0,
            "node lacks output kafka_franz",
        ),
        (
            {"cache_resources": [{"label": "a", "memory": {"ttl": "1s"}}]},
            "/cache_resources/0/memory/ttl",
            0,
            "field ttl not recognised",
        ),
        (
            {"output_resources": [{"label": "a", "fil": {"path": "x"}}]},
            "/output_resources/0/fil",
            0,
            "node lacks output fil",
        ),
    ],
)  # fmt: skip
def test_a_fault_is_found_where_it_is(config, path, line, text):
    found = said(config)
    assert [(p, n) for p, n, message in found if text in message] == [(path, line)]


def test_all_problems_come_at_once():
    steps = [{"mapping": "root = "}, {"nope": {}}, {"log": {"a": 1}}]
    found = said({"pipeline": {"processors": steps}, "output": {"nope": {}}, "frob": {}})
    assert [path for path, _, _ in found] == [
        "/frob",
        "/pipeline/processors/0/mapping",
        "/pipeline/processors/1/nope",
        "/pipeline/processors/2/log/a",
        "/output/nope",
    ]


def test_a_missing_field_is_named_at_the_component_that_lacks_it():
    found = said({"output": {"http_client": {"verb": "POST"}}})
    assert found == [("/output/http_client", 0, "field url is required")]


def test_a_sound_pipeline_has_no_problems():
    config = {
        "input": {"broker": {"inputs": [{"resource": "in"}]}},
        "input_resources": [{"label": "in", "stdin": {}}],
        "cache_resources": [{"label": "c", "memory": {}}],
        "rate_limit_resources": [{"label": "r", "local": {"count": 1, "interval": "1s"}}],
        "pipeline": {"threads": 2, "processors": [{"dedupe": {"cache": "c", "key": "${! content() }"}}]},
        "output": {"file": {"path": "/tmp/${NAME}", "codec": "lines"}},
    }  # fmt: skip
    assert api.lint(config, {"NAME": "x"}) == []


def test_a_missing_variable_is_a_problem_at_its_place():
    found = api.lint({"input": generate(mapping="root = '${A}'"), "output": {"drop": {}}}, {})
    assert [(p.path, p.message) for p in found] == [
        ("/input/generate/mapping", "the variable A has no value")
    ]


def test_linting_starts_nothing():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert api.lint({"input": {"http_server": {"address": f"127.0.0.1:{port}"}}}, {}) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_a_second_lint_takes_milliseconds():
    said({})
    start = time.monotonic()
    said({"pipeline": {"processors": [{"mapping": f"root.a{n} = now()"} for n in range(20)]}})
    assert time.monotonic() - start < 0.5


def test_a_helper_that_dies_is_replaced():
    helper = Helper()
    request = {"op": "lint", "config": {"input": generate()}, "env": {}}
    try:
        assert helper.ask(request, 2.0) == {"problems": []}
        first = helper.pid
        os.kill(first, signal.SIGKILL)
        with pytest.raises(HelperFailedError):
            helper.ask(request, 2.0)
        assert helper.ask(request, 2.0) == {"problems": []}
        assert helper.pid != first
    finally:
        helper.close()


def test_a_helper_that_hangs_is_replaced_after_its_limit():
    helper = Helper()
    request = {"op": "lint", "config": {"input": generate()}, "env": {}}
    try:
        helper.ask(request, 2.0)
        os.kill(helper.pid, signal.SIGSTOP)
        with pytest.raises(HelperFailedError, match="no answer within"):
            helper.ask(request, 0.2)
        assert helper.ask(request, 2.0) == {"problems": []}
    finally:
        helper.close()
