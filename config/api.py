"""Routes API calls past the middleware that only pages need."""

from collections.abc import Callable
from functools import lru_cache

from django.http import HttpRequest, HttpResponseBase
from django.urls import resolve

_resolved = lru_cache(1_000)(resolve)


class ApiMiddleware:
    """Answers API calls before the middleware of sessions, users and CSRF tokens, which the API does not use.

    Note: exceptions need no handling here, because the API's views, including the one for unknown URLs, answer all
    exceptions in the API's envelope.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith("/v2/"):
            return self.get_response(request)
        request.get_host()  # raises an exception for a host that is not in ALLOWED_HOSTS
        match = request.resolver_match = _resolved(request.path_info)
        response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
        return response
