"""Pure. `${NAME}` and `${NAME:default}` in a pipeline's scalars, replaced from the job's variables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

Json: TypeAlias = Any

# The engine's own grammar: what it would replace a second time must look the same to both.
REFERENCE = re.compile(r"\$\{([0-9A-Za-z_.]+)(:(?:\$\{[^}]+\}|[^}])*)?\}")
ESCAPED = re.compile(r"\$\{(\{[0-9A-Za-z_.]+(?::(?:\$\{[^}]+\}|[^}])*)?\})\}")
INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
DECIMAL = re.compile(r"-?(0|[1-9][0-9]{0,14})\.[0-9]{0,14}[1-9]")


class MissingVariablesError(ValueError):
    """Variables that the pipeline names, without default, and the job does not have."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = dict(names)
        super().__init__("variables without a value: " + ", ".join(sorted(self.names)))


def substitute(config: Json, env: Mapping[str, str]) -> Json:
    """Return `config` with every reference replaced; `${{NAME}}` stays as it is.

    Unset or empty takes the default. Raises MissingVariablesError naming all that have none, each
    with the JSON pointer of its first use. A scalar that is one reference and reads as a number
    or a truth value becomes one, as it would in the text of an unquoted YAML scalar.
    """
    missing: dict[str, str] = {}
    result = _walk(config, env, "", missing)
    if missing:
        raise MissingVariablesError(missing)
    return result


def _walk(node: Json, env: Mapping[str, str], path: str, missing: dict[str, str]) -> Json:
    if isinstance(node, Mapping):
        return {
            _scalar(key, env, path, missing): _walk(value, env, pointer(path, key), missing)
            for key, value in node.items()
        }
    if isinstance(node, list | tuple):
        return [_walk(value, env, pointer(path, i), missing) for i, value in enumerate(node)]
    return _scalar(node, env, path, missing)


def _scalar(node: Json, env: Mapping[str, str], path: str, missing: dict[str, str]) -> Json:
    if not isinstance(node, str) or "${" not in node:
        return node
    whole = REFERENCE.fullmatch(node)
    if whole:
        value = _value(whole, env, path, missing)
        return _typed(value)
    pieces, at = [], 0
    for match in re.finditer(f"{ESCAPED.pattern}|{REFERENCE.pattern}", node):
        pieces.append(node[at : match.start()])
        at = match.end()
        if match.group(1):
            pieces.append(match.group(0))
        else:
            inner = REFERENCE.fullmatch(match.group(0))
            assert inner is not None
            pieces.append(_value(inner, env, path, missing).replace("\n", "\\n"))
    return "".join([*pieces, node[at:]])


def _value(match: re.Match[str], env: Mapping[str, str], path: str, missing: dict[str, str]) -> str:
    name, default = match.group(1), match.group(2)
    value = env.get(name, "")
    if not value and default is None:
        missing.setdefault(name, path)
        return ""
    if not value:
        return str(_scalar((default or ":")[1:], env, path, missing))
    # The engine substitutes once more, so what looks like a reference is escaped for it.
    return REFERENCE.sub(lambda found: "${" + found.group(0)[1:] + "}", value)


def _typed(value: str) -> str | int | float | bool:
    if value in {"true", "false"}:
        return value == "true"
    if INTEGER.fullmatch(value):
        return int(value)
    return float(value) if DECIMAL.fullmatch(value) else value


def pointer(parent: str, key: object) -> str:
    """Return the JSON pointer of `key` under `parent` (RFC 6901)."""
    return f"{parent}/{str(key).replace('~', '~0').replace('/', '~1')}"
