"""What people send along when they act on a rollout."""

from django import forms


class ReasonForm(forms.Form):
    """Why something is done: kept in the audit log."""

    reason = forms.CharField(
        max_length=1024,
        required=False,
        strip=True,
        help_text="Kept in the audit log.",
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
