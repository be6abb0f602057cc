"""What django-axes asks of this project and is told by it: what a locked-out person sees, and one more wrong try."""

from typing import Any

from django.contrib.auth.signals import user_login_failed
from django.http import HttpRequest, HttpResponse


def as_locked_out(request: HttpRequest, response: HttpResponse, credentials: Any) -> HttpResponse:
    """The page, which says so itself, with the status for too many tries; who is led elsewhere is led there."""
    if response.status_code == 200:
        response.status_code = 429
    return response


def count_wrong_password(request: HttpRequest) -> bool:
    """Counts a wrong password of the signed-in person as one at the sign-in page; whether it was one too many."""
    credentials = {"username": request.user.get_username()}
    user_login_failed.send(__name__, credentials=credentials, request=request)
    return bool(request.axes_locked_out)  # type: ignore[attr-defined]
