"""The forms of nodes: labels as lines of text, and a new enrolment token."""

import json
from collections.abc import Iterable, Mapping
from datetime import timedelta

from django import forms

from access.problems import Refused
from nodes.enrolment import TOKEN_USES_MAX, check_labels

LIFETIMES = (
    ("3600", "1 hour"),
    ("86400", "1 day"),
    ("604800", "7 days"),
    ("2592000", "30 days"),
)
_TEXT_MAX = 16_384


def read_lines(text: str) -> dict[str, str]:
    """Return the labels that stand one on a line, `key=value` or `key` alone.

    Raises forms.ValidationError with the line's number.
    """
    labels: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        key, _, value = (part.strip() for part in line.strip().partition("="))
        if not key and not value:
            continue
        if key in labels:
            raise forms.ValidationError(f"Line {number}: {key} stands twice.")
        try:
            check_labels({key: value})
        except Refused as refused:
            raise forms.ValidationError(f"Line {number}: {refused.detail}") from refused
        labels[key] = value
    return labels


def print_lines(labels: Mapping[str, str]) -> str:
    """Print labels as `read_lines` reads them back."""
    return "\n".join(f"{key}={value}" for key, value in sorted(labels.items()))


class LabelsForm(forms.Form):
    """The labels that people set on a node; `before` is what the editor showed at first."""

    labels = forms.CharField(
        required=False,
        max_length=_TEXT_MAX,
        label="Labels that people set",
        widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "false"}),
        help_text="One on a line, key=value. They win over what the agent says.",
    )
    before = forms.CharField(required=False, max_length=_TEXT_MAX, widget=forms.HiddenInput)

    def clean_labels(self) -> dict[str, str]:
        """Read the lines."""
        return read_lines(self.cleaned_data["labels"])

    def clean_before(self) -> dict[str, str]:
        """Read what the editor showed; what cannot be read showed nothing."""
        try:
            value = json.loads(self.cleaned_data["before"] or "{}")
        except ValueError:
            value = {}
        is_labels = isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
        return value if is_labels else {}

    def changes(self) -> dict[str, str | None]:
        """Return what the person changed: others' changes to other labels are kept."""
        labels, before = self.cleaned_data["labels"], self.cleaned_data["before"]
        changed = {key: value for key, value in labels.items() if before.get(key) != value}
        return {**changed, **dict.fromkeys(key for key in before if key not in labels)}


def labels_form(labels: Mapping[str, str]) -> LabelsForm:
    """Return the editor of a node's labels."""
    before = json.dumps(dict(labels), sort_keys=True)
    return LabelsForm(initial={"labels": print_lines(labels), "before": before})


class EnrolForm(forms.Form):
    """A new enrolment token."""

    namespace = forms.ChoiceField()
    lifetime = forms.ChoiceField(choices=LIFETIMES, initial="3600", label="Works for")
    uses = forms.IntegerField(
        min_value=1,
        max_value=TOKEN_USES_MAX,
        initial=1,
        label="Machines",
        help_text="How many machines may join with it.",
    )
    labels = forms.CharField(
        required=False,
        max_length=_TEXT_MAX,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        help_text="One on a line, key=value. Every machine that joins with it gets them.",
    )
    auto_accept = forms.BooleanField(
        required=False,
        label="Accept them without asking",
        help_text="Who holds the token can then run a node at once. Else each one waits until "
        "its fingerprint has been compared.",
    )

    def __init__(self, data: object = None, *, namespaces: Iterable[str], chosen: str = "") -> None:
        super().__init__(data, initial={"namespace": chosen})  # type: ignore[arg-type]
        field = self.fields["namespace"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [(name, name) for name in namespaces]

    def clean_labels(self) -> dict[str, str]:
        """Read the lines."""
        return read_lines(self.cleaned_data["labels"])

    def ttl(self) -> timedelta:
        """Return how long the token works."""
        return timedelta(seconds=int(self.cleaned_data["lifetime"]))
