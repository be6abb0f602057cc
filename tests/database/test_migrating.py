"""Tests `migrate` under load: what waits, what is repeated, what is left to do, and what old code needs."""

import threading
import time
from collections.abc import Callable, Iterator
from io import StringIO
from typing import Any

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection, models, transaction
from django.db.migrations import Migration
from django.db.migrations import operations as ops
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState

from loyalty.management import migrating

APP = "scratch"
CREATE = [
    ops.CreateModel(
        "Thing", [("id", models.BigIntegerField(primary_key=True)), ("name", models.CharField(max_length=9))]
    )
]
CHANGES = [
    ops.AddIndex("thing", models.Index(fields=["name"], name="things_by_name")),
    ops.AddIndex("thing", models.Index(fields=["name"], condition=models.Q(id__gt=1), name="things_of_some")),
    ops.AddConstraint("thing", models.UniqueConstraint(fields=["name", "id"], name="thing_unique")),
    ops.AddConstraint(
        "thing", models.UniqueConstraint(fields=["name"], condition=models.Q(id__gt=1), name="thing_unique_some")
    ),
    ops.AddConstraint("thing", models.CheckConstraint(condition=models.Q(id__gt=0), name="thing_positive")),
    ops.AddField("thing", "count", models.PositiveIntegerField(null=True)),
    ops.AddField("thing", "size", models.PositiveIntegerField(db_default=7)),
]


def apply(number: int, operations: list[Any], state: ProjectState | None = None) -> ProjectState:
    migration = Migration(f"{number:04}_test", APP)
    migration.operations = operations
    executor = migrating.LiveExecutor(connection)
    return executor.apply_migration(state.clone() if state else ProjectState(), migration)


@pytest.fixture
def session(committed: None, on_postgresql: None) -> Iterator[None]:
    """The session of a `migrate`; removes what the tests of this file create."""
    MigrationRecorder(connection).ensure_schema()
    with migrating.live_session(connection):
        yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS scratch_thing, migration_progress")
    MigrationRecorder(connection).migration_qs.filter(app=APP).delete()


@pytest.fixture
def filled(session: None) -> ProjectState:
    """The state with a table that has rows."""
    state = apply(1, CREATE)
    execute("INSERT INTO scratch_thing SELECT n, 'n' || n FROM generate_series(1, 100) n")
    return state


@pytest.fixture
def other(session: None) -> Iterator[psycopg.Connection]:
    """Another session, such as that of a call."""
    with connect() as opened:
        yield opened


def connect(**options: Any) -> psycopg.Connection:
    info = connection.connection.info
    return psycopg.connect(host=info.host, port=info.port, user=info.user, dbname=info.dbname, **options)


def execute(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


def catalogue() -> list[tuple[Any, ...]]:
    """The definitions of the table's columns, indexes and constraints."""
    return [
        *execute(
            "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns"
            " WHERE table_name = 'scratch_thing' ORDER BY column_name"
        ),
        *execute(
            "SELECT indexrelid::regclass::text, indisvalid, pg_get_indexdef(indexrelid) FROM pg_index"
            " WHERE indrelid = 'scratch_thing'::regclass ORDER BY 1"
        ),
        *execute(
            "SELECT conname, convalidated, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE conrelid = 'scratch_thing'::regclass ORDER BY 1"
        ),
    ]


def test_migration_of_texts_alone_changes_the_state_and_not_the_database(filled: ProjectState) -> None:
    text = ops.AlterField("thing", "name", models.CharField(max_length=9, help_text="As printed."))
    with connection.execute_wrapper(recorder := Recorder()):
        state = apply(2, [text, ops.AlterModelOptions("thing", {"verbose_name": "item"})], filled)
    assert [
        sql for sql in recorder.seen if "django_migrations" not in sql and not sql.lstrip().startswith("SELECT")
    ] == []
    field = state.apps.get_model(APP, "thing")._meta.get_field("name")
    assert (field.help_text, field.model._meta.verbose_name) == ("As printed.", "item")


def test_migration_that_also_changes_a_column_reaches_the_database(filled: ProjectState) -> None:
    text = ops.AlterField("thing", "name", models.CharField(max_length=9, help_text="As printed."))
    apply(2, [text, ops.AlterField("thing", "name", models.CharField(max_length=10))], filled)
    lengths = execute(
        "SELECT character_maximum_length FROM information_schema.columns"
        " WHERE table_name = 'scratch_thing' AND column_name = 'name'"
    )
    assert lengths == [(10,)]


def test_filled_table_gets_the_same_schema_as_an_empty_one(filled: ProjectState) -> None:
    with connection.execute_wrapper(recorder := Recorder()):
        apply(2, CHANGES, filled)
    changed = catalogue()
    created = [sql for sql in recorder.seen if sql.startswith("CREATE") and "CONCURRENTLY" not in sql]
    assert [sql.split(" (")[0] for sql in created] == ["CREATE TABLE IF NOT EXISTS migration_progress"]
    assert len([sql for sql in recorder.seen if "VALIDATE" in sql]) == 3
    execute("DROP TABLE scratch_thing, migration_progress")
    apply(3, CHANGES, apply(1, CREATE))
    assert changed == catalogue()
    assert all(row[1] for row in changed)


class Recorder:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def __call__(self, run: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
        self.seen.append(str(sql))
        return run(sql, params, many, context)


def test_lock_that_is_not_free_in_time_is_tried_again(
    filled: ProjectState, other: psycopg.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    other.execute("SELECT 1 FROM scratch_thing")
    release = threading.Timer(0.8, other.rollback)
    release.start()
    apply(2, [CHANGES[6]], filled)
    release.join()
    said = "scratch.0002_test, step 1 (Add field size to thing): other transactions hold a lock; nothing of it was"
    assert said in capsys.readouterr().err


def test_call_waits_at_most_for_the_lock_timeout(filled: ProjectState, other: psycopg.Connection) -> None:
    other.execute("SELECT 1 FROM scratch_thing")
    longest = 0.0
    calling = connect(autocommit=True)

    def ask() -> None:
        nonlocal longest
        with calling:
            until = time.monotonic() + 1
            while time.monotonic() < until:
                started = time.monotonic()
                calling.execute("SELECT 1 FROM scratch_thing WHERE id = 1")
                longest = max(longest, time.monotonic() - started)
        other.rollback()

    caller = threading.Thread(target=ask)
    caller.start()
    apply(2, [CHANGES[6]], filled)
    caller.join()
    assert 0.2 < longest < 0.9


def test_giving_up_names_the_oldest_transaction_and_the_next_migrate_continues(
    filled: ProjectState, other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute("CREATE SEQUENCE IF NOT EXISTS scratch_runs")
    once = ops.RunSQL("SELECT nextval('scratch_runs')")
    other.execute("SELECT 1 FROM scratch_thing")
    monkeypatch.setattr(migrating, "GIVE_UP_AFTER_SECONDS", 0)
    with pytest.raises(CommandError, match=rf"gave up .* step 2 (?s:.*)pid {other.info.backend_pid}, "):
        apply(2, [once, CHANGES[6]], filled)
    other.rollback()
    apply(2, [once, CHANGES[6]], filled)
    assert execute("SELECT last_value FROM scratch_runs") == [(1,)]
    execute("DROP SEQUENCE scratch_runs")
    assert execute("SELECT * FROM migration_progress") == []


def test_deadlock_is_tried_again(filled: ProjectState) -> None:
    failures = iter([migrating.DEADLOCK])

    def change(apps: Any, editor: Any) -> None:
        for code in failures:
            execute(f"DO $$ BEGIN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '{code}'; END $$")

    apply(2, [ops.RunPython(change, ops.RunPython.noop)], filled)
    assert next(failures, None) is None


def test_other_failure_is_not_tried_again_and_changes_nothing_of_its_step(filled: ProjectState) -> None:
    def change(apps: Any, editor: Any) -> None:
        execute("DELETE FROM scratch_thing")
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        apply(2, [CHANGES[6], ops.RunPython(change, ops.RunPython.noop)], filled)
    assert execute("SELECT COUNT(*), MIN(size) FROM scratch_thing") == [(100, 7)]


def test_invalid_index_of_an_interrupted_build_is_replaced(filled: ProjectState) -> None:
    execute("CREATE INDEX things_by_name ON scratch_thing (id)")
    execute("UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = 'things_by_name'::regclass")
    apply(2, [CHANGES[0]], filled)
    rows = execute(
        "SELECT indisvalid, pg_get_indexdef(indexrelid) FROM pg_index WHERE indexrelid = 'things_by_name'::regclass"
    )
    assert rows == [(True, "CREATE INDEX things_by_name ON public.scratch_thing USING btree (name)")]


def test_partitioned_table_gets_its_index(session: None) -> None:
    execute("CREATE TABLE scratch_thing (id bigint, name text) PARTITION BY LIST (id)")
    execute("CREATE TABLE scratch_thing_1 PARTITION OF scratch_thing FOR VALUES IN (1)")
    execute("INSERT INTO scratch_thing VALUES (1, 'n')")
    state = ProjectState()
    CREATE[0].state_forwards(APP, state)
    apply(2, [CHANGES[0]], state)
    assert execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'things_by_name'::regclass") == [(True,)]


def test_interrupted_build_of_an_index_is_finished_by_the_next_migrate(
    filled: ProjectState, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(migrating.LiveExecutor, "_build_index", lambda *words: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            apply(2, [CHANGES[5], CHANGES[2]], filled)
    apply(2, [CHANGES[5], CHANGES[2]], filled)
    assert "thing_unique" in {row[0] for row in catalogue()}


def test_session_has_no_timeout_of_statements_and_gets_its_own_back(session: None) -> None:
    assert execute("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')") == [("0", "500ms")]
    execute("RESET statement_timeout")
    assert execute("SELECT current_setting('statement_timeout')") == [("5s",)]


def test_lock_timeout_is_shorter_than_the_deadlock_timeout(session: None) -> None:
    rows = execute("SELECT current_setting('lock_timeout')::interval < current_setting('deadlock_timeout')::interval")
    assert rows == [(True,)]


def test_second_migrate_waits_for_the_first(
    other: psycopg.Connection, committed: None, capsys: pytest.CaptureFixture[str]
) -> None:
    execute(f"SELECT pg_advisory_unlock({migrating.ADVISORY_LOCK})")
    other.execute("SELECT pg_advisory_lock(%s)", [migrating.ADVISORY_LOCK])
    release = threading.Timer(0.5, other.close)
    release.start()
    call_command("migrate", stdout=StringIO())
    release.join()
    assert "another migrate runs" in capsys.readouterr().err


def test_pooler_is_refused(session: None, settings: Any) -> None:
    settings.DATABASE_POOLER = True
    with pytest.raises(CommandError, match="DATABASE_POOLER=off"):
        call_command("migrate")


def test_pooler_that_no_setting_declares_is_refused(session: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(connection.connection.info), "backend_pid", 1)
    with pytest.raises(CommandError, match="goes through a pooler"):
        call_command("migrate")


def test_conflict_outside_of_a_step_is_a_message(other: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    def handle(*words: Any, **options: Any) -> None:
        with transaction.atomic():
            execute("SET LOCAL lock_timeout = '10ms'")
            execute("LOCK TABLE loyalty_tally")

    other.execute("SELECT 1 FROM loyalty_tally")
    monkeypatch.setattr("django.core.management.commands.migrate.Command.handle", handle)
    with pytest.raises(CommandError, match="run migrate again"):
        call_command("migrate")


# Each is the last migrations of a version that may serve while a later one migrates.
VERSIONS = {
    "0.2.0": [("loyalty", "0013_ledger_import"), ("reversals", "0018_operation")],
    "before 0.2.0": [("loyalty", "0006_change_request"), ("reversals", "0009_channel_names")],
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.django_db
def test_old_code_can_insert_rows_after_the_migration(version: str) -> None:
    state = MigrationLoader(None).project_state(VERSIONS[version])
    missing = []
    for (app, name), model in state.models.items():
        if app not in {"loyalty", "reversals"}:
            continue
        table = f"{app}_{name}"
        old = {field.db_column or (f"{key}_id" if field.remote_field else key) for key, field in model.fields.items()}
        columns = columns_of(table)
        assert old <= set(columns), f"{table}: old code uses {old - set(columns)}"
        missing += [f"{table}.{column}" for column in set(columns) - old if not columns[column]]
    assert missing == []


def columns_of(table: str) -> dict[str, bool]:
    """Returns by column whether an INSERT may leave it out."""
    if connection.vendor == "sqlite":
        rows = execute(f"PRAGMA table_info({table})")
        return {name: not notnull or default is not None for _, name, _, notnull, default, _ in rows}
    sql = "SELECT column_name, is_nullable = 'YES' OR column_default IS NOT NULL FROM information_schema.columns"
    return dict(execute(f"{sql} WHERE table_name = '{table}'"))


@pytest.mark.django_db
def test_bulk_runs_of_old_code_get_different_keys(world: Any) -> None:
    for number in (1, 2):
        execute(
            "INSERT INTO reversals_bulkrun (id, org_id, name, made_by, made_at, confirmed_by)"
            f" VALUES ({number}, {world.org.id}, 'file', 'meera', '2026-01-01 00:00:00', '')"
        )
    [keys] = [{len(key) for (key,) in execute("SELECT DISTINCT key FROM reversals_bulkrun WHERE id IN (1, 2)")}]
    assert keys == {32}
