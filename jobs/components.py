"""Names the engine components that a pipeline needs, so that nodes that lack one can say so."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

ComponentKind: TypeAlias = Literal["input", "processor", "output"]

# Members that stand beside a component's name; the first is a plain text, the others hold more.
_BESIDE = frozenset({"label", "processors", "batching"})
_LISTS_OF_THE_SAME = frozenset({"try", "catch", "for_each", "fallback"})
_ONE: Mapping[str, ComponentKind] = {"input": "input", "output": "output"}
_MANY: Mapping[str, ComponentKind] = {
    "inputs": "input",
    "outputs": "output",
    "processors": "processor",
    "input_resources": "input",
    "output_resources": "output",
    "processor_resources": "processor",
}
_DEEPER = frozenset({"pipeline", "cases", "batching"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Sorted names of the components of each kind, as in a node's capabilities (docs/semantics.md 1.10)."""

    inputs: tuple[str, ...] = ()
    processors: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def required_components(config: Mapping[str, object]) -> Components:
    """Return the components a pipeline config names, nested ones included (docs/semantics.md 4.2)."""
    found: dict[ComponentKind, set[str]] = {"input": set(), "processor": set(), "output": set()}
    for kind, name in _scan(config):
        found[kind].add(name)
    return Components(
        inputs=tuple(sorted(found["input"])),
        processors=tuple(sorted(found["processor"])),
        outputs=tuple(sorted(found["output"])),
    )


def _scan(value: object) -> Iterator[tuple[ComponentKind, str]]:
    """Yield the components below a value that is no component itself."""
    for part in _parts(value) if isinstance(value, list) else [value]:
        for key, child in part.items() if isinstance(part, Mapping) else ():
            if key in _ONE:
                yield from _component(_ONE[key], child)
            elif key in _MANY:
                for item in _parts(child):
                    yield from _component(_MANY[key], item)
            elif key in _DEEPER:
                yield from _scan(child)
            elif key == "branches":
                yield from _scan(_parts(child))


def _component(kind: ComponentKind, value: object) -> Iterator[tuple[ComponentKind, str]]:
    if not isinstance(value, Mapping):
        return
    yield from _scan({key: value[key] for key in _BESIDE & value.keys()})
    for name in value.keys() - _BESIDE:
        yield kind, name
        body = value[name]
        if name in _LISTS_OF_THE_SAME and isinstance(body, list):
            for item in body:
                yield from _component(kind, item)
        else:
            yield from _scan(body)
        if isinstance(body, Mapping):
            yield from _component(kind, body.get("child"))


def _parts(value: object) -> list[object]:
    """Return the items of a list or the values of a mapping."""
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []
