"""Views for monitoring: health and metrics. They need no API client and record no attempts."""

import json
from collections.abc import Callable
from hmac import compare_digest

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

from loyalty.clients.addresses import address_of, comes_from_proxy
from reversals.api.errors import answer
from reversals.api.fields import failure_body
from reversals.api.monitoring import echo, health
from reversals.api.monitoring.stored import Stored
from reversals.movements import counters

_LOOPBACK = {"127.0.0.1", "::1"}


@require_safe
def live(request: HttpRequest) -> HttpResponse:
    """`GET /health/live`: 200 if the process answers. Does not use the database."""
    return answer(200, '{"status":"live"}')


@require_safe
def ready(request: HttpRequest) -> HttpResponse:
    """`GET /health/ready`: 200 if this server can serve calls, else 503 with the reason; always with the version.

    `doctor` also gets how its request arrived. Its parameter is signed with SECRET_KEY and counts for a minute.
    """
    seen = _as_seen(request) if echo.is_signed(request.GET.get("doctor", "")) else {}
    try:
        health.check()
    except health.NotReady as error:
        return answer(503, _readiness(status="not ready", reason=str(error), **seen), headers={"Retry-After": "1"})
    return answer(200, _readiness(status="ready", **seen))


def _as_seen(request: HttpRequest) -> dict[str, str]:
    """Returns the address and the scheme that the server takes the caller to have, and who sent the request."""
    is_trusted = comes_from_proxy(request)
    return {
        "address": address_of(request) or "",
        "scheme": (request.scheme or "") if is_trusted else request.META["wsgi.url_scheme"],
        "sender": request.META.get("REMOTE_ADDR", ""),
        "trusted": "yes" if is_trusted else "no",
        "forwarded": "yes" if settings.FORWARDED_FOR_HEADER in request.META else "no",
    }


def _readiness(**members: str) -> str:
    return json.dumps(members | {"version": settings.VERSION}, separators=(",", ":"))


@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """`GET /metrics`, in the text format of Prometheus. Requires METRICS_TOKEN; if it is not set, a local caller."""
    if not _may_read(request):
        return answer(403, failure_body(403, "Forbidden", "Send METRICS_TOKEN as a bearer token."))
    stored = CollectorRegistry()
    stored.register(Stored())
    body = generate_latest(counters.registry()) + generate_latest(stored)
    return HttpResponse(body, content_type=CONTENT_TYPE_PLAIN_0_0_4)


def _may_read(request: HttpRequest) -> bool:
    if settings.METRICS_TOKEN:
        sent = request.headers.get("Authorization", "").encode()
        return compare_digest(sent, f"Bearer {settings.METRICS_TOKEN}".encode())
    # A request that a local proxy forwards comes from another machine.
    forwarded = request.META.keys() & {settings.FORWARDED_FOR_HEADER, "HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED"}
    return request.META.get("REMOTE_ADDR") in _LOOPBACK and not forwarded


VIEWS = {"/health/live": live, "/health/ready": ready, "/metrics": metrics}


class MonitoringMiddleware:
    """Serves the monitoring addresses before the session and host middleware.

    Monitoring calls the machine by its IP address, which is not in ALLOWED_HOSTS.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return VIEWS.get(request.path, self.get_response)(request)
