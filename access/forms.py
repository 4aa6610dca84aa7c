"""The forms of signing in and of one's own API tokens."""

from datetime import timedelta

from django import forms
from django.contrib.auth.forms import AuthenticationForm
from django.forms.utils import ErrorDict

from access.roles import ROLE_PERMISSIONS, Role

DAYS = (("7", "7 days"), ("30", "30 days"), ("90", "90 days"), ("365", "A year"))
REACH = (("all", "All that I may do"), ("read", "Reading only"))


class SignInForm(AuthenticationForm):
    """User name and password; one message for every way in which they can be wrong."""

    error_messages = {
        "invalid_login": "User name and password do not match.",
        "inactive": "User name and password do not match.",
    }

    def refuse(self, message: str) -> None:
        """Show a message instead of looking at what was entered."""
        self._errors = ErrorDict()
        self.cleaned_data = {}
        self.add_error(None, message)


class TokenForm(forms.Form):
    """A new API token: its name, how long it lives, how far it reaches."""

    name = forms.CharField(
        max_length=128, help_text="What it is for, so that you know what revoking it will stop."
    )
    days = forms.ChoiceField(choices=DAYS, initial="90", label="Valid for")
    reach = forms.ChoiceField(choices=REACH, initial="all", label="May do")

    def ttl(self) -> timedelta:
        """Return how long the token lives."""
        return timedelta(days=int(self.cleaned_data["days"]))

    def scopes(self) -> tuple[str, ...]:
        """Return what the token is cut down to; nothing means no cut."""
        if self.cleaned_data["reach"] == "all":
            return ()
        return tuple(sorted(ROLE_PERMISSIONS[Role.READ]))
