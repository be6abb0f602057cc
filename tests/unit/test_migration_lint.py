"""Tests the linter of migrations with one unsafe operation of each kind."""

from typing import Any

import pytest
from django.db import models
from django.db.migrations import Migration
from django.db.migrations import operations as ops
from django.db.migrations.state import ProjectState

from tests.migration_lint import check

CREATE = ops.CreateModel(
    "Thing", [("id", models.BigIntegerField(primary_key=True)), ("name", models.CharField(max_length=9))]
)


def found(*operations: Any) -> list[str]:
    """Returns the dangers of the operations on a table that exists."""
    state = ProjectState()
    CREATE.state_forwards("scratch", state)
    migration = Migration("0002_test", "scratch")
    migration.operations = list(operations)
    return check(migration, state).dangers


@pytest.mark.parametrize(
    ("operation", "danger"),
    [
        (ops.AddField("thing", "size", models.IntegerField()), "db_default"),
        (ops.AddField("thing", "size", models.IntegerField(default=7)), "db_default"),
        (ops.AddField("thing", "size", models.IntegerField(null=True, unique=True)), "UniqueConstraint"),
        (ops.AddField("thing", "up", models.ForeignKey("scratch.thing", models.PROTECT, null=True)), "SameOrg"),
        (ops.AlterField("thing", "name", models.CharField(max_length=8)), "max_length changes"),
        (ops.AlterField("thing", "name", models.IntegerField()), "type changes"),
        (ops.RenameField("thing", "name", "title"), "db_column"),
        (ops.RemoveField("thing", "name"), "old code still uses it"),
        (ops.RenameModel("Thing", "Other"), "old code still uses it"),
        (ops.DeleteModel("Thing"), "old code still uses it"),
        (ops.RunSQL("UPDATE scratch_thing SET name = ''", ops.RunSQL.noop), "under_load"),
        (ops.RunPython(lambda apps, editor: None, ops.RunPython.noop), "under_load"),
        (ops.RunSQL("DROP TABLE scratch_thing"), "cannot be reversed"),
        (ops.SeparateDatabaseAndState([ops.RemoveField("thing", "name")]), "under_load"),
        (type("Special", (ops.AddField,), {})("thing", "size", models.IntegerField(null=True)), "under_load"),
    ],
)
def test_unsafe_operation_is_reported(operation: Any, danger: str) -> None:
    assert danger in "\n".join(found(operation))


@pytest.mark.parametrize(
    "operation",
    [
        ops.AddField("thing", "size", models.IntegerField(null=True)),
        ops.AddField("thing", "size", models.IntegerField(db_default=7)),
        ops.AlterField("thing", "name", models.CharField(max_length=10)),
        ops.AlterField("thing", "name", models.CharField(max_length=9, help_text="new")),
        ops.AlterField("thing", "name", models.CharField(max_length=9, null=True)),
        ops.AddIndex("thing", models.Index(fields=["name"], name="by_name")),
        ops.AddConstraint("thing", models.UniqueConstraint(fields=["name"], name="thing_unique")),
    ],
)
def test_safe_operation_is_not_reported(operation: Any) -> None:
    assert found(operation) == []


def test_operations_on_a_new_table_are_safe() -> None:
    new = ops.CreateModel("New", [("id", models.BigIntegerField(primary_key=True))])
    assert found(new, ops.AddField("new", "size", models.IntegerField())) == []


def test_locked_tables_are_named_unless_the_database_does_not_change() -> None:
    state = ProjectState()
    CREATE.state_forwards("scratch", state)
    migration = Migration("0002_test", "scratch")
    migration.operations = [ops.AlterField("thing", "name", models.CharField(max_length=9, help_text="new"))]
    assert check(migration, state).tables == []
    migration.operations = [ops.AlterField("thing", "name", models.CharField(max_length=10))]
    assert check(migration, state).tables == ["scratch_thing"]
