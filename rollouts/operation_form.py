"""The form of an operation, made from its row in the registry."""

import json
from collections.abc import Mapping
from typing import Any

from django import forms

from nodes.operations import Kind, Operation, Param, ParamType, check_params
from rollouts.operation_texts import PREFIX

# What JSON readers take exactly.
_INTEGER_MOST = 2**53 - 1
_HINTS = {
    ParamType.TEXTS: "One on a line.",
    ParamType.MAP: "One on a line, key=value.",
    ParamType.OBJECTS: 'JSON: a list of objects, [{"key": "value"}].',
}
_FILE_NAMES = frozenset({"object", "object_name"})
_YES = frozenset({"true", "on", "1"})


class LinesField(forms.CharField):
    """A list of texts, one on a line; blank lines count for nothing."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> Any:  # noqa: ANN401 - Django's signature
        """Return the lines."""
        return [line.strip() for line in _lines(value) if line.strip()]


class PairsField(forms.CharField):
    """An object of texts, `key=value` on a line."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> Any:  # noqa: ANN401 - Django's signature
        """Return the pairs. Raises ValidationError with the line's number."""
        pairs: dict[str, str] = {}
        for number, line in enumerate(_lines(value), start=1):
            key, mark, text = (part.strip() for part in line.partition("="))
            if not line.strip():
                continue
            if not key or not mark:
                raise forms.ValidationError(f"Line {number}: write it as key=value.")
            if key in pairs:
                raise forms.ValidationError(f"Line {number}: {key} stands twice.")
            pairs[key] = text
        return pairs


class ObjectsField(forms.CharField):
    """A list of objects as JSON."""

    widget = forms.Textarea

    def to_python(self, value: Any) -> Any:  # noqa: ANN401 - Django's signature
        """Return the list; what else the text is, is refused by its type later."""
        try:
            return _read_json((value or "").strip() or "[]")
        except (ValueError, RecursionError) as error:
            where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
            raise forms.ValidationError(f"This cannot be read as JSON{where}.") from error


def _read_json(text: str) -> object:
    """Read what a row can hold: no infinite number, no half of a character, no NUL."""
    found = json.loads(text)
    printed = json.dumps(found, ensure_ascii=False, allow_nan=False)
    printed.encode()
    if "\\u0000" in printed:
        raise ValueError("a NUL character")
    return found


def _lines(value: str | None) -> list[str]:
    text = value or ""
    if "\0" in text:
        raise forms.ValidationError("A NUL character cannot be kept.")
    return text.split("\n")


_TEXTS: Mapping[ParamType, type[forms.CharField]] = {
    ParamType.TEXT: forms.CharField,
    ParamType.TEXTS: LinesField,
    ParamType.MAP: PairsField,
    ParamType.OBJECTS: ObjectsField,
}


class OperationForm(forms.Form):
    """The parameters of one operation; which values are right is said by the registry."""

    def __init__(
        self,
        operation: Operation,
        data: Mapping[str, Any] | None = None,
        filled: Mapping[str, str] | None = None,
    ) -> None:
        """Make the fields; `filled` holds texts by parameter, as an address brings them."""
        super().__init__(
            data,
            prefix=PREFIX,
            initial=_initial(operation, filled or {}),
            # Else a field would keep what was typed into that of another operation.
            auto_id=f"id_{operation.name.replace('.', '-')}_%s",
        )
        self.operation = operation
        self.fields.update({param.name: _field(operation, param) for param in operation.params})

    def clean(self) -> dict[str, Any]:
        """Add what the registry has against the values, each beside its field."""
        cleaned = super().clean() or self.cleaned_data
        for wrong in check_params(self.operation, self.params()):
            name = str(wrong.keys[0])
            if name not in self.errors:
                is_missing = wrong.code == "invalid_spec"
                self.add_error(
                    name, "It must be given." if is_missing else _sentence(wrong.message)
                )
        return cleaned

    def params(self) -> dict[str, Any]:
        """Return the parameters that were given, as JSON values."""
        found: dict[str, Any] = {}
        for param in self.operation.params:
            value = self.cleaned_data.get(param.name)
            is_flag = param.type is ParamType.BOOLEAN
            is_default = is_flag and not is_open(self.operation, param) and value is param.default
            if value not in (None, "", [], {}) and not is_default:
                found[param.name] = value
        return found


def _sentence(message: str) -> str:
    return f"{message[:1].upper()}{message[1:]}."


def is_open(operation: Operation, param: Param) -> bool:
    """Say whether a flag may be left as it is on the node, which a box to tick cannot say."""
    return (
        param.type is ParamType.BOOLEAN
        and param.default is False
        and operation.kind is Kind.UPDATE
        and operation.name.endswith(".update")
    )


def _initial(operation: Operation, filled: Mapping[str, str]) -> dict[str, object]:
    initial: dict[str, object] = {}
    for param in operation.params:
        text = filled.get(param.name)
        if text is None:
            initial[param.name] = None if is_open(operation, param) else param.default
        elif param.type is ParamType.BOOLEAN and not is_open(operation, param):
            initial[param.name] = text.lower() in _YES
        else:
            initial[param.name] = text
    return initial


def _field(operation: Operation, param: Param) -> forms.Field:
    words = param.name.replace("_", " ")
    common: dict[str, Any] = {
        "required": False,
        "label": f"{words[:1].upper()}{words[1:]}{' *' if param.required else ''}",
        "help_text": _hint(param),
    }
    field = _make(operation, param, common)
    attrs: dict[str, Any] = {"autocomplete": "off", "spellcheck": "false"}
    if param.required:
        attrs["required"] = True
    if param.type is ParamType.TEXT and param.max is not None and not param.choices:
        attrs["maxlength"] = param.max
    if isinstance(field.widget, forms.Textarea):
        attrs["rows"] = 6 if param.type is ParamType.OBJECTS else 3
    field.widget.attrs.update(attrs)
    return field


def _make(operation: Operation, param: Param, common: Mapping[str, Any]) -> forms.Field:
    if param.choices:
        choices = [("", "Choose" if param.required else "Not given")]
        return forms.CharField(
            widget=forms.Select(choices=[*choices, *((one, one) for one in param.choices)]),
            **common,
        )
    if is_open(operation, param):
        return forms.TypedChoiceField(
            choices=[("", "Leave as it is"), ("true", "Yes"), ("false", "No")],
            coerce=lambda text: text == "true",
            empty_value=None,
            **common,
        )
    if param.type is ParamType.INTEGER:
        least = -_INTEGER_MOST if param.min is None else param.min
        most = _INTEGER_MOST if param.max is None else param.max
        return forms.IntegerField(min_value=least, max_value=most, **common)
    if param.type is ParamType.BOOLEAN:
        return forms.BooleanField(**common)
    return _TEXTS[param.type](**common)


def _hint(param: Param) -> str:
    if param.hashed:
        return "Its hash, as `openssl passwd -6` prints it; never the password itself."
    if param.name in _FILE_NAMES:
        return "The name of a file object."
    if param.type is ParamType.INTEGER:
        return _range(param)
    return _HINTS.get(param.type, "")


def _range(param: Param) -> str:
    if param.min is not None and param.max is not None:
        return f"{param.min:,} to {param.max:,}."
    return f"{param.min:,} or more." if param.min is not None else ""
