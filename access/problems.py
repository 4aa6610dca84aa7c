"""The one exception by which every service says no, whatever the door it was asked through."""

from collections.abc import Iterable, Mapping
from typing import Any


class Refused(Exception):  # noqa: N818 - the name says what happened to the request
    """A request was refused for a reason of the closed table `jobs.problems.CODES`.

    `code` fixes the HTTP status and the title; `detail` tells this case to a person, `hint` what
    to do about it; `errors` are problems with `path`, `code` and `message` (docs/semantics.md 4.12).
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        hint: str = "",
        errors: Iterable[object] = (),
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.code = code
        self.detail = detail
        self.hint = hint
        self.errors = tuple(errors)
        self.details = dict(details or {})
        super().__init__(detail or code)
