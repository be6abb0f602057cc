"""Connections that give up a database that does not answer in time, or that has become read-only.

No setting of PostgreSQL or of TCP covers these waits: `statement_timeout` ends before COMMIT waits for a standby, and
the kernel of a frozen server still confirms data.
"""

import time
from typing import Any

import psycopg
from django.db.backends.postgresql import base, features
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_attempts

from loyalty.ledger.distribution import is_distributed
from loyalty.waits import Limit, TookTooLong, current_limit, gave_up

# psycopg waits at least this long for a host.
LEAST_CONNECT_SECONDS = 2
_OWN_PARAMETERS = {"context", "cursor_factory", "prepare_threshold"}

# When each address last failed, in seconds of the monotonic clock. This process tries it after the others.
_failed_at: dict[tuple[str, str], float] = {}


class Connection(psycopg.Connection[Any]):
    """A connection whose waits count against the limit of the request."""

    address = ("", "")

    def wait(self, gen: PQGen[Any], interval: float = 0.1, timeout: float | None = None) -> Any:
        limit = current_limit()
        try:
            if limit is None:
                return super().wait(gen, interval, timeout)
            if limit.seconds <= 0:
                raise self._give_up()
            started = time.monotonic()
            try:
                return super().wait(gen, interval, limit.seconds)
            except psycopg.OperationalError as error:
                if time.monotonic() - started >= limit.seconds:
                    raise self._give_up() from error
                raise
            finally:
                limit.spend(time.monotonic() - started)
        except psycopg.errors.ReadOnlySqlTransaction:
            self._leave()  # a former primary, perhaps
            raise

    def _give_up(self) -> TookTooLong:
        self._leave()
        gave_up.set()
        return TookTooLong("the database did not answer in time")

    def _leave(self) -> None:
        """Closes the connection. The next one tries the other hosts first."""
        self.close()
        _failed_at[self.address] = time.monotonic()


class DatabaseFeatures(features.DatabaseFeatures):
    """What Django may expect of the database."""

    @property
    def allows_group_by_selected_pks(self) -> bool:  # type: ignore[override]
        """Whether rows that are grouped by their id can have other columns. In a cluster the org is part of the key."""
        return not is_distributed()


class DatabaseWrapper(base.DatabaseWrapper):
    """Django's backend with these connections, and without its pool."""

    features_class = DatabaseFeatures

    def ensure_connection(self) -> None:
        """Connects anew if the connection was given up outside of a transaction, where nothing is lost with it."""
        self._forget_if_closed()
        super().ensure_connection()

    def close_if_unusable_or_obsolete(self) -> None:
        self._forget_if_closed()  # otherwise Django would connect here, outside of the request that handles a failure
        super().close_if_unusable_or_obsolete()

    def is_usable(self) -> bool:
        with Limit(LEAST_CONNECT_SECONDS):  # Django asks between requests, where no other limit applies
            return super().is_usable()

    def _forget_if_closed(self) -> None:
        if self.connection is not None and self.connection.closed and not self.in_atomic_block:
            self.close()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Connection:
        self.isolation_level = self.settings_dict["OPTIONS"]["isolation_level"]
        connection = connect(conn_params)
        connection.isolation_level = self.isolation_level
        return connection


def connect(params: dict[str, Any]) -> Connection:
    """Connects to the first host that accepts: first those that never failed, then the one that failed longest ago.

    So a host that is away costs its timeout once in each process, and not with each connection.
    """
    own = {name: value for name, value in params.items() if name in _OWN_PARAMETERS}
    of_libpq = {name: value for name, value in params.items() if name not in _OWN_PARAMETERS}
    errors: list[psycopg.OperationalError] = []
    for attempt in sorted(conninfo_attempts(of_libpq), key=lambda each: _failed_at.get(_address_of(each), 0)):
        address = _address_of(attempt)
        try:
            connection = _connect_in_time(attempt | own)
        except TookTooLong:
            raise
        except psycopg.OperationalError as error:
            _failed_at[address] = time.monotonic()
            errors.append(error)
        else:
            connection.address = address
            return connection
    if len(errors) == 1:
        raise errors[0]
    raise psycopg.OperationalError("no host can be used: " + "; ".join(str(each).strip() for each in errors))


def _connect_in_time(params: dict[str, Any]) -> Connection:
    """Connects to one host, within the limit of the request."""
    limit = current_limit()
    if limit is None:
        return Connection.connect(**params)
    if limit.seconds < LEAST_CONNECT_SECONDS:
        raise TookTooLong("the database did not answer in time")
    seconds = min(int(limit.seconds), int(params.get("connect_timeout") or limit.seconds))
    started = time.monotonic()
    try:
        return Connection.connect(**params | {"connect_timeout": seconds})
    finally:
        limit.spend(time.monotonic() - started)


def _address_of(attempt: dict[str, Any]) -> tuple[str, str]:
    return str(attempt.get("hostaddr") or attempt.get("host", "")), str(attempt.get("port", ""))
