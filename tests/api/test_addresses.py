"""The client's address: X-Forwarded-For only from trusted proxies, and the network of an IPv6 address."""

import os
import subprocess
import sys
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from django.conf import settings as project
from django.contrib.auth.models import User
from django.test import Client, RequestFactory

from loyalty.clients.addresses import _warn_of_missing_header, address_of
from tests.builders import World

pytestmark = pytest.mark.once

FORWARDED_FOR = "HTTP_FORWARDEDFOR"
OWN = "198.51.100.1"
CASES = [
    # trusted proxies, address of the connection, header of the proxy, expected address
    ("", "192.0.2.1", OWN, "192.0.2.1"),
    ("10.0.0.0/8", "192.0.2.1", OWN, "192.0.2.1"),
    ("10.0.0.0/8", "10.0.0.1", OWN, OWN),
    ("10.0.0.0/8", "10.0.0.1", f"203.0.113.9, {OWN}", OWN),
    ("10.0.0.0/8", "10.0.0.1", f"203.0.113.9, {OWN}, 10.0.0.2", OWN),
    ("10.0.0.0/8", "10.0.0.1", f"unknown, {OWN}", OWN),
    ("10.0.0.0/8", "10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
    ("10.0.0.0/8", "10.0.0.1", None, "10.0.0.1"),
    ("10.0.0.0/8", "::ffff:10.0.0.1", OWN, OWN),
    ("fd00::/8", "fd00::1", "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
    ("", "2001:db8:1:2:ffff::1", None, "2001:db8:1:2::"),
    ("", "::1", None, "::"),
    ("", "", OWN, None),
    ("", "localhost", None, None),
]
# Every way in which a proxy writes an address, and the address that counts.
SPELLINGS = {
    f"{OWN}:51234": OWN,
    f" {OWN} ": OWN,
    f"\t{OWN}\t": OWN,
    f"{OWN},": OWN,
    f", ,{OWN}, ,": OWN,
    f"203.0.113.9:1,{OWN}:51234,10.0.0.2:80": OWN,
    f'"{OWN}:51234"': OWN,
    f"[{OWN}]:51234": OWN,
    f"::ffff:{OWN}": OWN,
    f"[::ffff:{OWN}]:51234": OWN,
    "2001:db8:1:2::9": "2001:db8:1:2::",
    "2001:DB8:1:2::9": "2001:db8:1:2::",
    "[2001:db8:1:2::9]": "2001:db8:1:2::",
    "[2001:db8:1:2::9]:443": "2001:db8:1:2::",
    '"[2001:db8:1:2::9]:443"': "2001:db8:1:2::",
    "fe80::1%eth0": "fe80::",
    "[fe80::1%eth0]:443": "fe80::",
    "[fe80::1%25eth0]": "fe80::",
}
UNREADABLE = [
    "unknown",
    "_hidden",
    "",
    " ",
    ",",
    "-",
    "256.1.1.1",
    "203.0.113.9.evil",
    "[",
    "1" * 60_000,
    "::1::",
    "\xe9",
]


def address(trusted: str, connection: str, forwarded: str | None, settings: Any) -> str | None:
    settings.TRUSTED_PROXIES = [ip_network(trusted)] if trusted else []
    settings.FORWARDED_FOR_HEADER = FORWARDED_FOR
    headers = {} if forwarded is None else {FORWARDED_FOR: forwarded}
    return address_of(RequestFactory().get("/", REMOTE_ADDR=connection, **headers))


@pytest.mark.parametrize(("trusted", "connection", "forwarded", "expected"), CASES)
def test_forwarded_address_is_used_only_from_trusted_proxies(
    settings: Any, trusted: str, connection: str, forwarded: str | None, expected: str | None
) -> None:
    assert address(trusted, connection, forwarded, settings) == expected


@pytest.mark.parametrize(("written", "expected"), SPELLINGS.items())
def test_an_address_is_read_with_port_brackets_zone_and_blanks(settings: Any, written: str, expected: str) -> None:
    assert address("10.0.0.0/8", "10.0.0.1", written, settings) == expected


def test_an_unreadable_address_counts_neither_as_the_proxy_nor_as_another(settings: Any) -> None:
    counted = [address("10.0.0.0/8", "10.0.0.1", written, settings) for written in UNREADABLE]
    assert all(ip_address(each or "") in ip_network("100::/64") for each in counted)
    blank = {"", " ", ","}
    assert len(set(counted)) == len(set(UNREADABLE) - blank) + 1
    assert counted == [address("10.0.0.0/8", "10.0.0.1", written, settings) for written in UNREADABLE]


@pytest.mark.parametrize("name", ["X-Forwarded-For", "X_Forwarded_For", "Forwarded", "X-Real-IP"])
def test_no_header_but_the_configured_one_is_believed(settings: Any, name: str) -> None:
    settings.TRUSTED_PROXIES = [ip_network("10.0.0.0/8")]
    settings.FORWARDED_FOR_HEADER = FORWARDED_FOR
    headers = {f"HTTP_{name.upper().replace('-', '_')}": "203.0.113.9", FORWARDED_FOR: OWN}
    assert address_of(RequestFactory().get("/", REMOTE_ADDR="10.0.0.1", **headers)) == OWN


def test_a_proxy_without_the_configured_header_is_logged_once(settings: Any, caplog: pytest.LogCaptureFixture) -> None:
    _warn_of_missing_header.cache_clear()
    for _ in range(3):
        address("10.0.0.0/8", "10.0.0.1", None, settings)
        address("10.0.0.0/8", "192.0.2.1", None, settings)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "FORWARDED_FOR_HEADER" in caplog.text


@pytest.mark.django_db
def test_a_strangers_guesses_lock_out_nobody_who_comes_through_the_same_proxy(world: World, settings: Any) -> None:
    settings.TRUSTED_PROXIES = [ip_network("127.0.0.1")]
    settings.FORWARDED_FOR_HEADER = FORWARDED_FOR
    settings.API_FAILED_LOGINS_PER_MINUTE = 1

    def call(written: str, password: str) -> int:
        return world.ask({}, password=password, headers={"ForwardedFor": written}).status_code

    for stranger in ("203.0.113.9:51234", "unknown", "\xe9"):
        assert 429 in [call(stranger, f"wrong {number}") for number in range(4)]
    for till in (f"{OWN}:443", "[2001:db8::9]:443", "another", "10.0.0.9"):
        assert call(till, world.secret) == 400


@pytest.mark.django_db
def test_sign_in_behind_trusted_proxy_is_locked_by_the_users_own_address(settings: Any) -> None:
    settings.TRUSTED_PROXIES = [ip_network("127.0.0.1")]
    settings.FORWARDED_FOR_HEADER = FORWARDED_FOR
    User.objects.create_superuser("meera", password="a long password")

    def sign_in(password: str, address: str) -> int:
        given = {"username": "meera", "password": password}
        return Client().post("/admin/login/", given, headers={"ForwardedFor": address}).status_code

    assert [sign_in("wrong", "198.51.100.1") for _ in range(5)] == [200, 200, 200, 200, 429]
    assert sign_in("a long password", "198.51.100.1") == 429
    assert sign_in("a long password", "198.51.100.2") == 302
    assert [sign_in("wrong", "unknown") for _ in range(5)][-1] == sign_in("a long password", "unknown") == 429
    assert sign_in("a long password", "hidden") == 302


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TRUSTED_PROXIES", "10.0.0.0/40", "TRUSTED_PROXIES: '10.0.0.0/40' does not appear to be"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "TRUSTED_PROXIES: 10.0.0.1/8 has host bits set"),
        ("TRUSTED_PROXIES", "all", "TRUSTED_PROXIES: 'all' does not appear to be"),
        ("TRUSTED_PROXIES", "10.0.0.0/8", "TRUSTED_PROXIES is set, but FORWARDED_FOR_HEADER is not; set it to"),
        (
            "FORWARDED_FOR_HEADER",
            "X-Forwarded-For",
            "FORWARDED_FOR_HEADER is 'X-Forwarded-For'; expected a name of letters",
        ),
        ("FORWARDED_PROTO_HEADER", "X_Proto", "FORWARDED_PROTO_HEADER is 'X_Proto'; expected a name of letters"),
        ("HTTPS_ONLY", "on", "HTTPS_ONLY is on, so every request would count as http"),
        ("API_CALLS_PER_MINUTE", "-1", "API_CALLS_PER_MINUTE is '-1'; expected a whole number"),
        ("EMAIL_URL", "mail.example.com", "EMAIL_URL must look like smtp+tls://user:password@host:587"),
        ("EMAIL_URL", "smtp://mail.example.com", "EMAIL_FROM is ''; with EMAIL_URL it must be the sender's address"),
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
