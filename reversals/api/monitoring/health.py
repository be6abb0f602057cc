"""Checks whether this server is ready: the database commits within bounded time, has room and has all migrations."""

import os
import shutil
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from django.conf import settings
from django.db import Error, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from loyalty.outages import Outage, note_outage, outage_of, sqlstate_of
from loyalty.waits import Limit

SECONDS = 2
# All callers share a probe and its result, so that many callers of /health/ready do not write more often.
FRESH_SECONDS = 2
# A probe that hangs for longer is ended, because the database that it waits for may have been replaced.
GIVEN_UP_AFTER_SECONDS = 10
# Ends a probe that waits before it has a session to cancel: a frozen server confirms data, but does not answer.
LONGEST_SECONDS = 15
# A call must have this much room on the database's disk.
ROOM_BYTES = 1_000_000
BYTES_OF_A_NUMBER = 32  # in a temporary file of PostgreSQL
SQLITE_WAIT_MS = 100

# The probe has a thread and a connection of its own, so that a database that hangs does not block the caller.
prober = ThreadPoolExecutor(1, "health")
_lock = Lock()
_last: list["_Probe"] = []


class NotReady(Exception):
    """The server is not ready. The message gives the reason and contains no secrets."""


class _Probe:
    """One probe of the database, which runs in the prober's thread."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.is_committing = self.is_given_up = False
        self.session: Any = None
        self.result: Future[None] = prober.submit(self._run)

    @property
    def age(self) -> float:
        return time.monotonic() - self.started

    @property
    def is_shared(self) -> bool:
        return not self.result.done() or self.age < FRESH_SECONDS

    def wait(self, seconds: float) -> None:
        try:
            self.result.result(timeout=max(0, seconds - self.age))
        except TimeoutError as error:
            done = "commit" if self.is_committing else "answer"
            raise NotReady(f"the database did not {done} within {seconds:g} s") from error

    def give_up(self) -> None:
        """Ends the session of a probe that hangs, so that the next one connects anew. Takes some seconds.

        The cancel request ends a COMMIT that waits for a lost standby; otherwise its session would remain.
        """
        self.is_given_up = True
        with suppress(Exception):  # it may have ended meanwhile, and whatever fails here, the next probe reports
            self.session.cancel_safe(timeout=2)
            time.sleep(1)
            if not self.result.done():
                with socket.socket(fileno=os.dup(self.session.fileno())) as wire:
                    wire.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        with Limit(LONGEST_SECONDS):
            self._write()

    def _write(self) -> None:
        try:
            if connection.connection is not None and not connection.is_usable():
                connection.close()  # the database has restarted since it was opened
            connection.ensure_connection()
            self.session = connection.connection
            (_write_to_postgresql if connection.vendor == "postgresql" else _write_to_sqlite)(self)
            check_migrations()
        except Error as error:
            connection.close()
            if outage_of(error) is Outage.BUSY:  # only on SQLite: somebody else is writing
                return
            note_outage(error)
            raise NotReady(_reason(error)) from error


def check(seconds: float = SECONDS) -> None:
    """Raises NotReady if the server is not ready within these seconds."""
    with _lock:
        probe = _last[0] if _last else None
        if probe is None or not probe.is_shared:
            probe = _Probe()
            _last[:] = [probe]
        elif not probe.is_given_up and probe.age > GIVEN_UP_AFTER_SECONDS:
            Thread(target=probe.give_up, daemon=True).start()
    probe.wait(seconds)


def forget() -> None:
    """Makes the next check probe the database, however fresh the last result is."""
    _last.clear()


def _write_to_postgresql(probe: _Probe) -> None:
    """Commits a small message to the WAL, which needs no table, and fills a temporary file, which needs room."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('transaction_read_only') = 'off', set_config('work_mem', '64kB', true)")
        if not cursor.fetchone()[0]:
            raise NotReady("the database is read-only")
        cursor.execute(
            "SELECT count(*), pg_logical_emit_message(true, 'loyalty', 'ready') FROM generate_series(1, %s)",
            [ROOM_BYTES // BYTES_OF_A_NUMBER],
        )
        probe.is_committing = True


def _write_to_sqlite(probe: _Probe) -> None:
    """Commits the number in the file's header again, unless another connection is writing."""
    name = settings.DATABASES["default"]["NAME"]
    if name != ":memory:":
        if not os.access(name, os.W_OK):
            raise NotReady("the database is read-only")
        if shutil.disk_usage(Path(name).parent).free < ROOM_BYTES:
            raise NotReady("the database's disk is full")
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout = {SQLITE_WAIT_MS}")
        with transaction.atomic():
            cursor.execute("PRAGMA user_version")
            (number,) = cursor.fetchone()
            cursor.execute(f"PRAGMA user_version = {number:d}")
            probe.is_committing = True


def _reason(error: Error) -> str:
    if code := sqlstate_of(error):
        return f"the database fails with {code} ({type(error.__cause__).__name__})"
    return "the database does not answer"


@cache  # applied migrations stay applied, and exceptions are not cached
def check_migrations() -> None:
    """Raises NotReady if the database lacks migrations."""
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        count = f"{len(missing)} {'migration is' if len(missing) == 1 else 'migrations are'}"
        raise NotReady(f"{count} not applied. Run manage.py migrate.")
