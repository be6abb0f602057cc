"""The server as it ships, started as an operator starts it: behaviour that needs a real socket or a restart."""

import json
import socket
import time
from base64 import b64encode
from http.client import HTTPConnection, HTTPResponse
from typing import Any

from tests.serving import HEADERS, serving

REVERSE = "/v2/points/reverse"


REQUEST = json.dumps(
    {
        "redemptionId": "R41453239231",
        "pointsToBeReversed": 0.001,
        "identifier": {"type": "ID", "value": "564000111"},
    }
).encode()


def ask(port: int, body: Any = REQUEST, **headers: str) -> tuple[HTTPResponse, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("POST", REVERSE, body, HEADERS | names)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def code_of(content: bytes) -> int:
    return int(json.loads(content)["errors"][0]["code"])


def test_a_key_replays_across_a_restart(environment: dict[str, str]) -> None:
    with serving(environment) as port:
        first, content = ask(port, Idempotency_Key="restart")
    with serving(environment) as port:
        again, repeated = ask(port, Idempotency_Key="restart")
    assert (first.status, again.status) == (200, 200)
    assert repeated == content
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_chunked_body_is_read(port: int) -> None:
    response, content = ask(port, iter([REQUEST[:10], REQUEST[10:]]), Idempotency_Key="chunked")
    assert (response.status, json.loads(content)["pointsReversed"]) == (200, 0.001)


def test_a_chunked_body_that_is_too_large_is_413(port: int) -> None:
    response, content = ask(port, iter([b" " * 40_000, b" " * 40_000]))
    assert (response.status, code_of(content)) == (413, 413)


def test_a_body_that_ends_too_early_is_887(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        raw.sendall(
            f"POST {REVERSE} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: 9999\r\n\r\n".encode() + REQUEST
        )
        raw.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: raw.recv(65_536), b""))
    assert b'"code":887' in answer
    assert b"The body ended after" in answer


def test_two_keys_are_887(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.putrequest("POST", REVERSE)
    for name, value in [*HEADERS.items(), ("Content-Length", str(len(REQUEST))), ("Idempotency-Key", "a")]:
        connection.putheader(name, value)
    connection.putheader("Idempotency-Key", "b")
    connection.endheaders(REQUEST)
    response = connection.getresponse()
    assert (response.status, code_of(response.read())) == (400, 887)
    connection.close()


def test_every_reply_carries_its_request_id(port: int) -> None:
    answers = [ask(port, b"{")[0], ask(port, Authorization="Basic x")[0], ask(port, Content_Type="text/plain")[0]]
    ids = [answer.headers["X-CAP-REQUEST-ID"] for answer in answers]
    assert [answer.status for answer in answers] == [400, 401, 415]
    assert len(set(ids)) == 3


def test_two_workers_share_the_limits(environment: dict[str, str]) -> None:
    guesses, calls, sent = 5, 20, 60
    limits = {"API_FAILED_LOGINS_PER_MINUTE": str(guesses), "API_CALLS_PER_MINUTE": str(calls)}
    wrong = "Basic " + b64encode(b"till.1:wrong").decode()
    with serving(environment | limits, "--workers", "2") as port:
        started = int(time.time()) // 60
        answered = [ask(port)[0].status for _ in range(sent)]
        tried = [ask(port, Authorization=wrong)[0].status for _ in range(sent)]
        minutes = int(time.time()) // 60 - started + 1
    assert calls <= sent - answered.count(429) <= calls * minutes
    assert set(tried) == {401, 429}
    assert guesses <= tried.count(401) <= guesses * minutes


BEHIND_PROXY = {
    "TRUSTED_PROXIES": "127.0.0.1",
    "FORWARDED_FOR_HEADER": "ForwardedFor",
    "FORWARDED_PROTO_HEADER": "ForwardedProto",
}


def status_behind_proxy(port: int, headers: dict[str, str], body: bytes = b"{}") -> int:
    """Sends the call as a proxy passes it on: with the caller's headers unchanged, also those with underscores."""
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("POST", REVERSE, body, HEADERS | headers)
    response = connection.getresponse()
    assert response.headers["Location"] is None
    response.read()
    connection.close()
    return response.status


def test_no_header_of_a_caller_escapes_the_limit_of_its_address(environment: dict[str, str]) -> None:
    """The server hands on X-Forwarded-For and X_Forwarded_For under one name, so neither is believed."""
    wrong = "Basic " + b64encode(b"nobody:wrong").decode()
    names = ["X_Forwarded_For", "X-Forwarded-For", "Forwarded-For", "Forwarded_For", "Forwarded", "X_Real_IP"]
    with serving(environment | BEHIND_PROXY | {"API_FAILED_LOGINS_PER_MINUTE": "5"}) as port:
        statuses = []
        for number in range(16):
            claimed = dict.fromkeys(names, f"203.0.113.{number}")
            own = {"ForwardedFor": "198.51.100.1:51234", "Authorization": wrong}
            statuses.append(status_behind_proxy(port, claimed | own))
        assert statuses[0] == 401
        assert 429 in statuses
        claimed = dict.fromkeys(names, "198.51.100.1")
        assert status_behind_proxy(port, claimed | {"ForwardedFor": "198.51.100.2:51234"}) == 400


def test_api_over_http_is_403_unless_the_proxy_says_https(environment: dict[str, str]) -> None:
    with serving(environment | BEHIND_PROXY | {"HTTPS_ONLY": "on"}) as port:
        for name in ("ForwardedProto", "X-Forwarded-Proto", "X_Forwarded_Proto", "Forwarded_Proto"):
            status = status_behind_proxy(port, {"ForwardedFor": "198.51.100.1", name: "https"})
            assert (name, status) == (name, 400 if name == "ForwardedProto" else 403)
        assert status_behind_proxy(port, {"ForwardedProto": "http"}) == 403
