"""Gives every request an id that is in its reply, its log lines and its attempt."""

import logging
import secrets
from collections.abc import Callable
from contextvars import ContextVar

from django.http import HttpRequest, HttpResponseBase

_request_id: ContextVar[str] = ContextVar("request_id", default="-")


def current_request_id() -> str:
    """Returns the id of the current request (32 hex digits), or "-" outside of a request."""
    return _request_id.get()


class RequestIdMiddleware:
    """Sets `X-CAP-REQUEST-ID`, the request id header of the published API, on every reply."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        request_id = secrets.token_hex(16)
        token = _request_id.set(request_id)
        try:
            response = self.get_response(request)
        finally:
            _request_id.reset(token)
        response["X-CAP-REQUEST-ID"] = request_id
        return response


class RequestIdFilter(logging.Filter):
    """Adds the request id to each log record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = current_request_id()
        return True
