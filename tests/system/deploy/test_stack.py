"""The whole stack answers like one server, and any one of its servers can stop at any time."""

import json
import re
import socket
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
import yaml

from tests.system.deploy.conftest import Stack, ask, logged
from tests.system.deploy.machines import DEPLOY
from tests.system.faults.load import HEADERS
from tests.system.faults.machines import ROOT, Server, wait_until


def redeemed(stack: Stack, customer_id: int) -> str:
    """Redeems a point of the customer; returns the body of a partial reversal that no other test makes."""
    path = f"/v2/customers/{customer_id}/redemptions"
    status, body, _ = ask(stack, json.dumps({"points": 1, "programId": "973"}), path=path)
    assert status == 200, body
    identifier = {"type": "ID", "value": str(customer_id)}
    redemption_id = json.loads(body)["redemptionId"]
    return json.dumps({"redemptionId": redemption_id, "identifier": identifier, "pointsToBeReversed": 0.001})


@contextmanager
def stopped(*servers: Server) -> Iterator[None]:
    """Stops the servers during the block."""
    for server in servers:
        server.stop()
    try:
        yield
    finally:
        for server in servers:
            server.start()


def test_reversal_passes_whole_stack_and_is_replayed_by_its_key(stack: Stack) -> None:
    request = redeemed(stack, 1)
    answers = [ask(stack, request, Idempotency_Key="stack-1") for _ in range(4)]
    assert {(status, body) for status, body, _ in answers} == {(200, answers[0][1])}
    assert [headers.get("Idempotent-Replayed") for *_, headers in answers] == [None, "true", "true", "true"]
    assert "max-age=31536000" in answers[0][2]["Strict-Transport-Security"]


def test_too_large_body_is_413_from_server_and_from_proxy(stack: Stack) -> None:
    reasons = []
    for size in (70_000, 2_200_000):
        status, body, headers = ask(stack, b" " * size)
        [error] = json.loads(body)["errors"]
        assert (status, error["code"], error["message"]) == (413, 413, "Request body too large")
        assert headers["X-CAP-REQUEST-ID"]
        reasons.append(error["reason"])
    assert reasons[1] == "A request body may be at most 2 MB." != reasons[0]


def test_an_address_that_is_too_long_is_refused_by_the_proxy(stack: Stack) -> None:
    assert ask(stack, None, "GET", "/v2/points/reversals/" + "a" * 9_000)[0] == 414


def test_metrics_are_not_public(stack: Stack) -> None:
    assert ask(stack, None, "GET", "/metrics")[0] == 404


def test_client_address_is_set_by_proxy_not_by_client(stack: Stack) -> None:
    """Wrong passwords from one address reach the limit although each request claims another address.

    nginx replaces the header that is believed, and X-Forwarded-For is not believed.
    """
    wrong = "Basic " + b64encode(b"nobody:wrong").decode()
    limit = int(stack.servers[0].environment["API_FAILED_LOGINS_PER_MINUTE"])
    # The minute may end in between, and each worker lets one more attempt through.
    answers = []
    for number in range(3 * limit + 4):
        claimed = dict.fromkeys(["ForwardedFor", "X_Forwarded_For"], f"203.0.113.{number}")
        answers.append(ask(stack, "{}", Authorization=wrong, **claimed)[0])
    assert answers[0] == 401
    assert 429 in answers


def test_container_health_check_sees_whether_server_runs(stack: Stack) -> None:
    """The check uses 127.0.0.1 and plain http, which clients may not use."""
    [code] = re.findall(r'CMD python -c "(.+)"', (DEPLOY / "Containerfile").read_text())
    words = [sys.executable, "-c", code.replace(":8001", f":{stack.servers[0].port}")]
    assert subprocess.run(words, check=False).returncode == 0
    with stopped(stack.servers[0]):
        assert subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode == 1


def test_lock_timeout_applies_through_pgbouncer(stack: Stack) -> None:
    request, database = redeemed(stack, 3), stack.stage.database
    assert database is not None
    with psycopg.connect(database.url) as session:
        session.execute("SELECT id FROM loyalty_customer WHERE public_id = 3 FOR UPDATE")
        started = time.monotonic()
        status, body, _ = ask(stack, request, Idempotency_Key="stack-3")
        seconds = time.monotonic() - started
    assert (status, json.loads(body)["errors"][0]["code"]) == (503, 896)
    assert 1.9 < seconds < 4.9
    assert ask(stack, request, Idempotency_Key="stack-3")[0] == 200


@pytest.mark.parametrize("declared", ["on", "off"])
def test_migrate_refuses_pgbouncer_whether_it_is_declared_or_not(stack: Stack, declared: str) -> None:
    environment = stack.servers[0].environment | {"DATABASE_POOLER": declared}
    words = [sys.executable, "manage.py", "migrate"]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    expected = "goes through a pooler" if declared == "on" else "goes through a pooler|unsupported startup parameter"
    assert re.search(expected, done.stderr), done.stderr


def test_application_role_is_not_superuser(stack: Stack) -> None:
    database = stack.stage.database
    assert database is not None
    [role] = database.rows("SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'loyalty'")
    assert role == (False, False, False)


def test_proxy_answers_503_in_api_format_when_no_server_runs(stack: Stack) -> None:
    request = redeemed(stack, 5)
    with stopped(*stack.servers):
        status, body, headers = ask(stack, request, Idempotency_Key="stack-5")
    assert (status, headers["Retry-After"], headers["Content-Type"]) == (503, "1", "application/json")
    assert headers["X-CAP-REQUEST-ID"]
    reason = "No server answered; send the request again with the same Idempotency-Key."
    error = {"status": False, "code": 503, "message": "Service Unavailable", "reason": reason}
    assert json.loads(body) == {"errors": [error], "warnings": []}
    wait_until(lambda: ask(stack, request, Idempotency_Key="stack-5")[0] == 200)


def test_proxy_logs_each_call_with_its_request_id_and_server(stack: Stack) -> None:
    request = redeemed(stack, 6)
    headers = ask(stack, request, Idempotency_Key="stack-6", path="/v2/points/reverse?phone=918")[2]
    with stopped(*stack.servers):
        away = ask(stack, request, Idempotency_Key="stack-6")[2]
    line, last = logged(stack, [headers, away])
    about = {name: line[name] for name in ("client_address", "method", "path", "status", "upstream_status")}
    assert about == {
        "client_address": "127.0.0.1",
        "method": "POST",
        "path": "/v2/points/reverse",
        "status": 200,
        "upstream_status": "200",
    }
    assert line["upstream"] in {f"127.0.0.1:{server.port}" for server in stack.servers}
    assert 0 < float(line["upstream_seconds"]) <= line["seconds"] + 0.001
    assert last["status"] == 503


@pytest.mark.deep
def test_server_killed_under_load_loses_nothing(stack: Stack) -> None:
    with stack.stage.under_load("kill -9 of a server behind the proxy", through=stack.through) as fault:
        stack.servers[0].kill()
        fault.injected += 1
        time.sleep(2)
        stack.servers[0].start()


@pytest.mark.deep
def test_two_hundred_unfinished_bodies_do_not_block_other_clients(stack: Stack) -> None:
    context: ssl.SSLContext = stack.through.keywords["context"]
    port = stack.through.args[1]
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    half = f"POST /v2/points/reverse HTTP/1.1\r\nHost: localhost\r\n{head}Content-Length: 90\r\n\r\n{{".encode()
    request = redeemed(stack, 4)
    with stack.stage.under_load("200 sockets with half a body", through=stack.through) as fault:
        slow = []
        for _ in range(200):
            raw = socket.create_connection(("127.0.0.1", port))
            slow.append(context.wrap_socket(raw, server_hostname="localhost"))
            slow[-1].sendall(half)
            fault.injected += 1
        started = time.monotonic()
        assert ask(stack, request, Idempotency_Key="stack-4")[0] == 200
        assert time.monotonic() - started < 5
        for each in slow:
            each.close()


def test_compose_file_names_existing_commands_and_files() -> None:
    composed = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = composed["services"]
    commands = {path.stem for path in ROOT.glob("*/management/commands/[a-z]*.py")} | {"migrate"}
    run = {service["command"][2] for service in services.values() if service.get("command", [""])[0] == "python"}
    assert run <= commands
    mounted = [volume.split(":") for service in services.values() for volume in service.get("volumes", [])]
    files = {source for source, *_ in mounted if source.startswith("./")} - {"./certificates"}
    assert files == {"./role.sql", "./pgbouncer.ini", "./nginx.conf"}
    assert all((DEPLOY / name).exists() for name in files)
    copied = re.findall(r"^COPY (\S+)", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    assert all((ROOT / name).exists() for name in copied)
    sent = re.findall(r"^!(\S+)", (DEPLOY / "Containerfile.dockerignore").read_text(), re.MULTILINE)
    assert sorted(sent) == sorted(copied)


def test_application_owns_the_volumes_it_writes_to() -> None:
    [owned] = re.findall(r"chown loyalty (.+)", (DEPLOY / "Containerfile").read_text())
    composed = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    built = [service for service in composed["services"].values() if "dockerfile" in service.get("build", {})]
    mounted = [volume.split(":") for service in built for volume in service.get("volumes", [])]
    written = {path for source, path, *_ in mounted if source in composed["volumes"]}
    assert written == {"/anchor"} <= set(owned.split())


def test_servers_trust_the_address_of_the_proxy() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    address = services["proxy"]["networks"]["default"]["ipv4_address"]
    assert {services[name]["environment"]["TRUSTED_PROXIES"] for name in ("app1", "app2")} == {address}
