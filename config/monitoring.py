"""Serves health and metrics on a port of their own, so that they answer while all threads for calls hang."""

import logging
import socket
import time
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from django.core.handlers.wsgi import WSGIHandler
from django.db import connections

from reversals.api.monitoring.views import VIEWS

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_TRIES = 1


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 64

    def server_bind(self) -> None:
        """Binds without HTTPServer's look-up of the host's full name, which can take as long as DNS does."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        super().process_request_thread(request, client_address)
        connections.close_all()  # those of the thread that ends now

    def handle_error(self, request: Any, client_address: Any) -> None:
        logger.debug("a request for monitoring broke off", exc_info=True)


class _ServerOfIPv6(_Server):
    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    timeout = 10  # for a client that sends nothing

    def log_message(self, format: str, *args: Any) -> None:
        """Logs nothing, because the access log does."""


def serve_monitoring(application: WSGIHandler, address: tuple[str, int]) -> None:
    """Starts a thread that serves health and metrics at the address.

    The workers of a server share the address: the first one that starts has it, and when it ends, another one takes it.
    """
    Thread(target=_serve, args=(application, address), name="monitoring", daemon=True).start()


def _serve(application: WSGIHandler, address: tuple[str, int]) -> None:
    while True:
        try:
            server = (_ServerOfIPv6 if ":" in address[0] else _Server)(address, _Handler)
        except OSError:  # another worker has it
            time.sleep(SECONDS_BETWEEN_TRIES)
            continue
        server.set_app(_only_monitoring(application))
        server.serve_forever()


def _only_monitoring(application: WSGIHandler) -> Callable[..., Iterable[bytes]]:
    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] in VIEWS:
            return application(environ, start_response)
        start_response("404 Not Found", [("Content-Length", "0")])
        return []

    return answer
