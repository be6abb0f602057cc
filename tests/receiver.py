"""Webhook receivers on a loopback port: real servers in threads that record every request."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Received:
    headers: dict[str, str]
    body: bytes
    path: str = ""
    at: float = field(default_factory=time.monotonic)

    @property
    def event(self) -> dict[str, Any]:
        return json.loads(self.body)

    @property
    def number(self) -> int:
        return self.event["eventLogId"]

    @property
    def customer_id(self) -> int:
        return self.event["data"]["customerIdentifiers"]["customerId"]


# A status with headers and a body; None closes the connection without an answer.
Answered = tuple[int, dict[str, str], str] | None


@dataclass
class Receiver:
    """A receiver. `answer` returns the answer to each request, by default a 200."""

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answer: Callable[[Received], Answered] = lambda received: (200, {}, "")

    @property
    def numbers(self) -> list[int]:
        return [received.number for received in self.received]

    def answers(self, status: int, headers: dict[str, str] | None = None, body: str = "") -> None:
        self.answer = lambda received: (status, headers or {}, body)


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received = Received({name.lower(): value for name, value in self.headers.items()}, body, self.path)
            receiver.received.append(received)
            answered = receiver.answer(received)
            if answered is None:
                return
            status, headers, text = answered
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(text.encode()))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = f"http://127.0.0.1:{server.server_port}/events"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def dripping(piece: bytes, *, every: float, first: bytes = b"") -> Iterator[str]:
    """Yields the URL of a receiver that sends `first`, and then one piece after the other without end.

    With an empty piece it never answers.
    """
    stopped = threading.Event()

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.sendall(first)
            while not stopped.wait(every):
                connection.sendall(piece)

    def accept() -> None:
        while not stopped.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=answer, args=[connection]))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/events"
        finally:
            stopped.set()
            for thread in threads:
                thread.join()


def closed_url() -> str:
    """A URL whose port is closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/events"
