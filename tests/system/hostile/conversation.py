"""Talks to a server in raw bytes."""

import json
import socket
from contextlib import suppress
from http.client import HTTPResponse
from io import BytesIO
from typing import Any

Answer = tuple[int, int | None]


class _Received(BytesIO):
    """What was received, as http.client wants to read it: one response after another."""

    def makefile(self, mode: str) -> "_Received":
        return self

    def close(self) -> None:
        """Left open for the next response."""


def send(port: int, raw: bytes, *, is_all: bool = False) -> bytes:
    """Sends these bytes and returns all that comes back until the server closes the connection.

    `is_all` says to the server that nothing more comes.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        # A server that refuses early closes before all is sent.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(raw)
            if is_all:
                connection.shutdown(socket.SHUT_WR)
        received = bytearray()
        with suppress(ConnectionResetError):
            while part := connection.recv(65_536):
                received += part
        return bytes(received)


def answers_in(received: bytes, *, method: str = "GET") -> list[tuple[Answer, bytes]]:
    """Each answer's status and code, and its body. `method` is that of the first request: HEAD has no body."""
    stream: Any = _Received(received)
    answers: list[tuple[Answer, bytes]] = []
    while stream.tell() < len(received):
        response = HTTPResponse(stream, method="GET" if answers else method)
        response.begin()
        content = response.read()
        answers.append(((response.status, _code_in(response, content)), content))
    return answers


def _code_in(response: HTTPResponse, content: bytes) -> int | None:
    """The code in the envelope of failures; None without one."""
    if response.headers.get("Content-Type") != "application/json" or not content:
        return None
    errors = json.loads(content)["errors"]
    return int(errors[0]["code"]) if errors else None
