"""Routes the reads of back-office pages to a streaming replica, if it has replayed all acknowledged commits."""

import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections
from django.http import HttpRequest, HttpResponseBase

logger = logging.getLogger(__name__)

REPLICA = "replica"
WAITS_SECONDS = 0.05
ASKED_AGAIN_AFTER_SECONDS = 30

_reads_replica: ContextVar[bool] = ContextVar("reads_replica", default=False)
_silent_until = 0.0  # monotonic time until which this worker does not use the replica, because it did not answer


class ReplicaRouter:
    """Routes a page's reads to the replica until the page writes, and everything else to the primary."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return REPLICA if _reads_replica.get() else DEFAULT_DB_ALIAS

    def db_for_write(self, model: Any, **hints: Any) -> str:
        _reads_replica.set(False)  # the page may next read what it writes now
        return DEFAULT_DB_ALIAS

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == DEFAULT_DB_ALIAS


class ReplicaMiddleware:
    """Lets pages of the back office read from the replica if it is up to date, so that no user sees an old state.

    Note: API calls do not pass this middleware. They read from the primary, because a till reads what it just wrote.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.method not in {"GET", "HEAD"} or not has_caught_up():
            return self.get_response(request)
        token = _reads_replica.set(True)
        try:
            return self.get_response(request)
        finally:
            _reads_replica.reset(token)


def has_caught_up() -> bool:
    """Returns whether the replica has replayed all that the primary has committed, after a wait of WAITS_SECONDS.

    Returns False if it does not answer or is not a replica. It is then not asked for ASKED_AGAIN_AFTER_SECONDS.
    """
    global _silent_until
    if time.monotonic() < _silent_until:
        return False
    try:
        return _shows(_committed_until())
    except (DatabaseError, InterfaceError) as error:
        logger.warning("pages are read from the primary, because the replica failed: %s", error)
        connections[REPLICA].close()
        _silent_until = time.monotonic() + ASKED_AGAIN_AFTER_SECONDS
        return False


def _committed_until() -> str:
    """Returns the position in the primary's WAL up to which it is flushed to disk, as every acknowledged commit is."""
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute("SELECT pg_current_wal_flush_lsn()")
        place: str = cursor.fetchone()[0]
    return place


def _shows(place: str) -> bool:
    until = time.monotonic() + WAITS_SECONDS
    with connections[REPLICA].cursor() as cursor:
        while True:
            cursor.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [place])
            if cursor.fetchone()[0]:
                return True
            if time.monotonic() > until:
                return False
            time.sleep(0.002)
