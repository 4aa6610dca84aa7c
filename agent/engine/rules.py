"""Pure. Our own rules for a pipeline: what the engine's linter does not see or cannot know."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agent.engine.document import DEFAULT_ADDRESS, INLINED, KNOWN_KEYS, RESOURCES
from agent.engine.variables import Json, pointer

LEVELS = frozenset({"OFF", "NONE", "FATAL", "ERROR", "WARN", "INFO", "DEBUG", "TRACE", "ALL"})
CODECS = frozenset(
    {"auto", "all-bytes", "append", "lines", "delim", "chunker", "csv", "csv-safe", "gzip"}
    | {"pgzip", "regex", "tar", "multipart", "skipbom", "avro-ocf"}
)
WITH_CODEC = frozenset(
    {"file", "stdin", "stdout", "socket", "socket_server", "subprocess", "sftp", "aws_s3"}
    | {"gcp_cloud_storage", "azure_blob_storage"}
)
LISTENERS = frozenset({"http_server", "socket_server"})
RESERVED = re.compile(r"""(?:\bmeta\s+"?|@"?|\bmeta(?:data)?\(\s*["'])(jobsite\w*)""")
BESIDE_RESOURCE = frozenset({"resource", "label", "processors"})
LABEL_FIELDS = {"dedupe": "cache", "cached": "cache", "http_client": "rate_limit"}


@dataclass(frozen=True, slots=True)
class EngineProblem:
    """One thing wrong with a pipeline.

    `path` is a JSON pointer into the config, `section` its part (input, pipeline, output, ...),
    `line` the line inside a text of several lines such as a mapping, from 1 (0 = the key itself).
    """

    path: str
    message: str
    section: str
    line: int = 0


def problems(config: Mapping[str, Json]) -> list[EngineProblem]:
    """Return what our own rules say (docs/semantics.md 5)."""
    found = [*_top_level(config), *_labels(config), *_addresses(config)]
    for path, key, value in walk(config, ""):
        found += [*_codec(path, key, value), *_reserved(path, value)]
    return found


def walk(node: Json, path: str) -> Iterator[tuple[str, str, Json]]:
    """Yield (pointer, key, value) of every member under `node`, depth first."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield pointer(path, key), str(key), value
            yield from walk(value, pointer(path, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield pointer(path, index), str(index), value
            yield from walk(value, pointer(path, index))


def section_of(path: str) -> str:
    """Return the top-level key that a pointer lies under."""
    return path.split("/")[1] if "/" in path else ""


def _problem(path: str, message: str) -> EngineProblem:
    return EngineProblem(path, message, section_of(path))


def _top_level(config: Mapping[str, Json]) -> Iterator[EngineProblem]:
    for key in config:
        if key not in KNOWN_KEYS:
            yield _problem(pointer("", key), f"unknown section {key}")
    if not config.get("input"):
        yield EngineProblem("/input", "the pipeline has no input", "input")
    buffer = config.get("buffer")
    if buffer and set(buffer) != {"none"}:
        yield _problem("/buffer", "a buffer cannot be run here; use batching on input or output")
    pipeline = config.get("pipeline")
    if pipeline is not None and not isinstance(pipeline, Mapping):
        yield _problem("/pipeline", "pipeline must be an object")
    elif pipeline:
        yield from _pipeline(pipeline)
    logger = config.get("logger")
    if isinstance(logger, Mapping):
        level = logger.get("level")
        if level is not None and str(level).upper() not in LEVELS:
            yield _problem("/logger/level", f"unknown log level {level}")


def _pipeline(pipeline: Mapping[str, Json]) -> Iterator[EngineProblem]:
    for key in pipeline:
        if key not in {"threads", "processors"}:
            yield _problem(pointer("/pipeline", key), f"unknown field {key}")
    threads = pipeline.get("threads", 1)
    if isinstance(threads, bool) or not isinstance(threads, int):
        yield _problem("/pipeline/threads", "threads must be a whole number")
    if not isinstance(pipeline.get("processors", []), list | None):
        yield _problem("/pipeline/processors", "processors must be a list")


def _labels(config: Mapping[str, Json]) -> Iterator[EngineProblem]:
    defined: set[str] = set()
    for key in (*RESOURCES, *INLINED):
        for index, resource in enumerate(config.get(key) or []):
            path = pointer(pointer("", key), index)
            label = resource.get("label") if isinstance(resource, Mapping) else None
            if not label:
                yield _problem(path, "a resource needs a label")
            elif label in defined:
                yield _problem(path, f"the label {label} is used twice")
            defined.add(str(label))
    for path, label in _references(config):
        if label not in defined:
            yield _problem(path, f"there is no resource labelled {label}")


def _references(config: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    for path, key, value in walk(config, ""):
        if not isinstance(value, Mapping):
            continue
        label = value.get("resource")
        if isinstance(label, str) and _is_reference(key, value):
            yield pointer(path, "resource"), label
        field = LABEL_FIELDS.get(key)
        label = value.get(field) if field else None
        if isinstance(label, str) and label and field:
            yield pointer(path, field), label


def _is_reference(key: str, value: Mapping[str, Json]) -> bool:
    if key in {"headers", "metadata", "static_fields"}:
        return False
    return key in {"cache", "rate_limit"} or set(value) <= BESIDE_RESOURCE


def _addresses(config: Mapping[str, Json]) -> Iterator[EngineProblem]:
    http = config.get("http")
    default = http.get("address") if isinstance(http, Mapping) else None
    seen: dict[str, str] = {}
    for path, key, value in walk(config, ""):
        if key not in LISTENERS or not path.startswith(("/input", "/output")):
            continue
        fields = value if isinstance(value, Mapping) else {}
        address = fields.get("address") or (default or DEFAULT_ADDRESS)
        if str(address).endswith(":0"):
            continue
        if address in seen:
            yield _problem(path, f"{address} is already listened on by {seen[address]}")
        seen.setdefault(str(address), path)


def _codec(path: str, key: str, value: Json) -> Iterator[EngineProblem]:
    if key not in WITH_CODEC or not isinstance(value, Mapping):
        return
    codec = value.get("codec")
    if not isinstance(codec, str) or "${" in codec:
        return
    for part in codec.split("/"):
        if part.split(":", 1)[0] not in CODECS:
            yield _problem(pointer(path, "codec"), f"there is no codec {part}")
            return


def _reserved(path: str, value: Json) -> Iterator[EngineProblem]:
    match = RESERVED.search(value) if isinstance(value, str) else None
    if match:
        yield _problem(path, f"the metadata name {match.group(1)} is reserved")
