"""What the navigation shows on every page: namespaces, the chosen one, and counts if asked for."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.utils.module_loading import import_string

from access.queries import readable_namespaces

Count = Callable[[Any, tuple[str, ...]], int]
_counts: dict[str, Count | str] = {}


def register_count(name: str, count: Count | str) -> None:
    """Let an app count for the navigation: `count(user, namespaces)`, or the dotted path of it.

    Called once, when the app is ready; a path is imported when the count is first asked for.
    """
    _counts[name] = count


class Counts:
    """The registered counts of the namespaces shown; each is read when a template asks for it."""

    def __init__(self, user: Any, namespaces: tuple[str, ...]) -> None:  # noqa: ANN401 - any user
        self._user = user
        self._namespaces = namespaces
        self._known: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        """Return a count; KeyError (for a template: nothing) when no app offers it."""
        if name not in self._known:
            count = _counts[name]
            read: Count = import_string(count) if isinstance(count, str) else count
            self._known[name] = read(self._user, self._namespaces)
        return self._known[name]


def current_namespace(request: HttpRequest) -> str:
    """Return the namespace that the pages are narrowed to, "" for all that the user may read.

    `?namespace=` chooses it, and the session keeps the choice.
    """
    readable = readable_namespaces(request.user)
    asked = request.GET.get("namespace")
    if asked is not None and (asked == "" or asked in readable):
        choose_namespace(request, asked)
    kept: str = request.session.get("namespace", "")
    return kept if kept in readable else ""


def choose_namespace(request: HttpRequest, name: str) -> None:
    """Keep a choice of namespace in the session, unless it is kept already."""
    if request.session.get("namespace", "") != name:
        request.session["namespace"] = name


def shown_namespaces(request: HttpRequest) -> tuple[str, ...]:
    """Return the namespaces whose rows a page shows: the chosen one, or all readable ones."""
    chosen = current_namespace(request)
    return (chosen,) if chosen else readable_namespaces(request.user)


def navigation(request: HttpRequest) -> dict[str, Any]:
    """Return the names that the rail uses; nothing is read for people who are not signed in."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return {}
    return {
        "namespaces": readable_namespaces(user),
        "current_namespace": current_namespace(request),
        "nav": Counts(user, shown_namespaces(request)),
    }
