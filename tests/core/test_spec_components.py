"""Which engine components a pipeline needs, nested ones included (docs/semantics.md 4.2)."""

from jobs.components import Components, required_components

CONFIG = {
    "input": {
        "label": "in",
        "broker": {
            "inputs": [
                {"kafka": {"addresses": []}, "processors": [{"bloblang": "root = this"}]},
                {"read_until": {"input": {"file": {"paths": []}}}},
                {"batched": {"child": {"stdin": {}}}},
            ],
            "batching": {"processors": [{"archive": {"format": "lines"}}]},
        },
    },
    "pipeline": {
        "threads": 1,
        "processors": [
            {"mapping": "root = this"},
            {"try": [{"http": {"url": "x"}}, {"catch": [{"log": {"message": "m"}}]}]},
            {"switch": [{"check": "true", "processors": [{"dedupe": {}}]}]},
            {"branch": {"processors": [{"cache": {}}], "result_map": "root = this"}},
            {"workflow": {"branches": {"a": {"processors": [{"sleep": {}}]}}}},
            "not a mapping",
        ],
    },
    "output": {
        "switch": {
            "cases": [
                {
                    "check": "a",
                    "output": {"fallback": [{"s3": {}}, {"retry": {"output": {"drop": {}}}}]},
                },
                {"output": {"resource": "out"}},
            ]
        }
    },
    "output_resources": [{"label": "out", "gcp": {}, "processors": [{"compress": {}}]}],
    "input_resources": 5,
    "cache_resources": [{"label": "c", "memory": {}}],
}


def test_every_component_is_named_once_by_kind():
    assert required_components(CONFIG) == Components(
        inputs=("batched", "broker", "file", "kafka", "read_until", "stdin"),
        processors=(
            *(
                "archive",
                "bloblang",
                "branch",
                "cache",
                "catch",
                "compress",
                "dedupe",
                "http",
                "log",
            ),
            *("mapping", "sleep", "switch", "try", "workflow"),
        ),
        outputs=("drop", "fallback", "gcp", "resource", "retry", "s3", "switch"),
    )


def test_a_dynamic_input_lists_its_parts_by_name():
    config = {"input": {"dynamic": {"inputs": {"a": {"http_server": {}}}}}}
    assert required_components(config).inputs == ("dynamic", "http_server")


def test_an_empty_config_needs_nothing():
    assert required_components({}) == Components()
