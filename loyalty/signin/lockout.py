"""What django-axes asks of this project: what a locked-out person sees."""

from typing import Any

from django.http import HttpRequest, HttpResponse


def as_locked_out(request: HttpRequest, response: HttpResponse, credentials: Any) -> HttpResponse:
    """The sign-in page, which says so itself, with the status for too many tries."""
    response.status_code = 429
    return response
