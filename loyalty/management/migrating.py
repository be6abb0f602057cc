"""Applies migrations to PostgreSQL while the old version serves.

Each operation of a migration has a transaction of its own, so it locks one table that calls use. It waits for the
lock for less time than PostgreSQL takes to look for deadlocks. If it does not get the lock, it is rolled back, calls go
on, and it is tried again. Whatever reads a whole table runs after that transaction, with a lock that lets calls go on:
indexes are built CONCURRENTLY, and constraints are added NOT VALID and then validated.

Which operations are done is stored with each operation, so a migration that was interrupted continues where it stopped.
"""

import json
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import Any, NamedTuple, TypeVar

from django.core.management.base import CommandError
from django.db import OperationalError, transaction
from django.db.backends.postgresql.schema import DatabaseSchemaEditor
from django.db.migrations import AlterField, AlterModelOptions, Migration, RunPython
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState
from django.db.models import Field

from loyalty.ledger.distribution import is_distributed

Result = TypeVar("Result")

# Shorter than PostgreSQL's deadlock_timeout of 1 s: in a deadlock with calls the migration gives way and not a call.
# It is also the longest time for which one try can make calls wait.
LOCK_TIMEOUT = "500ms"
SESSION = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0", "lock_timeout": LOCK_TIMEOUT}
# Citus calls triggers unsafe because they could write rows of other shards; those of the project write nothing.
SESSION_ON_CLUSTER = {"citus.enable_unsafe_triggers": "on", "citus.multi_shard_modify_mode": "sequential"}
GIVE_UP_AFTER_SECONDS = 600
# A try that lasted longer did not fail at its first lock: it changed rows in batches, which stay.
PROGRESS_SECONDS = 5
LOCK_NOT_AVAILABLE, DEADLOCK = "55P03", "40P01"
# Any number that no other program uses for an advisory lock of this database.
ADVISORY_LOCK = 5_702_887

INDEX = re.compile(r'CREATE (?P<unique>UNIQUE )?INDEX (?P<name>"\w+") ON (?P<table>"\w+")(?P<rest>.*)', re.DOTALL)
UNIQUE = re.compile(
    r'ALTER TABLE (?P<table>"\w+") ADD CONSTRAINT (?P<name>"\w+") UNIQUE (?P<columns>\([^()]*\))', re.DOTALL
)
VALIDATED = re.compile(r'ALTER TABLE (?P<table>"\w+") ADD CONSTRAINT (?P<name>"\w+") (CHECK|FOREIGN KEY) .*', re.DOTALL)
COLUMN_WITH_CHECK = re.compile(
    r'(?P<column>ALTER TABLE (?P<table>"\w+") ADD COLUMN "(?P<name>\w+)" .*) CHECK (?P<check>\(.*\))', re.DOTALL
)


class LiveSchemaEditor(DatabaseSchemaEditor):
    """Executes what is quick, and collects in `pending` what reads a whole table, for later and with weaker locks."""

    def __init__(self, connection: Any, atomic: bool = True) -> None:
        super().__init__(connection, atomic=atomic)
        self.pending: list[str] = []

    def execute(self, sql: Any, params: Any = ()) -> Any:
        text = str(sql) if params is None else self.connection.ops.compose_sql(str(sql), params)
        for pattern, rewrite in REWRITES:
            match = pattern.fullmatch(text)
            if match and self._has_rows(match["table"]):
                now, later = rewrite(match)
                self.pending += later
                for sql in now:
                    super().execute(sql, None)
                return None
        return super().execute(text, None)

    def _has_rows(self, table: str) -> bool:
        """Returns whether the table has rows. A partitioned table counts as empty: it has no index CONCURRENTLY."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT relkind = 'r' FROM pg_class WHERE oid = to_regclass(%s)", [table])
            row = cursor.fetchone()
            if row is None or not row[0]:
                return False
            cursor.execute(f"SELECT EXISTS (SELECT 1 FROM {table})")
            return bool(cursor.fetchone()[0])


# Each rewrite returns the statements for now and those for later.
Rewritten = tuple[list[str], list[str]]


def _index(match: re.Match[str]) -> Rewritten:
    unique = match["unique"] or ""
    return [], [f"CREATE {unique}INDEX CONCURRENTLY {match['name']} ON {match['table']}{match['rest']}"]


def _unique(match: re.Match[str]) -> Rewritten:
    table, name = match["table"], match["name"]
    return [], [
        f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} {match['columns']}",
        f"ALTER TABLE {table} ADD CONSTRAINT {name} UNIQUE USING INDEX {name}",
    ]


def _validated(match: re.Match[str]) -> Rewritten:
    return [f"{match[0]} NOT VALID"], [f"ALTER TABLE {match['table']} VALIDATE CONSTRAINT {match['name']}"]


def _column_with_check(match: re.Match[str]) -> Rewritten:
    table = match["table"]
    name = f'"{table.strip(chr(34))}_{match["name"]}_check"'  # as PostgreSQL names it
    return (
        [match["column"], f"ALTER TABLE {table} ADD CONSTRAINT {name} CHECK {match['check']} NOT VALID"],
        [f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}"],
    )


REWRITES: list[tuple[re.Pattern[str], Callable[[re.Match[str]], Rewritten]]] = [
    (INDEX, _index),
    (UNIQUE, _unique),
    (VALIDATED, _validated),
    (COLUMN_WITH_CHECK, _column_with_check),
]
CONCURRENTLY = re.compile(r'CREATE (UNIQUE )?INDEX CONCURRENTLY (?P<name>"\w+") .*', re.DOTALL)


class Step(NamedTuple):
    """One operation of a migration."""

    app: str
    migration: str
    number: int
    operation: str

    def __str__(self) -> str:
        return f"{self.app}.{self.migration}, step {self.number} ({self.operation})"


class Progress:
    """The steps of unfinished migrations, in a table that exists while there are any."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def prepare(self) -> None:
        self._execute(
            "CREATE TABLE IF NOT EXISTS migration_progress (app text, migration text, step integer,"
            " pending text NOT NULL, PRIMARY KEY (app, migration, step))"
        )

    def pending(self, step: Step) -> list[str] | None:
        """Returns the statements that the step still needs, or None if it was not begun."""
        found = self._execute(
            "SELECT pending FROM migration_progress WHERE app = %s AND migration = %s AND step = %s", step[:3]
        )
        return None if found is None else json.loads(found[0])

    def store(self, step: Step, pending: list[str]) -> None:
        self._execute(
            "INSERT INTO migration_progress (app, migration, step, pending) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (app, migration, step) DO UPDATE SET pending = excluded.pending",
            [*step[:3], json.dumps(pending)],
        )

    def forget(self, migration: Migration) -> None:
        self._execute(
            "DELETE FROM migration_progress WHERE app = %s AND migration = %s", [migration.app_label, migration.name]
        )

    def remove_if_empty(self) -> None:
        if self._execute("SELECT to_regclass('migration_progress')") == (None,):
            return
        if self._execute("SELECT 1 FROM migration_progress LIMIT 1") is None:
            self._execute("DROP TABLE migration_progress")

    def _execute(self, sql: str, params: Any = None) -> tuple[Any, ...] | None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchone() if cursor.description else None


class LiveExecutor(MigrationExecutor):
    """Applies migrations operation by operation on PostgreSQL, and as Django does on SQLite."""

    def apply_migration(
        self, state: ProjectState, migration: Migration, fake: bool = False, fake_initial: bool = False
    ) -> ProjectState:
        if not fake and _changes_only_texts(migration, state):
            return self._apply_texts(state, migration)
        if fake or fake_initial or self.connection.vendor != "postgresql":
            return super().apply_migration(state, migration, fake=fake, fake_initial=fake_initial)
        if self.progress_callback:
            self.progress_callback("apply_start", migration, fake)
        progress = Progress(self.connection)
        progress.prepare()
        for number, operation in enumerate(migration.operations, start=1):
            before = state.clone()
            operation.state_forwards(migration.app_label, state)
            step = Step(migration.app_label, migration.name, number, operation.describe())
            self._take(step, migration, operation, before, state)
        with transaction.atomic(self.connection.alias):
            self.record_migration(migration)  # type: ignore[call-arg, arg-type]
            progress.forget(migration)
        if self.progress_callback:
            self.progress_callback("apply_success", migration, fake)
        return state

    def _apply_texts(self, state: ProjectState, migration: Migration) -> ProjectState:
        """Records the migration. Django would render all related models again for each of a hundred help texts."""
        if self.progress_callback:
            self.progress_callback("apply_start", migration, False)
        state.__dict__.pop("apps", None)
        for operation in migration.operations:
            operation.state_forwards(migration.app_label, state)
        self.record_migration(migration)  # type: ignore[call-arg, arg-type]
        if self.progress_callback:
            self.progress_callback("apply_success", migration, False)
        return state

    def _take(
        self, step: Step, migration: Migration, operation: Operation, before: ProjectState, after: ProjectState
    ) -> None:
        """Runs the step, or what is left of it, and stores that it is done."""
        progress = Progress(self.connection)

        def run() -> list[str]:
            editor = LiveSchemaEditor(self.connection, atomic=False)
            # The whole step and its record commit together, except for operations that commit by themselves.
            with transaction.atomic(self.connection.alias) if _is_atomic(migration, operation) else _nothing():
                with editor:
                    operation.database_forwards(migration.app_label, editor, before, after)
                progress.store(step, editor.pending)
            return editor.pending

        pending = progress.pending(step)
        if pending is None:
            pending = self._repeated(step, run)
        while pending:
            sql, pending = pending[0], pending[1:]
            self._repeated(step, partial(self._run_pending, step, sql, pending))

    def _run_pending(self, step: Step, sql: str, rest: list[str]) -> None:
        match = CONCURRENTLY.fullmatch(sql)
        if match:
            self._build_index(match["name"], sql)
            Progress(self.connection).store(step, rest)
            return
        with transaction.atomic(self.connection.alias), self.connection.cursor() as cursor:
            cursor.execute(sql)
            Progress(self.connection).store(step, rest)

    def _build_index(self, name: str, sql: str) -> None:
        """Builds the index. Drops an invalid one of that name first, which an interrupted build leaves.

        Waits without a limit for older transactions to end, because calls do not wait meanwhile.
        """
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [name])
            found = cursor.fetchone()
            if found == (True,):
                return
            cursor.execute("SET lock_timeout = 0")
            try:
                if found is not None:
                    cursor.execute(f"DROP INDEX CONCURRENTLY {name}")
                cursor.execute(sql)
            finally:
                cursor.execute(f"SET lock_timeout = '{LOCK_TIMEOUT}'")

    def _repeated(self, step: Step, action: Callable[[], Result]) -> Result:
        """Returns the result of the action, which is repeated after a lock time-out or a deadlock."""
        waiting_since = time.monotonic()
        for tries in count(1):
            started = time.monotonic()
            try:
                return action()
            except OperationalError as error:
                if not is_conflict(error):
                    raise
                if time.monotonic() - started > PROGRESS_SECONDS:
                    waiting_since = time.monotonic()
                if time.monotonic() - waiting_since > GIVE_UP_AFTER_SECONDS:
                    raise CommandError(_given_up(step, self.connection)) from error
                if tries & (tries - 1) == 0:  # 1, 2, 4, 8 and so on
                    say(f"{step}: other transactions hold a lock; nothing of it was changed; try {tries + 1} follows")
            time.sleep(random.uniform(0.2, 1.0))  # noqa: S311 jitter
        raise AssertionError


def say(line: str) -> None:
    """Prints a line for the operator."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def _changes_only_texts(migration: Migration, state: ProjectState) -> bool:
    """Returns whether all operations change only what Python sees, such as help texts."""
    return all(
        isinstance(each, AlterModelOptions)
        or (
            isinstance(each, AlterField)
            and _in_database(each.field)
            == _in_database(state.models[migration.app_label, each.model_name_lower].fields[each.name])
        )
        for each in migration.operations
    )


def _in_database(field: Field[Any, Any]) -> tuple[Any, ...]:
    """Returns what of a field is in the database."""
    _, path, arguments, options = field.deconstruct()
    seen_by_python = set(field.non_db_attrs) - {"db_column"}
    return path, arguments, {name: value for name, value in options.items() if name not in seen_by_python}


def _is_atomic(migration: Migration, operation: Operation) -> bool:
    if isinstance(operation, RunPython):
        return operation.atomic is not False and (migration.atomic or bool(operation.atomic))
    return migration.atomic


def is_conflict(error: BaseException) -> bool:
    """Returns whether the statement can succeed if it is repeated: a lock time-out or a deadlock."""
    return getattr(error.__cause__, "sqlstate", None) in {LOCK_NOT_AVAILABLE, DEADLOCK}


def _given_up(step: Step, connection: Any) -> str:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid, usename, application_name, date_trunc('second', now() - xact_start), left(query, 80)"
            " FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 3"
        )
        oldest = [
            f"  pid {pid}, {user}, {name}, for {age}: {query}" for pid, user, name, age, query in cursor.fetchall()
        ]
    return "\n".join(
        [
            f"gave up after {GIVE_UP_AFTER_SECONDS} s: {step} did not get its lock, and changed nothing.",
            "Everything before it is done and stays; the old version can go on serving. Let the oldest transactions"
            " end, or end them with SELECT pg_terminate_backend(pid), and run migrate again (docs/upgrade.md).",
            "The oldest transactions:",
            *(oldest or ["  (none now)"]),
        ]
    )


def refuse_pooler(connection: Any, *, is_declared: bool) -> None:
    """Raises CommandError if the connection goes through a pooler, which would lose the session's settings and lock."""
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        # A pooler tells its client a number of its own.
        is_pooled = cursor.fetchone()[0] != connection.connection.info.backend_pid
    if is_declared or is_pooled:
        raise CommandError(
            "migrate needs a connection of its own to PostgreSQL, and this one goes through a pooler. Run it with the"
            " direct address: DATABASE_URL=postgres://USER:PASSWORD@HOST:5432/NAME DATABASE_POOLER=off"
            " python manage.py migrate"
        )


@contextmanager
def live_session(connection: Any) -> Iterator[None]:
    """Gives the session the timeouts of a migration, and lets no second `migrate` run meanwhile."""
    settings = SESSION | (SESSION_ON_CLUSTER if is_distributed() else {})
    with connection.cursor() as cursor:
        for name, value in settings.items():
            cursor.execute(f"SET {name} = '{value}'")
        # Polls, because a session that waits for the lock would have a snapshot, for which CREATE INDEX CONCURRENTLY
        # waits in turn.
        for tries in count():
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [ADVISORY_LOCK])
            if cursor.fetchone()[0]:
                break
            if tries == 0:
                say("another migrate runs on this database; waiting until it ends")
            time.sleep(1)
    try:
        yield
    finally:
        if connection.is_usable():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])
                for name in settings:
                    cursor.execute(f"RESET {name}")
