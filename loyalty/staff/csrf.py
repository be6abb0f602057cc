"""Answers a form that fails Django's CSRF check: logs the cause, and tells the user what to do."""

import logging

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import REASON_NO_CSRF_COOKIE, REASON_NO_REFERER
from django.template.loader import render_to_string

logger = logging.getLogger(__name__)

_LONGEST = 200


def failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The view in CSRF_FAILURE_VIEW. Nothing of the form has been read or changed."""
    # The reason can quote a Referer, whose query string can contain a search term.
    about = {
        "reason": reason.partition("?")[0][:_LONGEST],
        "origin": request.META.get("HTTP_ORIGIN", "")[:_LONGEST],
        "host": request.META.get("HTTP_HOST", "")[:_LONGEST],
    }
    logger.warning(
        "a form was refused by the CSRF check: %(reason)s Origin is %(origin)r, Host is %(host)r", about, extra=about
    )
    page = render_to_string("admin/csrf_failure.html", about | {"cause": _cause_of(reason)})
    return HttpResponse(page, status=403)


def _cause_of(reason: str) -> str:
    if reason == REASON_NO_CSRF_COOKIE:
        return "cookie"
    if reason == REASON_NO_REFERER:
        return "referer"
    if reason.startswith(("Origin checking failed", "Referer checking failed")):
        return "origin"
    return "token"
