"""Hooks for django-axes: the response to a locked-out user, and the count of wrong passwords."""

from typing import Any

from django.contrib.auth.signals import user_login_failed
from django.http import HttpRequest, HttpResponse


def as_locked_out(request: HttpRequest, response: HttpResponse, credentials: Any) -> HttpResponse:
    """Sets status 429 on the sign-in page, which itself shows the error. Leaves a redirect as it is."""
    if response.status_code == 200:
        response.status_code = 429
    return response


def count_wrong_password(request: HttpRequest) -> bool:
    """Counts a signed-in user's wrong password like one at sign-in. Returns whether the user is now locked out."""
    credentials = {"username": request.user.get_username()}
    user_login_failed.send(__name__, credentials=credentials, request=request)
    return bool(request.axes_locked_out)  # type: ignore[attr-defined]
