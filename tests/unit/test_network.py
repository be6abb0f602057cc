"""The guarded connection to webhook receivers: allowed addresses, deadlines and sizes."""

import socket
import ssl
import time
from typing import Any

import pytest

from loyalty.webhooks import is_public
from reversals.webhooks import network
from reversals.webhooks.network import LARGEST_ANSWER, Answer
from tests.receiver import closed_url, dripping, receiving

PUBLIC = "93.184.215.14"


def post(url: str, *, seconds: float = 5, private_allowed: bool = True) -> Answer:
    deadline = time.monotonic() + seconds
    return network.post(url, headers={}, body=b"{}", deadline=deadline, private_allowed=private_allowed)


# Addresses


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "127.8.9.10",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "2002:7f00:1::",
        "2002:a00:1::1",
        "64:ff9b::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "fc00::1",
        "fd12:3456::1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "ff0e::1",
    ],
)
def test_an_address_outside_the_public_internet_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [PUBLIC, "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "2002:808:808::1", "64:ff9b::8.8.8.8"],
)
def test_an_address_on_the_public_internet_is_public(address: str) -> None:
    assert is_public(address)


class Resolver:
    """Answers each look-up of a name with the next of `answers` and records the names. Makes no connection."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        monkeypatch.setattr(socket, "getaddrinfo", self.look_up)

    def look_up(self, host: str, port: int, *rest: Any, **options: Any) -> list[Any]:
        self.asked.append(host)
        if host[0].isdigit():
            raise socket.gaierror("the connection would be made here")
        addresses = self.answers.pop(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]


@pytest.mark.parametrize("url", ["https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://[::1]/"])
def test_a_private_address_is_refused_in_any_notation(url: str) -> None:
    answer = post(url, private_allowed=False)
    assert (answer.status, answer.was_reached) == (None, False)
    assert answer.text.startswith("AddressRefused: ")


def test_a_name_that_resolves_to_a_private_address_is_refused_before_connecting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver = Resolver(monkeypatch, ["169.254.169.254"])
    answer = post("https://metadata.example/", private_allowed=False)
    assert answer.text == "AddressRefused: metadata.example resolves to 169.254.169.254, which is not a public address"
    assert resolver.asked == ["metadata.example"]


def test_a_name_is_refused_if_any_of_its_addresses_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver(monkeypatch, [PUBLIC, "127.0.0.1"])
    assert post("https://both.example/", private_allowed=False).text.startswith("AddressRefused: ")
    assert resolver.asked == ["both.example"]


def test_a_name_is_resolved_only_once_so_that_rebinding_has_no_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is made to the address that was checked."""
    resolver = Resolver(monkeypatch, [PUBLIC], ["127.0.0.1"])
    assert not post("https://rebinding.example/", private_allowed=False).was_reached
    assert resolver.asked == ["rebinding.example", PUBLIC]


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver, receiving() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        assert post(receiver.url).status == 200
        assert proxy.received == []


def test_certificates_are_checked_against_the_name() -> None:
    context = network._ssl_context()
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_a_receiver_without_tls_receives_nothing_for_an_https_url() -> None:
    with receiving() as receiver:
        answer = post(receiver.url.replace("http:", "https:"))
        assert (answer.status, answer.was_reached, receiver.received) == (None, False, [])


# Time and size


def seconds_of(url: str, *, seconds: float) -> tuple[Answer, float]:
    started = time.monotonic()
    answer = post(url, seconds=seconds)
    return answer, time.monotonic() - started


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nX-Long: "], ids=["nothing", "an endless header"])
def test_a_receiver_that_answers_slowly_is_abandoned_at_the_deadline(first: bytes) -> None:
    with dripping(b"a" if first else b"", every=0.02, first=first) as url:
        answer, took = seconds_of(url, seconds=0.4)
    assert (answer.status, answer.was_reached) == (None, False)
    assert 0.3 < took < 2


def test_a_slow_tls_handshake_is_abandoned_at_the_deadline() -> None:
    # A handshake record of 16 KB, which arrives byte by byte.
    with dripping(b"\0", every=0.02, first=b"\x16\x03\x03\x3f\xff\x02") as url:
        answer, took = seconds_of(url.replace("http:", "https:"), seconds=0.4)
    assert (answer.status, answer.was_reached) == (None, False)
    assert took < 2


def test_the_status_counts_even_if_the_body_arrives_slowly() -> None:
    with dripping(b"a", every=0.02, first=b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n") as url:
        answer, took = seconds_of(url, seconds=5)
    assert (answer.status, took < 2) == (200, True)
    with dripping(b"a", every=0.02, first=b"HTTP/1.1 500 Broken\r\nContent-Length: 9999\r\n\r\n") as url:
        answer, took = seconds_of(url, seconds=0.4)
    assert (answer.status, answer.was_reached, took < 2) == (500, True, True)


def test_only_the_first_bytes_of_an_answer_are_read() -> None:
    with receiving() as receiver:
        receiver.answers(500, body="b" * 1_000_000)
        assert post(receiver.url) == Answer(500, "b" * 500)
        receiver.answers(200, {"X-Long": "h" * LARGEST_ANSWER})
        answer = post(receiver.url)
    assert (answer.status, answer.was_reached) == (None, True)
    assert answer.text == f"ReadError: the answer is longer than {LARGEST_ANSWER} bytes"


def test_a_receiver_that_refuses_the_connection_was_not_reached() -> None:
    answer = post(closed_url())
    assert (answer.status, answer.was_reached) == (None, False)


def test_a_receiver_that_closes_the_connection_was_reached() -> None:
    with receiving() as receiver:
        receiver.answer = lambda received: None
        answer = post(receiver.url)
    assert (answer.status, answer.was_reached) == (None, True)


def test_an_answer_that_is_not_http_is_a_failure() -> None:
    with dripping(b"", every=0.02, first=b"220 mail.example ESMTP\r\n\r\n") as url:
        answer = post(url, seconds=1)
    assert (answer.status, answer.was_reached) == (None, True)
