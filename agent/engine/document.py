"""Pure. One pipeline document cut into the two that the engine runs, with the seam repaired."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.engine.variables import Json

Document = dict[str, Json]

IGNORED = ("http", "metrics", "tracer", "tests", "shutdown_timeout", "shutdown_delay", "redpanda")
RESOURCES = ("cache_resources", "rate_limit_resources", "processor_resources")
INLINED = ("input_resources", "output_resources")
KNOWN_KEYS = frozenset(
    {"input", "output", "pipeline", "logger", "buffer", *IGNORED, *RESOURCES, *INLINED}
)
OWN_ERROR_HANDLING = frozenset(
    {"retry", "drop", "drop_on", "reject", "reject_errored", "sync_response"}
)
# What these have read or written needs nothing more when they are closed: no offset to commit,
# no archive to finish.
CLOSE_EMPTY_INPUTS = frozenset({"generate", "http_server", "file", "stdin", "socket"})
CLOSE_EMPTY_OUTPUTS = frozenset({"stdout", "file", "http_client"})
PLAIN_CODECS = frozenset({"lines", "append", "all-bytes"})
DEFAULT_ADDRESS = "127.0.0.1:4195"
ARRIVED = "jobsite_in"
DELIVERED = "jobsite_done"

COUNT_ARRIVED = f'let n = count("{ARRIVED}")'
COUNT_DELIVERED = f'let n = count("{DELIVERED}")'
PACK = 'meta = {"jobsite": {"m": @, "e": error()}.format_json(no_indent: true)}'
UNPACK = (
    "let e = (@jobsite.parse_json().e | null)\n"
    "meta = (@jobsite.parse_json().m | {})"
    '.assign(if $e != null {{"jobsite_e": $e}} else {{}})'
)
RAISE = (
    "root = if @jobsite_e != null "
    '{ throw(@jobsite_e.re_replace_all("^failed assignment \\\\(line [0-9]+\\\\): ", "")) }'
)
FORGET = "meta jobsite_e = deleted()"
REPEATED_ERROR_PATH = "root.pipeline.processors.1"

RETRY_BACKOFF = {"initial_interval": "500ms", "max_interval": "10s", "max_elapsed_time": "0s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """What the engine runs: both documents, and what the runner must know about them."""

    source: Document
    sink: Document
    notes: tuple[str, ...]
    log_level: str
    drop_errored: bool
    retried: bool
    # Once everything taken is written, the process may end without closing its two ends.
    closes_empty: bool = False


def config_of(document: Mapping[str, Json]) -> Document:
    """Return the pipeline of a whole job document (name, type, config), or the bare one itself."""
    inner = document.get("config")
    if "input" in document or not isinstance(inner, Mapping):
        return dict(document)
    beside = {key: document[key] for key in ("logger", "metrics") if key in document}
    return {**beside, **inner}


def divide(config: Mapping[str, Json], log_path: str) -> Pipeline:
    """Cut a linted, substituted pipeline at the seam (docs/semantics.md 5).

    `log_path` is where the engine writes its own log. Raises ValueError when an inlined
    resource refers to itself.
    """
    config = inline(config)
    notes = [f"{key} is ignored: the runner has its own" for key in IGNORED if key in config]
    level, logger = _logger(config.get("logger"), log_path)
    resources = {key: config[key] for key in RESOURCES if config.get(key)}
    source = {
        "input": with_addresses(config),
        "pipeline": _source_pipeline(config.get("pipeline") or {}),
        **resources,
        "logger": {**logger, "static_fields": {**logger["static_fields"], "side": "in"}},
    }
    if (config.get("pipeline") or {}).get("threads") == 1:
        source["max_in_flight"] = 1
    output = config.get("output") or {"stdout": {}}
    drop_errored = isinstance(output, Mapping) and "reject_errored" in output
    if drop_errored:
        output = _without_reject(output)
    retried = not holds(output, OWN_ERROR_HANDLING)
    if holds(output, {"reject", "reject_errored"}):
        notes.append("a rejected message pauses the input while it reconnects")
    sink = {
        "output": _retried(output) if retried else output,
        "pipeline": {
            "threads": 1,
            "processors": [{"mutation": step} for step in (UNPACK, RAISE, FORGET)],
        },
        **copy.deepcopy(resources),
        "logger": {**logger, "static_fields": {**logger["static_fields"], "side": "out"}},
        "publish_timeout": "0s",
    }
    return Pipeline(
        source=source,
        sink=sink,
        notes=tuple(notes),
        log_level=level,
        drop_errored=drop_errored,
        retried=retried,
        closes_empty=retried and _closes_empty(config["input"], output),
    )


def _closes_empty(source: Json, sink: Json) -> bool:
    if not (isinstance(source, Mapping) and isinstance(sink, Mapping)):
        return False
    file = sink.get("file")
    codec = file.get("codec", "lines") if isinstance(file, Mapping) else "lines"
    return (
        not CLOSE_EMPTY_INPUTS.isdisjoint(source)
        and not CLOSE_EMPTY_OUTPUTS.isdisjoint(sink)
        and codec in PLAIN_CODECS
    )


def inline(config: Mapping[str, Json]) -> Document:
    """Put input and output resources in place of their references (docs/semantics.md 5)."""
    named: dict[str, Json] = {}
    for key in INLINED:
        for definition in config.get(key) or []:
            if isinstance(definition, Mapping) and "label" in definition:
                body = {k: v for k, v in definition.items() if k != "label"}
                named[str(definition["label"])] = body
    rest = {key: value for key, value in config.items() if key not in INLINED}
    return {key: _inlined(value, named, ()) for key, value in rest.items()}


def _inlined(node: Json, named: Mapping[str, Json], seen: tuple[str, ...]) -> Json:
    if isinstance(node, list):
        return [_inlined(value, named, seen) for value in node]
    if not isinstance(node, Mapping):
        return node
    label = node.get("resource")
    if isinstance(label, str) and label in named:
        if label in seen:
            raise ValueError(f"resource {label} refers to itself")
        beside = {key: value for key, value in node.items() if key != "resource"}
        return {**beside, **_inlined(named[label], named, (*seen, label))}
    return {key: _inlined(value, named, seen) for key, value in node.items()}


def with_addresses(config: Mapping[str, Json]) -> Json:
    """Return the input with an `address` in every http_server that has none."""
    http = config.get("http")
    address = http.get("address") if isinstance(http, Mapping) else None
    return _addressed(config["input"], address or DEFAULT_ADDRESS)


def _addressed(node: Json, address: str) -> Json:
    if isinstance(node, list):
        return [_addressed(value, address) for value in node]
    if not isinstance(node, Mapping):
        return node
    result = {}
    for key, value in node.items():
        if key == "http_server" and isinstance(value, Mapping | None):
            result[key] = {"address": address, **(value or {})}
        else:
            result[key] = _addressed(value, address)
    return result


def _source_pipeline(pipeline: Mapping[str, Json]) -> Document:
    steps = list(pipeline.get("processors") or [])
    return {**pipeline, "processors": [{"mutation": COUNT_ARRIVED}, *steps, {"mutation": PACK}]}


def _without_reject(output: Mapping[str, Json]) -> Json:
    inner = output["reject_errored"]
    beside = {key: value for key, value in output.items() if key != "reject_errored"}
    return {**beside, **inner} if isinstance(inner, Mapping) else inner


def _retried(output: Json) -> Document:
    """Wrap an output so that it never nacks, and count what it has taken."""
    lasting = {"retry": {"output": output, "backoff": RETRY_BACKOFF}}
    # Sequential: the second output sees a message once the first has confirmed it.
    count = {"drop": {}, "processors": [{"mutation": COUNT_DELIVERED}]}
    return {"broker": {"pattern": "fan_out_sequential", "outputs": [lasting, count]}}


def _logger(block: Json, path: str) -> tuple[str, Document]:
    block = block if isinstance(block, Mapping) else {}
    level = str(block.get("level") or "INFO").upper()
    fields = block.get("static_fields")
    # Never quieter than INFO: state and error counts are read from the engine's log, and the
    # reader drops what the job did not ask to see.
    return level, {
        "level": level if level in {"DEBUG", "TRACE", "ALL"} else "INFO",
        "format": "json",
        "static_fields": dict(fields) if isinstance(fields, Mapping) else {},
        "file": {"path": path},
    }


def holds(node: Json, names: frozenset[str] | set[str]) -> bool:
    """Tell whether a component of one of these names stands anywhere under `node`."""
    return any(key in names for key in keys_in(node))


def keys_in(node: Json) -> Iterator[str]:
    """Yield every mapping key under `node`, depth first."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield str(key)
            yield from keys_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from keys_in(value)
