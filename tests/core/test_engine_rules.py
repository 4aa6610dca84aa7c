"""What the engine's linter lets through and we do not (docs/semantics.md 5)."""

import pytest

from agent.engine.rules import problems

INPUT = {"generate": {"mapping": "root = {}"}}
SERVER = {"http_server": {"address": "127.0.0.1:4195"}}


def said(config):
    return [(problem.path, problem.message) for problem in problems({"input": INPUT, **config})]


@pytest.mark.parametrize(
    ("config", "path", "word"),
    [
        ({"frob": 1}, "/frob", "unknown section"),
        ({"input": None}, "/input", "no input"),
        ({"buffer": {"memory": {}}}, "/buffer", "buffer"),
        ({"pipeline": {"thread": 1}}, "/pipeline/thread", "unknown field"),
        ({"pipeline": {"threads": "x"}}, "/pipeline/threads", "whole number"),
        ({"pipeline": {"processors": {}}}, "/pipeline/processors", "list"),
        ({"logger": {"level": "LOUD"}}, "/logger/level", "log level"),
        ({"output": {"resource": "x"}}, "/output/resource", "no resource labelled x"),
        (
            {"pipeline": {"processors": [{"cache": {"resource": "c", "key": "k"}}]}},
            "/pipeline/processors/0/cache/resource",
            "no resource labelled c",
        ),
        (
            {"pipeline": {"processors": [{"dedupe": {"cache": "c"}}]}},
            "/pipeline/processors/0/dedupe/cache",
            "no resource labelled c",
        ),
        ({"cache_resources": [{"memory": {}}]}, "/cache_resources/0", "label"),
        (
            {"cache_resources": [{"label": "a", "memory": {}}, {"label": "a", "lru": {}}]},
            "/cache_resources/1",
            "twice",
        ),
        (
            {"input": {"broker": {"inputs": [SERVER, {"http_server": {}}]}}},
            "/input/broker/inputs/1/http_server",
            "already listened on",
        ),
        ({"output": {"file": {"path": "x", "codec": "lins"}}}, "/output/file/codec", "no codec"),
        (
            {"pipeline": {"processors": [{"mapping": "meta jobsite = 1"}]}},
            "/pipeline/processors/0/mapping",
            "reserved",
        ),
        (
            {"pipeline": {"processors": [{"mapping": "root.a = @jobsite_e"}]}},
            "/pipeline/processors/0/mapping",
            "reserved",
        ),
    ],
)
def test_a_fault_is_named_with_its_place(config, path, word):
    assert [p for p, text in said(config) if word in text] == [path]


@pytest.mark.parametrize(
    "config",
    [
        {"buffer": {"none": {}}},
        {"output": {"http_client": {"url": "x", "headers": {"resource": "r"}}}},
        {"input": {"file": {"paths": ["x"], "codec": "gzip/csv:;"}}},
        {"input": {"broker": {"inputs": [SERVER, {"http_server": {"address": "127.0.0.1:2"}}]}}},
        {"logger": {"level": "debug"}, "metrics": {}, "tests": []},
        {
            "cache_resources": [{"label": "c", "memory": {}}],
            "pipeline": {"processors": [{"dedupe": {"cache": "c"}}]},
        },
    ],
)
def test_a_sound_pipeline_is_not_blamed(config):
    assert said(config) == []
