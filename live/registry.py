"""The table of live fragments: a noun's parts, each one template and one query."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError
from django.template.loader import render_to_string
from django.utils.module_loading import import_string


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """One live box: `template` renders exactly one element with id `<noun>-<pk>-<name>`.

    `query` returns the frozen view model that is the template's whole context, as `view`. It is
    given the row's id, or what the noun's `load` made of it for all of its boxes at once.
    """

    noun: str
    name: str
    template: str
    query: Callable[[Any], Any]

    def render(self, row: object) -> str:
        """Return the box as it is now: the same text for page, refresh and push (law 9)."""
        return render_to_string(self.template, {"view": self.query(row)})


def _itself(pk: str) -> object:
    return pk


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    """A kind of page with live boxes, and who may look: `may_read(user, pk)`.

    `load(pk)` reads once what all boxes of a push need.
    """

    name: str
    may_read: Callable[[Any, str], bool]
    fragments: tuple[Fragment, ...]
    load: Callable[[str], object] = _itself

    def is_readable(self, user: Any, pk: str) -> bool:  # noqa: ANN401 - any kind of user
        """Say whether a person may look at a row; what cannot even be an id is not there."""
        try:
            return self.may_read(user, pk)
        except (ValueError, ValidationError):
            return False


_nouns: dict[str, Noun | str] = {}


def register(name: str, noun: Noun | str) -> None:
    """Add a noun, or the dotted path of one, which is imported when it is first asked for.

    Called once by each app's AppConfig.ready. Workers show no pages and never import theirs.
    """
    _nouns[name] = noun


def noun_named(name: str) -> Noun | None:
    """Return the noun, or None when there is none of that name."""
    noun = _nouns.get(name)
    if isinstance(noun, str):
        found: Noun = import_string(noun)
        _nouns[name] = noun = found
    return noun


def all_nouns() -> tuple[Noun, ...]:
    """Return every registered noun, by name."""
    found = (noun_named(name) for name in sorted(_nouns))
    return tuple(noun for noun in found if noun is not None)
