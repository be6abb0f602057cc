"""Limits how long a request waits for the database. Commands and the worker wait without a limit."""

from contextvars import ContextVar, Token
from threading import Event
from types import TracebackType
from typing import Optional

import psycopg

# Set when this process gives up a wait, until the database has proved that it commits.
gave_up = Event()


class TookTooLong(psycopg.OperationalError):
    """The database did not answer in time, so the connection was closed. Without a COMMIT, nothing is stored."""


class Limit:
    """The seconds that the block may wait for the database. With `for_each_wait`, each wait has all of them."""

    __slots__ = ("_token", "for_each_wait", "seconds")
    _token: Token[Optional["Limit"]]

    def __init__(self, seconds: float, *, for_each_wait: bool = False) -> None:
        self.seconds, self.for_each_wait = seconds, for_each_wait

    def __enter__(self) -> None:
        self._token = _current.set(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _current.reset(self._token)

    def spend(self, seconds: float) -> None:
        """Subtracts the seconds of a wait."""
        if not self.for_each_wait:
            self.seconds -= seconds


_current: ContextVar[Limit | None] = ContextVar("limit_of_waits", default=None)
current_limit = _current.get
