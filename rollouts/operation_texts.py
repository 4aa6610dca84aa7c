"""The parameters of a call as people read and send them: texts of a form, secrets, a command."""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from jobs.rules import is_plain_secret
from nodes.operations import Operation, Param, ParamType

# What stands in the place of a secret.
HIDDEN = "••••"
# Fields of the form are named so, in its address and when it is posted.
PREFIX = "param"
_IN_QUERY = frozenset({"GET", "DELETE"})
# Parameters named so are what their operation is about: a kernel setting, a public key.
_OPEN = frozenset({"key"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An operation on a target, with its parameters as JSON values."""

    operation: Operation
    target: str
    namespace: str
    params: Mapping[str, Any]


def masked(name: str, value: object) -> object:
    """Return a value without what looks like a secret, also inside of maps and of `KEY=value` items.

    >>> masked("env", ["A=1", "API_TOKEN=x"])
    ['A=1', 'API_TOKEN=••••']
    """
    if isinstance(value, Mapping):
        return {key: masked(str(key), item) for key, item in value.items()}
    if isinstance(value, list):
        return [_masked_item(name, item) for item in value]
    return HIDDEN if name not in _OPEN and is_plain_secret(name, value) else value


def _masked_item(name: str, item: object) -> object:
    if isinstance(item, str) and "=" in item:
        key, _, value = item.partition("=")
        return f"{key}={masked(key, value)}"
    return masked(name, item)


def text_of(param: Param, value: object) -> str:
    """Return a value as the form's field of this parameter holds it."""
    if param.type is ParamType.OBJECTS:
        return json.dumps(value, indent=2, ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "\n".join(map(str, value))
    if isinstance(value, Mapping):
        return "\n".join(f"{key}={item}" for key, item in value.items())
    return str(value)


def shown_params(operation: Operation, params: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the parameters that were given, in the registry's order, without secrets."""
    return tuple(
        (param.name, text_of(param, masked(param.name, params[param.name])))
        for param in operation.params
        if param.name in params
    )


def again_query(wish: Wish) -> str:
    """Return the query by which the form is filled in for the same call; secrets are left out."""
    parts = {
        "target": wish.target,
        "operation": wish.operation.name,
        "namespace": wish.namespace,
    }
    for param in wish.operation.params:
        value = wish.params.get(param.name)
        if value is not None and masked(param.name, value) == value:
            parts[f"{PREFIX}-{param.name}"] = text_of(param, value)
    return urlencode(parts)


def command_of(here: str, wish: Wish) -> str:
    """Return the command that makes the same call by REST; `here` is the address of this server."""
    operation = wish.operation
    values = {name: masked(name, value) for name, value in wish.params.items()}
    if not operation.path:
        return _submit_command(here, wish, values)
    path = operation.path
    for name in operation.path_params:
        path = path.replace(f"{{{name}}}", quote(str(values.pop(name, "")), safe="/"))
    query = {"namespace": wish.namespace}
    body: dict[str, object] = {}
    if operation.method in _IN_QUERY:
        query |= {name: _in_query(value) for name, value in values.items()}
    else:
        body = values
    target = quote(wish.target, safe=":")
    address = f"{here}api/v1/nodes/{target}{path}?{urlencode(query, doseq=True)}"
    return _curl(operation.method, address, body)


def _submit_command(here: str, wish: Wish, values: Mapping[str, object]) -> str:
    spec = {
        "name": wish.operation.name,
        "namespace": wish.namespace,
        "type": str(wish.operation.kind),
        "selector": {"target": wish.target},
        "config": {"operation": wish.operation.name, "params": values},
    }
    return _curl("PUT", f"{here}api/v1/jobs", spec)


def _in_query(value: object) -> Any:  # noqa: ANN401 - a text, or a list of texts
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, list) else str(value)


def _curl(method: str, address: str, body: Mapping[str, object]) -> str:
    parts = ["curl -sS"]
    if method != "GET":
        parts.append(f"-X {method}")
    parts.append('-H "Authorization: Bearer $TOKEN"')
    if body:
        text = json.dumps(body, ensure_ascii=False)
        parts.append(f'-H "Content-Type: application/json" -d {shlex.quote(text)}')
    return " ".join([*parts, shlex.quote(address)])
