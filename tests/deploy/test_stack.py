"""The whole stack answers as one server does, and one server of it may go at any time."""

import json
import socket
import ssl
import time
from contextlib import closing
from typing import Any

import psycopg
import pytest
import yaml

from tests.deploy.conftest import DEPLOY, Stack
from tests.faults.load import HEADERS
from tests.faults.machines import ROOT

REVERSE = "/v2/points/reverse"


def ask(stack: Stack, body: Any, method: str = "POST", path: str = REVERSE, **headers: str) -> tuple[int, bytes, Any]:
    with closing(stack.through()) as connection:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, HEADERS | named)
        response = connection.getresponse()
        return response.status, response.read(), response.headers


def reversal(stack: Stack, number: int) -> str:
    redemption_id, customer_id = stack.stage.redemptions[number]
    identifier = {"type": "ID", "value": str(customer_id)}
    return json.dumps({"redemptionId": redemption_id, "identifier": identifier, "pointsToBeReversed": 0.001})


def test_a_reversal_passes_the_whole_stack_and_is_repeated_by_its_key(stack: Stack) -> None:
    answers = [ask(stack, reversal(stack, 0), Idempotency_Key="stack-1") for _ in range(4)]
    assert {(status, body) for status, body, _ in answers} == {(200, answers[0][1])}
    assert [headers.get("Idempotent-Replayed") for *_, headers in answers] == [None, "true", "true", "true"]
    assert "max-age=31536000" in answers[0][2]["Strict-Transport-Security"]


def test_what_is_too_large_is_413_here_or_there(stack: Stack) -> None:
    status, body, _ = ask(stack, b" " * 70_000)
    assert (status, json.loads(body)["errors"][0]["code"]) == (413, 413)
    assert ask(stack, b" " * 2_200_000)[0] == 413


def test_metrics_are_not_for_the_world(stack: Stack) -> None:
    assert ask(stack, None, "GET", "/metrics")[0] == 404


def test_the_client_is_told_by_the_proxy_and_not_by_itself(stack: Stack) -> None:
    """A hundred wrong passwords, each said to come from elsewhere, are one address's."""
    wrong = {"Authorization": "Basic dGlsbC4xOndyb25n", "Idempotency_Key": "stack-2"}
    environment = stack.servers[0].environment
    assert environment["TRUSTED_PROXIES"] == "127.0.0.1"
    answers = [ask(stack, reversal(stack, 1), X_Forwarded_For=f"203.0.113.{n}", **wrong)[0] for n in range(3)]
    assert answers == [401] * 3


def test_timeouts_hold_through_the_pooler(stack: Stack) -> None:
    with psycopg.connect(stack.stage.url) as person:
        person.execute("SELECT id FROM loyalty_customer WHERE public_id = 3 FOR UPDATE")
        started = time.monotonic()
        status, body, _ = ask(stack, reversal(stack, 2), Idempotency_Key="stack-3")
        seconds = time.monotonic() - started
    assert (status, json.loads(body)["errors"][0]["code"]) == (503, 896)
    assert 1.9 < seconds < 4.9
    assert ask(stack, reversal(stack, 2), Idempotency_Key="stack-3")[0] == 200


@pytest.mark.deep
def test_each_server_is_stopped_and_started_under_load(stack: Stack) -> None:
    with stack.stage.under_load("rolling restart behind the proxy", through=stack.through) as fault:
        for server in stack.servers:
            server.stop()
            fault.injected += 1
            time.sleep(1)
            server.start()


@pytest.mark.deep
def test_a_server_is_killed_under_load(stack: Stack) -> None:
    with stack.stage.under_load("kill -9 of a server behind the proxy", through=stack.through) as fault:
        stack.servers[0].kill()
        fault.injected += 1
        time.sleep(2)
        stack.servers[0].start()


@pytest.mark.deep
def test_two_hundred_clients_that_never_end_their_bodies_hold_up_nobody(stack: Stack) -> None:
    context: ssl.SSLContext = stack.through.keywords["context"]
    port = stack.through.args[1]
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    half = f"POST {REVERSE} HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: 90\r\n\r\n{{".encode()
    with stack.stage.under_load("200 sockets with half a body", through=stack.through) as fault:
        slow = []
        for _ in range(200):
            raw = socket.create_connection(("127.0.0.1", port))
            slow.append(context.wrap_socket(raw, server_hostname="localhost"))
            slow[-1].sendall(half)
            fault.injected += 1
        started = time.monotonic()
        assert ask(stack, reversal(stack, 4), Idempotency_Key="stack-4")[0] == 200
        assert time.monotonic() - started < 5
        for each in slow:
            each.close()


def test_the_compose_file_names_what_there_is() -> None:
    composed = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = composed["services"]
    commands = {path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")} | {"migrate"}
    run = {service["command"][2] for service in services.values() if service.get("command", [""])[0] == "python"}
    assert run <= commands
    mounted = [volume.split(":") for service in services.values() for volume in service.get("volumes", [])]
    files = {source for source, *_ in mounted if source.startswith("./")} - {"./certificates"}
    assert files == {"./role.sql", "./pgbouncer.ini", "./proof", "./nginx.conf"}
    assert all((DEPLOY / name).exists() for name in files)
    copied = [line.split()[1] for line in (DEPLOY / "Containerfile").read_text().splitlines() if line[:4] == "COPY"]
    assert all((ROOT / name).exists() for name in copied)
