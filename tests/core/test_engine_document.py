"""A pipeline is cut in two so that nothing is lost at the seam (docs/semantics.md 5)."""

import pytest

from agent.engine.document import KNOWN_KEYS, config_of, divide, holds

INPUT = {"generate": {"mapping": "root = {}"}}


def cut(**config):
    return divide({"input": INPUT, **config}, "/log")


def test_the_source_counts_first_and_packs_last():
    steps = cut(pipeline={"processors": [{"log": {}}]}).source["pipeline"]["processors"]
    assert "count(" in steps[0]["mutation"]
    assert steps[1] == {"log": {}}
    assert "error()" in steps[2]["mutation"]


def test_the_sink_restores_in_three_steps_on_one_thread():
    pipeline = cut().sink["pipeline"]
    assert pipeline["threads"] == 1
    assert [sorted(step) for step in pipeline["processors"]] == [["mutation"]] * 3


def test_without_output_the_data_go_to_stdout():
    assert holds(cut().sink["output"], {"stdout"})


def test_an_output_is_wrapped_so_that_it_never_tears_down_the_route():
    pipeline = cut(output={"http_client": {"url": "http://x"}})
    lasting, counted = pipeline.sink["output"]["broker"]["outputs"]
    assert lasting["retry"]["output"] == {"http_client": {"url": "http://x"}}
    assert lasting["retry"]["backoff"]["max_elapsed_time"] == "0s"
    assert "drop" in counted
    assert pipeline.retried


@pytest.mark.parametrize("name", ["retry", "drop", "drop_on", "reject", "sync_response"])
def test_an_output_with_its_own_error_handling_is_left_alone(name):
    output = {"fallback": [{"stdout": {}}, {name: {}}]}
    pipeline = cut(output=output)
    assert pipeline.sink["output"] == output
    assert not pipeline.retried


def test_a_top_level_reject_errored_becomes_a_drop_in_the_handler():
    pipeline = cut(output={"reject_errored": {"file": {"path": "x"}}})
    assert pipeline.drop_errored
    assert pipeline.retried
    assert not holds(pipeline.sink["output"], {"reject_errored"})


def test_a_rejection_elsewhere_gets_a_warning():
    pipeline = cut(output={"fallback": [{"reject_errored": {"drop": {}}}, {"stdout": {}}]})
    assert not pipeline.drop_errored
    assert any("rejected" in note for note in pipeline.notes)


def test_one_thread_means_that_order_is_kept():
    assert cut(pipeline={"threads": 1, "processors": []}).source["max_in_flight"] == 1
    assert "max_in_flight" not in cut(pipeline={"threads": 2}).source


def test_the_log_is_json_on_its_own_path_and_says_which_side():
    pipeline = cut(logger={"level": "ERROR", "static_fields": {"team": "x"}})
    assert pipeline.log_level == "ERROR"
    assert pipeline.source["logger"] == {
        "level": "INFO",
        "format": "json",
        "static_fields": {"team": "x", "side": "in"},
        "file": {"path": "/log"},
    }
    assert pipeline.sink["logger"]["static_fields"]["side"] == "out"


@pytest.mark.parametrize("key", ["http", "metrics", "tracer", "tests", "shutdown_timeout"])
def test_what_the_runner_has_itself_is_ignored_with_a_note(key):
    pipeline = cut(**{key: {}})
    assert sum(note.startswith(key) for note in pipeline.notes) == 1
    assert key not in pipeline.source
    assert key not in pipeline.sink


def test_a_listener_gets_the_address_of_the_http_block_or_the_local_default():
    servers = {"broker": {"inputs": [{"http_server": {"path": "/a"}}, {"http_server": None}]}}
    given = divide({"input": servers, "http": {"address": "0.0.0.0:80"}}, "/log").source["input"]
    assert given["broker"]["inputs"][0]["http_server"] == {"address": "0.0.0.0:80", "path": "/a"}
    default = divide({"input": {"http_server": {}}}, "/log").source["input"]
    assert default["http_server"]["address"] == "127.0.0.1:4195"


def test_resources_of_both_ends_are_put_in_place_and_the_rest_go_to_both_sides():
    pipeline = divide(
        {
            "input": {"broker": {"inputs": [{"resource": "in"}, {"resource": "in"}]}},
            "output": {"resource": "out"},
            "input_resources": [{"label": "in", "stdin": {}}],
            "output_resources": [{"label": "out", "drop": {}}],
            "cache_resources": [{"label": "c", "memory": {}}],
        },
        "/log",
    )
    assert pipeline.source["input"] == {"broker": {"inputs": [{"stdin": {}}, {"stdin": {}}]}}
    assert pipeline.sink["output"] == {"drop": {}}
    assert pipeline.source["cache_resources"] == pipeline.sink["cache_resources"]
    assert "input_resources" not in pipeline.source


def test_a_resource_inside_itself_is_refused():
    loop = [{"label": "a", "broker": {"inputs": [{"resource": "a"}]}}]
    with pytest.raises(ValueError, match="itself"):
        divide({"input": {"resource": "a"}, "input_resources": loop}, "/log")


def test_a_whole_job_document_is_accepted_too():
    job = {"name": "x", "type": "pipeline", "logger": {"level": "WARN"}, "config": {"input": INPUT}}
    assert config_of(job) == {"input": INPUT, "logger": {"level": "WARN"}}
    assert config_of({"input": INPUT}) == {"input": INPUT}
    assert "config" not in KNOWN_KEYS


@pytest.mark.parametrize(
    ("config", "empty"),
    [
        ({}, True),
        ({"output": {"file": {"path": "/x"}}}, True),
        ({"output": {"file": {"path": "/x", "codec": "lines"}}}, True),
        ({"output": {"http_client": {"url": "http://x"}}}, True),
        ({"output": {"reject_errored": {"stdout": {}}}}, True),
        # An archive is finished, offsets are committed, when these are closed.
        ({"output": {"file": {"path": "/x", "codec": "gzip"}}}, False),
        ({"output": {"aws_s3": {"bucket": "x"}}}, False),
        ({"input": {"kafka": {"topics": ["x"]}}}, False),
        # What a buffered or several outputs have taken is not known.
        ({"output": {"drop": {}}}, False),
        ({"output": {"broker": {"outputs": [{"stdout": {}}]}}}, False),
    ],
)
def test_only_ends_that_have_nothing_to_close_may_be_left_open(config, empty):
    assert cut(**config).closes_empty is empty
