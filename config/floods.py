"""Refuses signed-out requests for pages from addresses that sent too many, before Django sees them.

A refusal costs a fiftieth of the CPU time of one by Django, so that a flood of them does not slow API calls.
"""

import secrets
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings

from loyalty.staff.signin.limits import seconds_refused
from reversals.movements.counters import CALLS

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_BODY = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Too many requests | Loyalty back office</title></head>
<body><h1>Too many requests</h1>
<p>There were too many requests from your address. Try again in a minute.</p></body></html>
"""


def refusing_floods(application: Application) -> Application:
    """Returns the application behind the limits. Refusals are counted in the metrics, and not logged one by one."""
    headers = [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Length", str(len(_BODY))),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
        ("Permissions-Policy", settings.PERMISSIONS_POLICY),
        ("Referrer-Policy", settings.SECURE_REFERRER_POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", settings.X_FRAME_OPTIONS),
    ]
    refused = CALLS.labels("admin", 429, "")

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        seconds = seconds_refused(environ)
        if not seconds:
            return application(environ, start_response)
        refused.inc()
        own = [("Retry-After", str(seconds)), ("X-CAP-REQUEST-ID", secrets.token_hex(16))]
        start_response("429 Too Many Requests", [*headers, *own])
        return [_BODY]

    return guarded
