"""Classifies errors of the database: which are outages, and which are faults of the program. Logs causes of outages."""

import logging
import re
import time
from enum import Enum

from django.conf import settings
from django.db import DatabaseError, Error, IntegrityError, InterfaceError, InternalError, OperationalError

from loyalty.waits import TookTooLong

logger = logging.getLogger(__name__)

NOTED_EVERY_SECONDS = 60
LONGEST_CAUSE = 500


class Outage(Enum):
    BUSY = "Another transaction is in the way; the same transaction may succeed now."
    UNAVAILABLE = "The database cannot be reached, written to or used as it is set up. Nothing was done."
    FAILED = "The database failed in the middle. What was being done may or may not be done."


_BUSY, _UNAVAILABLE, _FAILED = Outage.BUSY, Outage.UNAVAILABLE, Outage.FAILED

# Each class of PostgreSQL's error codes (its manual, appendix A). None: a fault of the program, or of its data.
_CLASSES: dict[str, Outage | None] = {
    "00": None,  # successful completion
    "01": None,  # warning
    "02": None,  # no data
    "03": None,  # SQL statement not yet complete
    "08": _FAILED,  # connection exception
    "09": None,  # triggered action exception
    "0A": None,  # feature not supported
    "0B": None,  # invalid transaction initiation
    "0F": None,  # locator exception
    "0L": None,  # invalid grantor
    "0P": None,  # invalid role specification
    "0Z": None,  # diagnostics exception
    "10": None,  # XQuery error
    "20": None,  # case not found
    "21": None,  # cardinality violation
    "22": None,  # data exception
    "23": None,  # integrity constraint violation
    "24": None,  # invalid cursor state
    "25": None,  # invalid transaction state
    "26": _UNAVAILABLE,  # invalid statement name: a pooler changed the session below a prepared statement
    "27": None,  # triggered data change violation
    "28": _UNAVAILABLE,  # invalid authorization specification
    "2B": None,  # dependent privilege descriptors still exist
    "2D": None,  # invalid transaction termination
    "2F": None,  # SQL routine exception
    "34": _UNAVAILABLE,  # invalid cursor name: a pooler changed the session below a cursor
    "38": None,  # external routine exception
    "39": None,  # external routine invocation exception
    "3B": None,  # savepoint exception
    "3D": _UNAVAILABLE,  # invalid catalog name: the database does not exist
    "3F": _UNAVAILABLE,  # invalid schema name
    "40": _FAILED,  # transaction rollback
    "42": None,  # syntax error or access rule violation
    "44": None,  # WITH CHECK OPTION violation
    "53": _FAILED,  # insufficient resources: disk full, out of memory
    "54": None,  # program limit exceeded
    "55": _FAILED,  # object not in prerequisite state
    "57": _FAILED,  # operator intervention: shutdown, crash, timeout
    "58": _FAILED,  # system error: input or output
    "72": _FAILED,  # snapshot too old
    "F0": _UNAVAILABLE,  # configuration file error
    "HV": None,  # foreign data wrapper error
    "P0": None,  # PL/pgSQL error
    "XX": _FAILED,  # internal error: corrupted data or index
}
# The codes that differ from their class.
_CODES: dict[str, Outage | None] = {
    "08001": _UNAVAILABLE,  # cannot connect
    "08004": _UNAVAILABLE,  # connection rejected
    "0A000": _BUSY,  # "cached plan must not change result type": a migration changed a table below a prepared statement
    "25006": _UNAVAILABLE,  # read-only transaction: a standby
    "25P01": _UNAVAILABLE,  # no active transaction: a pooler changed the session
    "25P03": _FAILED,  # idle-in-transaction timeout: this program or the network was frozen
    "25P04": _FAILED,  # transaction timeout
    "40001": _BUSY,  # serialization failure
    "40002": None,  # integrity constraint violation
    "40P01": _BUSY,  # deadlock
    "42501": _UNAVAILABLE,  # insufficient privilege
    "42703": _UNAVAILABLE,  # undefined column: the database lacks a migration
    "42P01": _UNAVAILABLE,  # undefined table: the same, or a wrong search_path
    "42P05": _UNAVAILABLE,  # duplicate prepared statement: a pooler changed the session
    "53300": _UNAVAILABLE,  # too many connections
    "54000": _FAILED,  # program limit exceeded: transaction ids are used up
    "55006": _UNAVAILABLE,  # object in use: the database is being dropped or copied
    "55P02": None,  # parameter cannot be changed
    "55P03": _BUSY,  # lock timeout
    "55P04": None,  # unsafe use of a new enum value
    "57P03": _UNAVAILABLE,  # cannot connect now: starting up or shutting down
    "57P04": _UNAVAILABLE,  # database dropped
}
_QUERY_CANCELED = "57014"

# By the beginning of SQLite's error name. The other errors of SQLite are faults of the program.
_SQLITE = {
    "SQLITE_BUSY": _BUSY,
    "SQLITE_LOCKED": _BUSY,
    "SQLITE_READONLY": _UNAVAILABLE,
    "SQLITE_CANTOPEN": _UNAVAILABLE,
    "SQLITE_PERM": _UNAVAILABLE,
    "SQLITE_NOTADB": _UNAVAILABLE,
    "SQLITE_AUTH": _UNAVAILABLE,
    "SQLITE_FULL": _FAILED,
    "SQLITE_IOERR": _FAILED,
    "SQLITE_CORRUPT": _FAILED,
    "SQLITE_NOMEM": _FAILED,
    "SQLITE_PROTOCOL": _BUSY,
}


def outage_of(error: Error) -> Outage | None:
    """Returns which outage the error is, or None if it is a fault of the program or of its data."""
    if is_lock_timeout(error):
        return _BUSY
    if took_too_long(error):
        return _UNAVAILABLE
    code = sqlstate_of(error)
    if code in _CODES:
        return _CODES[code]
    if code[:2] in _CLASSES:
        return _CLASSES[code[:2]]
    name = getattr(error.__cause__, "sqlite_errorname", "")
    if name:
        return next((outage for start, outage in _SQLITE.items() if name.startswith(start)), None)
    # libpq gives no code to a connection that it cannot open, that is lost, or whose server (a pooler whose database
    # restarts) answers out of step. An error without a code of another class is a fault of the program.
    is_of_connection = (
        isinstance(error, OperationalError | InterfaceError | InternalError) or type(error) is DatabaseError
    )
    return _FAILED if is_of_connection else None


def is_lock_timeout(error: Error) -> bool:
    """Returns whether PostgreSQL stopped waiting for a lock, or for several locks that together took too long."""
    if sqlstate_of(error) == _QUERY_CANCELED:
        context = getattr(getattr(error.__cause__, "diag", None), "context", None) or ""
        return "while locking tuple" in context
    return sqlstate_of(error) == "55P03"


def took_too_long(error: Error) -> bool:
    """Returns whether the wait for the database was given up. Then only a COMMIT can have happened meanwhile."""
    return isinstance(error.__cause__, TookTooLong)


def sqlstate_of(error: Error) -> str:
    """Returns PostgreSQL's code for the error, or "" if it has none."""
    return getattr(error.__cause__, "sqlstate", None) or ""


def constraint_of(error: IntegrityError) -> str:
    """Returns the name of the violated constraint, or SQLite's message.

    The error of another node of a cluster has the name in its message alone, with the number of the shard.
    """
    name = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
    in_message = re.search(r'constraint "(\w+?)(_\d+)?"', str(error))
    return name or (in_message[1] if in_message else str(error))


_noted: dict[str, float] = {}


def note_outage(error: Error) -> None:
    """Logs the cause of an outage: each cause at most once a minute in each process, and never a password."""
    kind = sqlstate_of(error) or type(error.__cause__ or error).__name__
    now = time.monotonic()
    if now - _noted.get(kind, -NOTED_EVERY_SECONDS) < NOTED_EVERY_SECONDS:
        return
    _noted[kind] = now
    logger.error("the database failed: %s", cause_of(error), extra={"sqlstate": sqlstate_of(error)})


def cause_of(error: BaseException) -> str:
    """Returns what the database or its driver said, on one line and without passwords and rows.

    PostgreSQL's message is its first line; further ones may contain values of a row. A failed connection has a line for
    each host.
    """
    code = getattr(error.__cause__, "sqlstate", None)
    text = str(error.__cause__ or error).strip()
    text = text.partition("\n")[0] if code else " ".join(text.split())
    for database in settings.DATABASES.values():
        for password in (database.get("PASSWORD"), database.get("OPTIONS", {}).get("password")):
            text = text.replace(password, "***") if password else text
    return f"{code}: {text[:LONGEST_CAUSE]}" if code else text[:LONGEST_CAUSE]
