"""Refuses API calls over http, and routes API calls past the middleware that only pages need."""

from collections.abc import Callable
from functools import lru_cache

from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.urls import resolve

from loyalty.clients.addresses import comes_from_proxy
from reversals.api.errors import over_http

# A longer path is resolved on each call: anybody can send long paths, and 1,000 of them would fill the memory.
LONGEST_CACHED = 200
_resolved = lru_cache(1_000)(resolve)


class HttpsMiddleware:
    """Believes a proxy about https only if it is trusted, and refuses API calls over http if HTTPS_ONLY is on.

    The API never redirects: a client that follows a redirect has sent its credentials in clear text already, and most
    repeat a POST as a GET.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if settings.SECURE_PROXY_SSL_HEADER and not comes_from_proxy(request):
            request.META.pop(settings.SECURE_PROXY_SSL_HEADER[0], None)
        if settings.SECURE_SSL_REDIRECT and not request.is_secure():  # SecurityMiddleware has already redirected pages
            return over_http(request)
        return self.get_response(request)


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
        path = request.path_info
        match = request.resolver_match = _resolved(path) if len(path) <= LONGEST_CACHED else resolve(path)
        response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
        return response
