"""What django-axes asks of this project: where a sign-in comes from, and what a locked-out person sees."""

from typing import Any

from django.http import HttpRequest, HttpResponse


def address_of(request: HttpRequest) -> str | None:
    """The address that the connection comes from; a header could name any."""
    return request.META.get("REMOTE_ADDR") or None


def as_locked_out(request: HttpRequest, response: HttpResponse, credentials: Any) -> HttpResponse:
    """The sign-in page, which says so itself, with the status for too many tries."""
    response.status_code = 429
    return response
