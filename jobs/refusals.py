"""Turns an error of the spec's model into a problem in the product's own words."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from pydantic_core import ErrorDetails

from jobs.durations import format_duration
from jobs.problems import CODES, Problem, pointer
from jobs.rules import DURATION_NAMES, MAX_SECONDS

_TYPE_WORDS = {
    "int_type": "must be a whole number",
    "string_type": "must be a text",
    "bool_type": "must be true or false",
    "float_type": "must be a number",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
}
_OWN_STAGES = {
    "rollout": "rollout",
    "timeouts": "timeouts",
    "selector": "selector",
    "config": "content",
}
# A slip of the keys is this much alike, from 0 to 1: `nmae` is to `name`, `colour` to nothing.
ALIKE = 0.75
_STRUCTURE_CODES = frozenset({"unknown_field", "invalid_type", "invalid_spec", "unknown_job_type"})
_PATTERN_WORDS = (
    "must begin and end with a lower-case letter or digit; inside '.', '_' and '-' are allowed too"
)


def problem_of(
    detail: ErrorDetails, members_of: Mapping[tuple[str | int, ...], Collection[str]]
) -> tuple[str, Problem]:
    """Return the stage and the problem of one error (docs/semantics.md 4.8, X38, C10).

    `members_of` names the known members of each block, for the hint of an unknown one.
    """
    place = detail["loc"]
    code, message = _code_and_words(detail)
    hint = ""
    if code == "unknown_field" and place[:-1] in members_of:
        known = members_of[place[:-1]]
        near = get_close_matches(str(place[-1]), known, n=1, cutoff=ALIKE)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    stage = "structure"
    if code not in _STRUCTURE_CODES:
        stage = _OWN_STAGES.get(str(place[0]), "structure")
    message = f"{place[-1]} {message}"
    return stage, Problem(path=pointer(*place), code=code, message=message, hint=hint)


def _code_and_words(detail: ErrorDetails) -> tuple[str, str]:
    kind, place = detail["type"], detail["loc"]
    fixed = {
        "missing": ("invalid_spec", "is required"),
        "extra_forbidden": ("unknown_field", "is not a known field"),
        "string_pattern_mismatch": ("invalid_value", _PATTERN_WORDS),
        **{name: ("invalid_type", words) for name, words in _TYPE_WORDS.items()},
    }
    if kind in fixed:
        return fixed[kind]
    if kind in CODES:
        return kind, f"{detail['msg']}"
    if kind == "literal_error":
        return _literal_words(detail)
    if place[0] == "timeouts":
        return "invalid_timeout", f"must be between 0 and {MAX_SECONDS} seconds"
    return "invalid_value", _range_words(detail)


def _literal_words(detail: ErrorDetails) -> tuple[str, str]:
    if not isinstance(detail["input"], str):
        return "invalid_type", "must be a text"
    code = "unknown_job_type" if detail["loc"] == ("type",) else "invalid_value"
    return code, f"must be {detail['ctx']['expected']}"


def _range_words(detail: ErrorDetails) -> str:
    words = detail["msg"].partition("should ")[2]
    limits: dict[str, Any] = detail.get("ctx", {})
    if detail["loc"][-1] in DURATION_NAMES:
        for limit in limits.values():
            words = words.replace(str(limit), format_duration(limit))
    return f"must {words}"
