"""Posts to receivers, only at public addresses and only until a deadline."""

import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

import httpcore

from loyalty.webhooks import is_public

LARGEST_ANSWER = 16 * 1024
_READ_AT_ONCE = 4 * 1024
_TEXT_KEPT = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """A receiver's answer, or the reason why there is none; `status` is then None.

    `was_reached` is False if the connection failed or the answer came too late. `text` is the beginning of an answer
    other than 2xx, or the error. `retry_after` is the header as sent. `seconds` is the time that the send took.
    """

    status: int | None
    text: str
    was_reached: bool = True
    retry_after: str | None = None
    seconds: float = 0.0

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class AddressRefused(httpcore.ConnectError):
    """The host resolves to an address that webhooks must not use."""


def post(url: str, *, headers: Mapping[str, str], body: bytes, deadline: float, private_allowed: bool) -> Answer:
    """Sends one POST on a new connection and returns the answer. Raises no exceptions.

    `deadline` is a time.monotonic() for connecting, sending and reading together. Note: a DNS look-up may exceed it.
    `private_allowed` permits private addresses. Does not follow redirects or use proxies.
    """
    try:
        return _post(url, headers=headers, body=body, backend=_GuardedBackend(deadline, private_allowed))
    except (httpcore.ConnectError, httpcore.TimeoutException) as error:
        return Answer(None, _text_of(error), was_reached=False)
    except Exception as error:  # a receiver must not be able to crash the worker
        return Answer(None, _text_of(error))


def _post(url: str, *, headers: Mapping[str, str], body: bytes, backend: httpcore.NetworkBackend) -> Answer:
    with (
        httpcore.ConnectionPool(ssl_context=_ssl_context(), network_backend=backend) as pool,
        pool.stream("POST", url, headers=list(headers.items()), content=body) as response,
    ):
        sent_headers = {name.lower(): value for name, value in response.headers}
        retry_after = sent_headers.get(b"retry-after")
        return Answer(
            response.status,
            "" if 200 <= response.status < 300 else _beginning_of(response),
            retry_after=None if retry_after is None else retry_after.decode("latin-1"),
        )


def _beginning_of(response: httpcore.Response) -> str:
    """Reads the beginning of the body. Ignores errors and timeouts, because the status is enough."""
    beginning = b""
    try:
        for part in response.iter_stream():
            beginning += part
            if len(beginning) >= _TEXT_KEPT:
                break
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError):
        pass
    # PostgreSQL cannot store a NUL character.
    return beginning[:_TEXT_KEPT].decode("utf-8", "replace").replace("\0", "")


def _text_of(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:_TEXT_KEPT].replace("\0", "")


@cache
def _ssl_context() -> ssl.SSLContext:
    """Creates the TLS context once, because it loads all CA certificates."""
    return httpcore.default_ssl_context()


class _GuardedBackend(httpcore.NetworkBackend):
    """Connects to the addresses that it has checked, so that a second look-up cannot give another address."""

    def __init__(self, deadline: float, private_allowed: bool) -> None:
        self._deadline = deadline
        self._private_allowed = private_allowed
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in self._addresses(host, port):
            try:
                stream = self._sockets.connect_tcp(address, port, _left_until(self._deadline))
                return _TimedStream(stream, self._deadline)
            except httpcore.ConnectError as error:
                failure = error
        raise failure

    def _addresses(self, host: str, port: int) -> list[str]:
        """Resolves the host to numeric addresses. Raises AddressRefused if one of them is not public."""
        try:
            # The resolver has no deadline. Its own time limits end well within a lease.
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
        addresses = [str(address[0]) for *_, address in found]
        for address in addresses:
            if not self._private_allowed and not is_public(address):
                raise AddressRefused(f"{host} resolves to {address}, which is not a public address")
        return list(dict.fromkeys(addresses))


class _TimedStream(httpcore.NetworkStream):
    """A connection with one deadline for all steps, and a size limit for the answer."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline
        self._bytes_left = LARGEST_ANSWER

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if not self._bytes_left:
            raise httpcore.ReadError(f"the answer is longer than {LARGEST_ANSWER} bytes")
        at_most = min(max_bytes, _READ_AT_ONCE, self._bytes_left)
        part = self._stream.read(at_most, _left_until(self._deadline))
        self._bytes_left -= len(part)
        return part

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left_until(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _left_until(self._deadline))
        return _TimedStream(stream, self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _left_until(deadline: float) -> float:
    """Returns the seconds until the deadline. Raises ReadTimeout if it has passed."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the deadline has passed")
    return left
