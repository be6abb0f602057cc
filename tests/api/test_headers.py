"""The security headers of every kind of reply, and Django's deployment check."""

import os
import secrets
import subprocess
import sys
from ipaddress import ip_network
from typing import Any

import pytest
from django.conf import settings as project
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from config import api
from tests.builders import World, redeemed, staff_of

pytestmark = [pytest.mark.django_db, pytest.mark.once]

NOTHING = {"default-src": "'none'", "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'"}
OF_BACK_OFFICE = NOTHING | {
    "script-src": "'self' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "form-action": "'self'",
}
OF_DOCS = NOTHING | {
    "script-src": "'self'",
    "connect-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
}
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


def policy_of(response: HttpResponse) -> dict[str, str]:
    return dict(part.strip().split(" ", 1) for part in response["Content-Security-Policy"].split(";"))  # type: ignore[misc]


def check(response: HttpResponse, policy: dict[str, str]) -> None:
    assert {name: response[name] for name in ALWAYS} == ALWAYS
    assert policy_of(response) == policy
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/v2/points/reverse", 405),
        ("/v2/points/reversals", 200),
        ("/v2/points/reversals/none", 404),
        ("/nowhere", 404),
        ("/openapi.json", 200),
    ],
)
def test_api_reply_is_not_cached_and_runs_no_scripts(world: World, address: str, status: int) -> None:
    response = world.read(address)
    assert response.status_code == status
    check(response, NOTHING)


def test_reversals_and_refusals_are_not_cached(world: World) -> None:
    redemption = redeemed(world, 10)
    for response, status in (
        (world.reverse(redemption, 2), 200),
        (world.reverse(redemption, 20), 400),
        (world.reverse(redemption, 2, password="wrong"), 401),
    ):
        assert response.status_code == status
        check(response, NOTHING)
    refused = Client().get("/v2/points/reversals", headers={"host": "elsewhere.example"})
    assert refused.status_code == 400
    check(refused, NOTHING)


def test_back_office_pages_forbid_inline_scripts(world: World) -> None:
    client = staff_of(world, "Auditor")
    for address, status in (
        (reverse("admin:index"), 200),
        (reverse("admin:loyalty_redemption_changelist"), 200),
        (reverse("admin:jsi18n"), 200),
        (reverse("admin:loyalty_org_add"), 403),
        ("/admin/nowhere/", 404),
        (reverse("admin:login"), 302),
    ):
        response = client.get(address)
        assert response.status_code == status, address
        check(response, OF_BACK_OFFICE)
    check(Client().get(reverse("admin:login")), OF_BACK_OFFICE)


def test_docs_page_has_no_inline_scripts_or_styles() -> None:
    response = Client().get("/docs/")
    check(response, OF_DOCS)
    text = response.content.decode()
    assert "<style" not in text
    assert text.count("<script") == text.count("<script src=") == 3


def test_https_reply_has_strict_transport_security(settings: Any) -> None:
    settings.SECURE_HSTS_SECONDS = 60
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    assert Client().get("/openapi.json", secure=True)["Strict-Transport-Security"] == "max-age=60; includeSubDomains"
    assert "Strict-Transport-Security" not in Client().get("/openapi.json")


@pytest.mark.parametrize(("preload", "expected"), [("", False), ("off", False), ("on", True)])
def test_subdomains_and_preload_are_only_on_if_asked_for(preload: str, expected: bool) -> None:
    environment = {
        "SECRET_KEY": "x" * 50,
        "HTTPS_ONLY": "on",
        "HSTS_PRELOAD": preload,
        "TRUSTED_PROXIES": "10.0.0.1",
        "FORWARDED_FOR_HEADER": "ForwardedFor",
        "FORWARDED_PROTO_HEADER": "ForwardedProto",
    }
    names = ("SECURE_HSTS_SECONDS", "SECURE_HSTS_INCLUDE_SUBDOMAINS", "SECURE_HSTS_PRELOAD")
    code = f"from config import settings; print(*(bool(getattr(settings, name)) for name in {names}))"
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["True", str(expected), str(expected)]


def test_page_over_http_is_redirected_and_api_call_is_403(world: World, settings: Any) -> None:
    settings.SECURE_SSL_REDIRECT = True
    for address in ("/admin/login/", "/admin", "/docs/", "/static/backoffice/style.css"):
        response = Client().get(address)
        assert (response.status_code, response["Location"]) == (301, f"https://testserver{address}")
    for address in ("/health/live", "/health/ready", "/metrics"):
        assert Client().get(address).status_code == 200
    redemption = redeemed(world, 10)
    response = world.reverse(redemption, 2)
    assert (response.status_code, response.json()["errors"][0]["code"]) == (403, 403)
    assert response.json()["errors"][0]["reason"].startswith("Send the call over https")
    assert response["X-CAP-REQUEST-ID"]
    check(response, NOTHING)
    for address in (
        "/v2/points/reversals",
        "/openapi.json",
        "/nowhere",
        "/",
        "/metrics-of-others",
        "//v2/points/reverse",
    ):
        for method in ("get", "post"):
            response = getattr(Client(), method)(address)
            assert (response.status_code, response.json()["errors"][0]["code"]) == (403, 403), address
    assert world.reverse(redemption, 2, secure=True).status_code == 200


@pytest.mark.parametrize(("connection", "status"), [("10.0.0.1", 404), ("192.0.2.1", 403), ("", 403)])
def test_forwarded_protocol_from_untrusted_address_is_ignored(settings: Any, connection: str, status: int) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.TRUSTED_PROXIES = [ip_network("10.0.0.0/8")]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_FORWARDEDPROTO", "https")
    for name, expected in (("HTTP_FORWARDEDPROTO", status), ("HTTP_X_FORWARDED_PROTO", 403)):
        said = Client().get("/nowhere", REMOTE_ADDR=connection, **{name: "https"})
        assert said.status_code == expected


def manage(*words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "manage.py", *words],
        cwd=project.BASE_DIR,
        env=os.environ | {"SECRET_KEY": secrets.token_urlsafe(50)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


BEHIND_PROXY = {
    "HTTPS_ONLY": "on",
    "TRUSTED_PROXIES": "10.0.0.0/8",
    "FORWARDED_FOR_HEADER": "ForwardedFor",
    "FORWARDED_PROTO_HEADER": "ForwardedProto",
}


def test_django_deployment_check_has_no_issues() -> None:
    for preload, silenced in (("on", 0), ("off", 2)):
        checked = manage("check", "--deploy", "--fail-level", "WARNING", HSTS_PRELOAD=preload, **BEHIND_PROXY)
        said = f"System check identified no issues ({silenced} silenced).\n"
        assert (checked.returncode, checked.stdout) == (0, said), checked
    assert manage("check", "--deploy", "--fail-level", "WARNING", HTTPS_ONLY="off").returncode == 1


@pytest.mark.parametrize("missing", ["TRUSTED_PROXIES", "FORWARDED_FOR_HEADER", "FORWARDED_PROTO_HEADER"])
def test_https_only_refuses_to_start_without_a_proxy_and_its_headers(missing: str) -> None:
    refused = manage("check", **BEHIND_PROXY | {missing: ""})
    assert refused.returncode != 0
    assert refused.stderr.startswith("error: ")
    assert missing in refused.stderr


@pytest.mark.parametrize(("proxies", "expected"), [("", "None"), ("10.0.0.0/8", "('HTTP_FORWARDEDPROTO', 'https')")])
def test_forwarded_protocol_is_used_only_with_trusted_proxies(proxies: str, expected: str) -> None:
    program = "from django.conf import settings; print(settings.SECURE_PROXY_SSL_HEADER)"
    environment = BEHIND_PROXY | {"HTTPS_ONLY": "off", "TRUSTED_PROXIES": proxies}
    said = manage("shell", "--verbosity", "0", "-c", program, **environment).stdout
    assert said == f"{expected}\n"


def test_long_path_is_answered_and_not_kept_in_memory(client: Client) -> None:
    api._resolved.cache_clear()
    assert client.get(f"/v2/{'x' * 60_000}").status_code == 404
    assert api._resolved.cache_info().currsize == 0
    assert client.get("/v2/x").status_code == 404
    assert api._resolved.cache_info().currsize == 1
