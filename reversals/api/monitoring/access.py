"""Writes a line of the access log for each call, and counts it."""

import logging
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.utils.encoding import escape_uri_path

from loyalty.clients.addresses import address_of
from loyalty.clients.callers import Caller
from reversals.api.errors import Reply
from reversals.api.monitoring.views import VIEWS
from reversals.movements import counters

logger = logging.getLogger("access")

# Shorter than any API secret and its MD5, which a client that confuses username and password sends as the username.
LONGEST_USERNAME = 31


class AccessMiddleware:
    """Measures, logs and counts each call. The log has no query string, because it may contain personal data."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        started = time.monotonic()
        response = self.get_response(request)
        _note(request, response, seconds=time.monotonic() - started)
        return response


def _note(request: HttpRequest, response: HttpResponseBase, *, seconds: float) -> None:
    operation = _operation_of(request)
    error = response.error if isinstance(response, Reply) else None
    code = "" if error is None else error.code
    counters.CALLS.labels(operation, response.status_code, code).inc()
    counters.SECONDS.labels(operation).observe(seconds)
    if error is not None:
        counters.REFUSALS.labels(operation, error.name).inc()
    if response.headers.get("Idempotent-Replayed"):
        counters.REPLAYS.labels(operation).inc()
    milliseconds = round(seconds * 1000, 1)
    path = escape_uri_path(request.path)  # so that a path cannot add a line to the log
    about = {"method": request.method, "path": path, "operation": operation, "status": response.status_code}
    about |= {"code": code, "duration_ms": milliseconds} | _caller_of(request, response)
    # Probes come every few seconds, and their lines would hide the other lines.
    level = logging.DEBUG if request.path in VIEWS else logging.INFO
    logger.log(level, "%s %s %s %s ms", request.method, path, response.status_code, milliseconds, extra=about)


def _operation_of(request: HttpRequest) -> str:
    """Returns the name of the API's view, or `admin`, `static` or `other`. The names are few, for the metrics."""
    if request.path in VIEWS:
        return VIEWS[request.path].__name__
    match = request.resolver_match
    if match is None:
        return "static" if request.path.startswith(settings.STATIC_URL) else "other"
    if match.app_names == ["admin"]:
        return "admin"
    view = getattr(match.func, "cls", match.func)
    return "other" if view.__name__ == "not_found" else str(view.__name__)


def _caller_of(request: HttpRequest, response: HttpResponseBase) -> dict[str, Any]:
    """Returns the caller's address, and org, API client and the row id of the attempt, if there are any.

    If the call was turned away, adds the username that it tried, which anybody may have written.
    """
    caller = getattr(request, "user", None)
    about: dict[str, Any] = {"address": address_of(request)}
    if response.status_code in {401, 429} and (tried := getattr(request, "tried_username", "")):
        about["username"] = _printable(tried)
    # Not isinstance, because it would make Django load the session's user, and the database may be unavailable.
    if type(caller) is Caller:
        about |= {"org_id": caller.org.id, "client": caller.username}
    if isinstance(response, Reply) and response.attempt is not None:
        about["attempt_id"] = response.attempt.id
    return about


def _printable(username: str) -> str:
    """Returns the username without control characters. One that may be a secret is replaced by its length."""
    if len(username) > LONGEST_USERNAME:
        return f"({len(username)} characters)"
    return "".join(each if each.isprintable() else "?" for each in username)
