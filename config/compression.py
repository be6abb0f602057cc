"""Compresses pages, scripts and styles, so that a page on a slow line loads in a fraction of the time."""

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware

# Fonts and images are compressed already.
COMPRESSED = {"text/html", "text/css", "text/javascript", "application/javascript", "image/svg+xml"}


class CompressionMiddleware(GZipMiddleware):
    """Compresses texts for browsers, but no reply of the API, because it comes after the API's middleware.

    The length of a page does not give away its content (BREACH): the length of the header varies, and cookies that are
    SameSite=Lax keep other sites from requesting pages of a signed-in user.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        if response.status_code != 200 or kind not in COMPRESSED:
            return response
        compressed: Any = super().process_response(request, response)
        return compressed
