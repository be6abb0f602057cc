"""The forms of the sign-in pages."""

from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from unfold.forms import AuthenticationForm
from unfold.widgets import UnfoldAdminTextInputWidget

MINUTES = int(settings.AXES_COOLOFF_TIME.total_seconds() // 60)
LOCKED_OUT = (
    f"Too many wrong passwords. Sign-in with this username is locked from your address for {MINUTES} minutes."
    " Try again after that."
)


class SignInForm(AuthenticationForm):
    """Username and password. Its errors do not reveal whether the username exists."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        username = self.fields["username"]
        # Django's form sends the maximum length to the browser only, and the column in which axes stores the username
        # of a failed sign-in is limited.
        username.validators.append(MaxLengthValidator(username.max_length))

    def get_invalid_login_error(self) -> ValidationError:
        # Set by axes, which counts failures of existing and of unknown usernames alike.
        if getattr(self.request, "axes_locked_out", False):
            return ValidationError(LOCKED_OUT, code="locked_out")
        return super().get_invalid_login_error()


class CodeForm(forms.Form):
    """A code of the authenticator app, or a recovery code, with any spaces and hyphens."""

    code = forms.CharField(
        max_length=20,
        widget=UnfoldAdminTextInputWidget(
            attrs={"autocomplete": "one-time-code", "autofocus": "", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )

    def clean_code(self) -> str:
        code: str = self.cleaned_data["code"]
        return "".join(code.split()).replace("-", "").lower()
