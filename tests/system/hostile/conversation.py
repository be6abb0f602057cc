"""Sends raw bytes to a server, and reads its answers."""

import json
import socket
from contextlib import suppress
from http.client import HTTPResponse
from io import BytesIO
from typing import Any

Answer = tuple[int, int | None]


class _Received(BytesIO):
    """The received bytes in the form that http.client reads: one response after another."""

    def makefile(self, mode: str) -> "_Received":
        return self

    def close(self) -> None:
        """Stays open for the next response."""


def send(port: int, raw: bytes, *, is_all: bool = False) -> bytes:
    """Sends these bytes and returns everything received until the server closes the connection.

    `is_all` closes the sending side, so that the server knows that no more bytes follow.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        # A server that refuses early may close the connection before everything is sent.
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
    """The status, code and body of each answer. `method` is that of the first request, because HEAD has no body."""
    stream: Any = _Received(received)
    answers: list[tuple[Answer, bytes]] = []
    while stream.tell() < len(received):
        response = HTTPResponse(stream, method="GET" if answers else method)
        response.begin()
        content = response.read()
        answers.append(((response.status, _code_in(response, content)), content))
    return answers


def _code_in(response: HTTPResponse, content: bytes) -> int | None:
    """The code of the error in the body, or None if there is no error."""
    if response.headers.get("Content-Type") != "application/json" or not content:
        return None
    errors = json.loads(content)["errors"]
    return int(errors[0]["code"]) if errors else None
