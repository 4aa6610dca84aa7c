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


class BackForm(ReasonForm):
    """Which version a job shall return to, and the newest one that the person knew of."""

    version = forms.IntegerField(min_value=1)
    seen = forms.IntegerField(min_value=1)
