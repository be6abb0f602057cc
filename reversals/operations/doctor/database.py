"""Checks the database: version, role, timeouts, pooler, migrations and clock."""

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from django.conf import settings
from django.db import connection, connections, transaction
from django.db.migrations.executor import MigrationExecutor
from psycopg import Connection

from loyalty.outages import cause_of
from reversals.operations.doctor.findings import Finding, fine, warning, wrong

OLDEST, NEWEST = 15, 18
TIMEOUTS = {
    "lock_timeout": "2s",
    "statement_timeout": "5s",
    "idle_in_transaction_session_timeout": "10s",
    "default_transaction_isolation": "read committed",
}
CLOCK_SECONDS = 1.0

# What a message of libpq, PostgreSQL or PgBouncer means for the set-up, in the order in which they are looked for.
_CURES = {
    "unsupported startup parameter": "DATABASE_URL points to PgBouncer. Set DATABASE_POOLER=on.",
    "password authentication failed": "Correct the user and the password in DATABASE_URL.",
    "SASL authentication failed": "Correct the user and the password in DATABASE_URL, or in PgBouncer's auth_file.",
    "no pg_hba.conf entry": "Allow this machine and user in PostgreSQL's pg_hba.conf.",
    "does not exist": "Correct the names in DATABASE_URL, or run deploy/role.sql.",
    "no such database": "Correct the name in DATABASE_URL, or PgBouncer's [databases].",
    "no such user": "Correct the user in DATABASE_URL, or PgBouncer's auth_file.",
    "too many": "Find out which sessions use up the connections, see the runbook under Database down.",
    "could not translate host name": "Correct the host in DATABASE_URL, or the name service.",
    "failed to resolve host": "Correct the host in DATABASE_URL, or the name service.",
    "Connection refused": "Start PostgreSQL, or correct host and port in DATABASE_URL.",
    "timeout expired": "Check the network between this machine and the database; behind PgBouncer, read its log.",
    "certificate": "Check sslmode and sslrootcert in DATABASE_URL.",
}


def reachable() -> Iterator[Finding]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except Exception as error:
        cause = cause_of(error)
        cure = next((do for text, do in _CURES.items() if text in cause), "See the runbook under Database down.")
        yield wrong("database", cause, expected="an answer", do=cure)
        return
    yield fine("database", "answers")


def version() -> Iterator[Finding]:
    if connection.vendor == "sqlite":
        yield fine("version", f"SQLite {one('SELECT sqlite_version()')}: for trying, or one small shop on one machine")
        return
    number = int(one("SELECT current_setting('server_version_num')"))
    text = f"PostgreSQL {one('SHOW server_version')}"
    if OLDEST <= number // 10_000 <= NEWEST:
        yield fine("version", text)
        return
    report = wrong if number // 10_000 < OLDEST else warning
    yield report(
        "version", text, expected=f"PostgreSQL {OLDEST} to {NEWEST}", do="Use a version with which this one was tested."
    )


def role() -> Iterator[Finding]:
    """Checks that the role cannot get round the triggers which protect reversals and seals."""
    if connection.vendor == "sqlite":
        return
    name, is_superuser, can_replicate = row(
        "SELECT current_user, rolsuper, has_parameter_privilege(current_user, 'session_replication_role', 'SET')"
        " FROM pg_roles WHERE rolname = current_user"
    )
    disabled = one(
        "SELECT string_agg(tgrelid::regclass || '.' || tgname, ', ') FROM pg_trigger"
        " JOIN pg_class ON pg_class.oid = tgrelid WHERE NOT tgisinternal AND tgenabled = 'D'"
        " AND relnamespace = current_schema()::regnamespace"
    )
    if is_superuser or can_replicate:
        what = "is a superuser" if is_superuser else "may set session_replication_role"
        yield wrong(
            "role",
            f"{name} {what}, so it can change reversals past the triggers",
            expected="a role that owns its database and nothing else",
            do="Create the role with deploy/role.sql, and use it in DATABASE_URL.",
        )
    elif disabled:
        yield wrong(
            "role",
            f"these triggers are disabled: {disabled}",
            expected="every trigger enabled",
            do="Find out who disabled them, run verify_ledger --anchor, then ALTER TABLE ... ENABLE TRIGGER.",
        )
    else:
        yield fine("role", f"{name} is no superuser, and all triggers are enabled")


def timeouts() -> Iterator[Finding]:
    if connection.vendor == "sqlite":
        return
    names = list(TIMEOUTS)
    found = dict(zip(names, row(f"SELECT {', '.join(['current_setting(%s)'] * len(names))}", names), strict=True))
    off = [f"{name} is {value}" for name, value in found.items() if value != TIMEOUTS[name]]
    if not off:
        yield fine("timeouts", ", ".join(f"{name} {value}" for name, value in found.items()))
        return
    yield wrong(
        "timeouts",
        "; ".join(off),
        expected=", ".join(f"{name} {value}" for name, value in TIMEOUTS.items()),
        do="Run the ALTER ROLE lines of deploy/role.sql for the role in DATABASE_URL, then restart the pooler.",
    )


def pooler() -> Iterator[Finding]:
    """Compares DATABASE_POOLER with what is in front of the database."""
    if connection.vendor == "sqlite":
        return
    kind = _pooler_in_front()
    if kind == "transaction" and not settings.DATABASE_POOLER:
        yield wrong(
            "pooler",
            "DATABASE_URL points to a pooler that gives each transaction another session, and DATABASE_POOLER is off",
            expected="DATABASE_POOLER=on",
            do="Set DATABASE_POOLER=on, and set the timeouts on the role with deploy/role.sql.",
        )
    elif not kind and settings.DATABASE_POOLER:
        yield warning(
            "pooler",
            "DATABASE_POOLER is on, and DATABASE_URL points to PostgreSQL itself",
            expected="DATABASE_POOLER=off",
            do="Set DATABASE_POOLER=off, so that statements are prepared and timeouts are set on each connection.",
        )
    else:
        yield fine("pooler", f"a pooler in {kind} mode" if kind else "no pooler")


def _pooler_in_front() -> str:
    """Returns "transaction", "session" or "" for none.

    A pooler tells its clients a process id of its own. In transaction mode, another client gets the session while this
    one is still connected.
    """
    one, other = connection.copy(), connection.copy()
    try:
        one.ensure_connection()
        session: Connection[Any] = one.connection
        process_id = _pid(one)
        if session.info.backend_pid == process_id:
            return ""
        with transaction_of(other) as taken:
            is_shared = taken == process_id or _pid(one) != process_id
        return "transaction" if is_shared else "session"
    finally:
        one.close()
        other.close()


class transaction_of:  # noqa: N801
    """Opens a transaction on the connection for the block, and returns the process id of its session."""

    def __init__(self, wrapper: Any) -> None:
        self._wrapper = wrapper

    def __enter__(self) -> int:
        self._wrapper.set_autocommit(False)
        return _pid(self._wrapper)

    def __exit__(self, *_: object) -> None:
        self._wrapper.rollback()


def _pid(wrapper: Any) -> int:
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    known = executor.loader.disk_migrations or {}
    ours = {app for app, _ in known}
    newer = [key for key in executor.loader.applied_migrations if key[0] in ours and key not in known]
    newer = [key for key in newer if not any(key in each.replaces for each in known.values())]
    if missing:
        yield wrong(
            "migrations",
            f"{len(missing)} not applied, the first is {missing[0][0]}",
            expected="all applied",
            do="Run manage.py migrate on a direct connection to the database.",
        )
    elif newer:
        yield warning(
            "migrations",
            f"{len(newer)} of a newer version are applied, such as {newer[0][0]}.{newer[0][1]}",
            expected="only those of this version",
            do="Restart this server with the newer version.",
        )
    else:
        yield fine("migrations", "all applied")


def clock() -> Iterator[Finding]:
    """Compares this machine's clock with the database's, to within half of the time that the query takes."""
    if connection.vendor == "sqlite":
        return
    before = datetime.now(timezone.utc)  # noqa: UP017
    [moment] = row("SELECT clock_timestamp()")
    after = datetime.now(timezone.utc)  # noqa: UP017
    off = (before + (after - before) / 2 - moment).total_seconds()
    found = f"this machine is {abs(off):.1f} s {'ahead of' if off > 0 else 'behind'} the database"
    if abs(off) <= CLOCK_SECONDS + (after - before).total_seconds() / 2:
        yield fine("clock", found, value=off)
        return
    yield wrong(
        "clock",
        found,
        expected=f"less than {CLOCK_SECONDS:.0f} s",
        do="Let both machines take their time from a time server: check chrony or systemd-timesyncd.",
        value=off,
    )


def one(sql: str) -> Any:
    return row(sql)[0]


def row(sql: str, params: Any = None, *, alias: str = "default") -> tuple[Any, ...]:
    with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
        cursor.execute(sql, params)
        return tuple(cursor.fetchone())
