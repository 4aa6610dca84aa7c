"""A live page of namespaces: a noun of two boxes that only these tests register."""

from pathlib import Path

import pytest

TEMPLATES = Path(__file__).parent / "templates"


@pytest.fixture
def renders():
    """List the rows that boxes were rendered for, in order."""
    return []


@pytest.fixture
def space(settings, renders):
    """Register the noun `space`, whose rows are namespaces."""
    from access.models import Namespace
    from access.queries import readable_namespaces
    from live.registry import Fragment, Noun, _nouns, register

    def row(pk):
        renders.append(pk)
        return Namespace.objects.get(pk=pk)

    engine = {**settings.TEMPLATES[0], "DIRS": [*settings.TEMPLATES[0]["DIRS"], TEMPLATES]}
    settings.TEMPLATES = [engine]
    parts = tuple(
        Fragment(noun="space", name=name, template=f"live/_space_{name}.html", query=row)
        for name in ("about", "rules")
    )
    noun = Noun(
        name="space",
        may_read=lambda user, pk: pk in readable_namespaces(user),
        fragments=parts,
    )
    register("space", noun)
    yield noun
    del _nouns["space"]
