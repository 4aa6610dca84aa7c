"""The text of a file object, which the control plane puts beside its name when it dispatches."""

from __future__ import annotations

from agent.operations.base import OperationError, Params


def text_of_object(params: Params) -> str:
    """Return the text of the object that the params name. Raises OperationError (`not_found`)."""
    content = params.get("content")
    if content is None:
        message = f"there is no object {str(params['object'])!r}: upload it and try again"
        raise OperationError(message, "not_found")
    return str(content)
