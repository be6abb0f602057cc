"""Leads calls of the API past what only pages need."""

from collections.abc import Callable
from functools import lru_cache

from django.http import HttpRequest, HttpResponseBase
from django.urls import resolve

_resolved = lru_cache(1_000)(resolve)


class ApiMiddleware:
    """Answers the API's addresses before a session, a person or a token of a form is looked for: it has none.

    Nothing that its views or the view for unknown addresses raise gets here: they answer it in the API's envelope.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith("/v2/"):
            return self.get_response(request)
        request.get_host()  # refuses a host that is not served here
        match = request.resolver_match = _resolved(request.path_info)
        response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
        return response
