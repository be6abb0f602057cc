"""The example clients in docs/clients: three run against the server as it ships, two are only parsed."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import tree_sitter_c_sharp
import tree_sitter_kotlin
from tree_sitter import Language, Node, Parser

from tests.serving import HEADERS, SECRET

CLIENTS = Path(__file__).parent.parent.parent / "docs" / "clients"
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on PATH")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not on PATH")
RUNNABLE = [
    pytest.param(["sh", "reverse.sh"], id="curl", marks=needs_curl),
    pytest.param([sys.executable, "reverse.py"], id="python"),
    pytest.param(["node", "reverse.mjs"], id="node", marks=needs_node),
]
REDEMPTION, CUSTOMER = "R41453239231", "564000111"


def run(
    command: list[str], host: str, *, redemption: str = REDEMPTION, points: str = "0.001", key: str = ""
) -> "subprocess.CompletedProcess[str]":
    arguments = [host, "till.1", SECRET, redemption, CUSTOMER, points]
    environment = os.environ | {"IDEMPOTENCY_KEY": key}
    return subprocess.run(
        [*command, *arguments], cwd=CLIENTS, env=environment, capture_output=True, text=True, timeout=30, check=False
    )


def read_reversal(port: int, reversal_id: str) -> dict[str, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", f"/v2/points/reversals/{reversal_id}", headers=HEADERS)
    reversal: dict[str, Any] = json.load(connection.getresponse())
    connection.close()
    return reversal


# Against the server as it ships


@pytest.mark.parametrize("command", RUNNABLE)
def test_a_client_reverses_and_prints_the_reversals_id(port: int, command: list[str]) -> None:
    first, second = run(command, f"http://127.0.0.1:{port}"), run(command, f"http://127.0.0.1:{port}")
    assert (first.returncode, first.stderr) == (0, "")
    reversal = read_reversal(port, first.stdout.strip())
    assert (reversal["redemptionId"], reversal["pointsReversed"]) == (REDEMPTION, 0.001)
    # Two runs use two keys, so the second is not treated as a duplicate of the first.
    assert second.returncode == 0
    assert second.stdout != first.stdout


@pytest.mark.parametrize("command", RUNNABLE)
def test_client_restarted_with_same_key_gets_same_reversal(port: int, command: list[str]) -> None:
    host, key = f"http://127.0.0.1:{port}", f"again-{Path(command[1]).suffix}"
    first, second = run(command, host, key=key), run(command, host, key=key)
    assert first.stdout.strip()
    assert second.stdout == first.stdout


@pytest.mark.parametrize("command", RUNNABLE)
def test_client_prints_reason_of_refusal(port: int, command: list[str]) -> None:
    refused = run(command, f"http://127.0.0.1:{port}", redemption="unknown")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("not reversed: ")
    assert "804" in refused.stderr
    assert "Unable to process points reversal request" in refused.stderr


# Against a server with scripted answers


class Script(ThreadingHTTPServer):
    """Answers each request with the next of `answers` (None closes the connection), and records the requests."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes] | None) -> None:
        super().__init__(("127.0.0.1", 0), Turn)
        self.answers = list(answers)
        self.received: list[tuple[float, str, dict[str, str], bytes]] = []

    @property
    def host(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Turn(BaseHTTPRequestHandler):
    server: Script

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append((time.monotonic(), self.path, headers, body))
        answer = self.server.answers.pop(0)
        self.close_connection = True
        if answer is None:
            return
        status, extra, content = answer
        self.send_response(status)
        for name, value in (extra | {"Content-Type": "application/json", "Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


def failure(code: int, message: str = "Busy") -> bytes:
    error = {"status": False, "code": code, "message": message, "reason": "Because."}
    return json.dumps({"errors": [error], "warnings": []}, separators=(",", ":")).encode()


SUCCESS = b'{"orgId":1,"reversalId":"zwU7b0","pointsReversed":0.001,"warnings":[],"errors":[]}'


@pytest.fixture
def script() -> Iterator[Script]:
    server = Script()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("command", RUNNABLE)
def test_client_retries_with_same_key_after_the_time_in_retry_after(script: Script, command: list[str]) -> None:
    busy, in_use = (503, {"Retry-After": "2"}, failure(896)), (409, {"Retry-After": "0"}, failure(896))
    script.answers = [busy, in_use, (200, {}, SUCCESS)]
    done = run(command, script.host)
    assert (done.returncode, done.stdout.strip()) == (0, "zwU7b0")
    times, paths, headers, bodies = zip(*script.received, strict=True)
    assert times[1] - times[0] >= 2
    assert times[2] - times[1] < 1
    assert set(paths) == {"/v2/points/reverse"}
    assert len({sent["idempotency-key"] for sent in headers}) == 1
    assert {sent["content-type"] for sent in headers} == {"application/json"}
    assert [json.loads(body) for body in bodies] == 3 * [
        {"redemptionId": REDEMPTION, "pointsToBeReversed": "0.001", "identifier": {"type": "ID", "value": CUSTOMER}}
    ]


@pytest.mark.parametrize("command", RUNNABLE)
def test_client_retries_after_broken_connection(script: Script, command: list[str]) -> None:
    script.answers = [None, (200, {}, SUCCESS)]
    assert run(command, script.host).stdout.strip() == "zwU7b0"
    assert len({headers["idempotency-key"] for _, _, headers, _ in script.received}) == 1


@pytest.mark.parametrize("command", RUNNABLE)
def test_client_treats_error_with_http_200_as_error(script: Script, command: list[str]) -> None:
    script.answers = [(200, {}, failure(3802, "all redeemed points already reversed"))]
    refused = run(command, script.host)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "3802" in refused.stderr


# Only parsed

GRAMMARS = {"Reverse.cs": tree_sitter_c_sharp.language(), "Reverse.kt": tree_sitter_kotlin.language()}
ON_THE_WIRE = {
    *("/v2/points/reverse", "Basic", "application/json", "Idempotency-Key", "Retry-After", "IDEMPOTENCY_KEY"),
    *("redemptionId", "pointsToBeReversed", "identifier", "type", "value", "ID"),
    *("orgId", "reversalId", "errors", "code", "message", "reason"),
}


def nodes(node: Node) -> Iterator[Node]:
    yield node
    for child in node.children:
        yield from nodes(child)


@pytest.mark.parametrize("name", GRAMMARS)
def test_client_that_is_only_parsed_is_valid_and_uses_published_names(name: str) -> None:
    tree = Parser(Language(GRAMMARS[name])).parse((CLIENTS / name).read_bytes())
    assert not tree.root_node.has_error
    assert not [node for node in nodes(tree.root_node) if node.is_error or node.is_missing]
    literals = {
        (node.text or b"").decode().strip('"').strip()
        for node in nodes(tree.root_node)
        if node.type == "string_literal"
    }
    assert literals >= ON_THE_WIRE
