"""The client's address: X-Forwarded-For only from trusted proxies, and the network of an IPv6 address."""

import os
import subprocess
import sys
from ipaddress import ip_network
from typing import Any

import pytest
from django.conf import settings as project
from django.contrib.auth.models import User
from django.test import Client, RequestFactory

from loyalty.clients.addresses import address_of

CASES = [
    # trusted proxies, address of the connection, X-Forwarded-For, expected address
    ("", "192.0.2.1", "198.51.100.1", "192.0.2.1"),
    ("10.0.0.0/8", "192.0.2.1", "198.51.100.1", "192.0.2.1"),
    ("10.0.0.0/8", "10.0.0.1", "198.51.100.1", "198.51.100.1"),
    ("10.0.0.0/8", "10.0.0.1", "203.0.113.9, 198.51.100.1", "198.51.100.1"),
    ("10.0.0.0/8", "10.0.0.1", "203.0.113.9, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
    ("10.0.0.0/8", "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
    ("10.0.0.0/8", "10.0.0.1", "198.51.100.1, unknown", "10.0.0.1"),
    ("10.0.0.0/8", "10.0.0.1", "", "10.0.0.1"),
    ("10.0.0.0/8", "::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
    ("fd00::/8", "fd00::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
    ("", "2001:db8:1:2:ffff::1", "", "2001:db8:1:2::"),
    ("", "::1", "", "::"),
    ("", "", "198.51.100.1", None),
    ("", "localhost", "", None),
]


@pytest.mark.parametrize(("trusted", "connection", "forwarded", "expected"), CASES)
def test_forwarded_address_is_used_only_from_trusted_proxies(
    settings: Any, trusted: str, connection: str, forwarded: str, expected: str | None
) -> None:
    settings.TRUSTED_PROXIES = [ip_network(trusted)] if trusted else []
    headers = {"HTTP_X_FORWARDED_FOR": forwarded} if forwarded else {}
    assert address_of(RequestFactory().get("/", REMOTE_ADDR=connection, **headers)) == expected


@pytest.mark.django_db
def test_sign_in_behind_trusted_proxy_is_locked_by_the_users_own_address(settings: Any) -> None:
    settings.TRUSTED_PROXIES = [ip_network("127.0.0.1")]
    User.objects.create_superuser("meera", password="a long password")

    def sign_in(password: str, address: str) -> int:
        given = {"username": "meera", "password": password}
        return Client().post("/admin/login/", given, headers={"X-Forwarded-For": address}).status_code

    assert [sign_in("wrong", "198.51.100.1") for _ in range(5)] == [200, 200, 200, 200, 429]
    assert sign_in("a long password", "198.51.100.1") == 429
    assert sign_in("a long password", "198.51.100.2") == 302


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TRUSTED_PROXIES", "10.0.0.0/40", "TRUSTED_PROXIES: '10.0.0.0/40' does not appear to be"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "TRUSTED_PROXIES: 10.0.0.1/8 has host bits set"),
        ("TRUSTED_PROXIES", "all", "TRUSTED_PROXIES: 'all' does not appear to be"),
        ("API_CALLS_PER_MINUTE", "-1", "API_CALLS_PER_MINUTE is '-1'; expected a whole number"),
        ("API_FAILED_LOGINS_PER_MINUTE", "many", "API_FAILED_LOGINS_PER_MINUTE is 'many'; expected a whole number"),
    ],
)
def test_invalid_setting_prevents_the_start_and_is_named(name: str, value: str, said: str) -> None:
    started = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=project.BASE_DIR,
        env=os.environ | {name: value},
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode != 0
    assert said in started.stderr
