"""Checks the way through the proxy, by requests to PUBLIC_URL, and its certificate."""

import json
import socket
import ssl
from collections.abc import Iterator
from datetime import datetime, timezone
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from django.conf import settings

from reversals.api.monitoring import echo
from reversals.operations.doctor.findings import Finding, fine, warning, wrong

SECONDS = 4
WARNED_DAYS, WRONG_DAYS = 21, 3
# A call without credentials: the API answers 401 if the call arrives as it should.
CALL = "/v2/points/reversals?redemptionId=doctor"

_CURES = {
    301: "Check that the proxy sends the header that FORWARDED_PROTO_HEADER names, and is in TRUSTED_PROXIES.",
    400: "Add the host of PUBLIC_URL to ALLOWED_HOSTS, and let the proxy pass on Host.",
    403: "Check that the proxy sends the header that FORWARDED_PROTO_HEADER names, and is in TRUSTED_PROXIES.",
    404: "Check that PUBLIC_URL and the proxy lead to this server.",
    429: "Wait a minute. If it stays, all callers share the proxy's address: see FORWARDED_FOR_HEADER.",
    502: "Check that the server runs, and that the proxy's upstream has its address.",
    503: "Check that the server runs and is ready: GET /health/ready.",
    504: "Check that the server runs and is ready: GET /health/ready.",
}
_CURES[302] = _CURES[307] = _CURES[308] = _CURES[301]


def proxy() -> Iterator[Finding]:
    """Sends a call without credentials through the public address, and asks how a request arrived."""
    if not settings.PUBLIC_URL:
        do = "Set PUBLIC_URL to the address that callers use, so that the proxy and its certificate are checked."
        yield warning("proxy", "PUBLIC_URL is not set", expected="the public address of this server", do=do)
        return
    try:
        status, headers, _ = _get(CALL)
        if status != 401 or "X-CAP-REQUEST-ID" not in headers:
            to = f" to {headers['Location']}" if "Location" in headers else ""
            do = _CURES.get(status, "Check that PUBLIC_URL and the proxy lead to this server.")
            yield wrong("proxy", f"a call is answered {status}{to}", expected="401 from the API", do=do)
            return
        _, _, body = _get(f"/health/ready?doctor={quote(echo.sign())}")
        yield _judge(json.loads(body))
    except (OSError, HTTPException) as error:
        do = "Check the name service, the proxy and its certificate."
        yield wrong("proxy", f"{settings.PUBLIC_URL} does not answer: {error}", expected="an answer", do=do)
    except ValueError:
        do = "Let the proxy pass on /health/ready, and check that all servers have the same SECRET_KEY."
        yield warning("proxy", "/health/ready is not passed on", expected="the server's answer", do=do)


def _judge(seen: dict[str, Any]) -> Finding:
    """Judges what the server saw of the request."""
    if "sender" not in seen:
        do = "Check that PUBLIC_URL leads to this server, and that all servers have the same SECRET_KEY."
        return warning("proxy", "another server answers", expected="one with this SECRET_KEY", do=do)
    scheme = urlsplit(settings.PUBLIC_URL).scheme
    if seen["scheme"] != scheme:
        who = f"{seen['sender']} is in TRUSTED_PROXIES" if seen["trusted"] == "yes" else "is not in TRUSTED_PROXIES"
        return wrong(
            "proxy",
            f"a request over {scheme} arrives as {seen['scheme']}; its sender {seen['sender']} {who}",
            expected=f"{scheme}, in the header that FORWARDED_PROTO_HEADER names, from a trusted proxy",
            do="Set TRUSTED_PROXIES and FORWARDED_PROTO_HEADER, and let the proxy send the header (deploy/nginx.conf).",
        )
    if seen["trusted"] == "yes" and seen["forwarded"] == "no":
        return wrong(
            "proxy",
            f"the proxy {seen['sender']} does not send the caller's address, so all callers share one",
            expected="the address, in the header that FORWARDED_FOR_HEADER names",
            do="Let the proxy send the header (deploy/nginx.conf).",
        )
    return fine("proxy", f"a call arrives over {seen['scheme']} from {seen['address']}")


def certificate() -> Iterator[Finding]:
    url = urlsplit(settings.PUBLIC_URL)
    if url.scheme != "https":
        return
    try:
        with (
            socket.create_connection((url.hostname or "", url.port or 443), timeout=SECONDS) as plain,
            ssl.create_default_context().wrap_socket(plain, server_hostname=url.hostname) as wire,
        ):
            ends = ssl.cert_time_to_seconds(str((wire.getpeercert() or {})["notAfter"]))
    except ssl.SSLCertVerificationError as error:
        do = "Renew or correct the proxy's certificate; a private authority must be known to this machine."
        yield wrong("certificate", error.verify_message, expected="a valid certificate", do=do, value=0)
        return
    except OSError:
        return  # the finding about the proxy says why
    moment = datetime.fromtimestamp(ends, timezone.utc)  # noqa: UP017
    days = (moment - datetime.now(timezone.utc)).total_seconds() / 86_400  # noqa: UP017
    found = f"valid until {moment:%Y-%m-%d} ({days:.0f} days)"
    if days >= WARNED_DAYS:
        yield fine("certificate", found, value=days)
        return
    report = wrong if days < WRONG_DAYS else warning
    do = "Renew the certificate, and find out why it was not renewed by itself."
    yield report("certificate", found, expected=f"at least {WARNED_DAYS} days", do=do, value=days)


def _get(path: str) -> tuple[int, Any, bytes]:
    url: SplitResult = urlsplit(settings.PUBLIC_URL)
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    http = kind(url.hostname or "", url.port, timeout=SECONDS)
    try:
        http.request("GET", url.path + path, headers={"User-Agent": "loyalty-doctor"})
        reply: HTTPResponse = http.getresponse()
        return reply.status, reply.headers, reply.read(10_000)
    finally:
        http.close()
