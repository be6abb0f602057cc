"""`distribute_ledger` without a cluster; tests/cluster.py runs it on one."""

import io
from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, models
from django.db.migrations import Migration
from django.db.migrations import operations as ops
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from loyalty.constraints import AppendOnly, SameOrg
from loyalty.management import migrating
from loyalty.management.distributing import kind_of
from tests.builders import make_world

# The table of an org, and what later versions do to it.
TABLE = ops.CreateModel(
    "Thing",
    [
        ("id", models.BigIntegerField()),
        ("org", models.ForeignKey("loyalty.Org", models.PROTECT, db_constraint=False, db_index=False)),
        ("customer", models.ForeignKey("loyalty.Customer", models.PROTECT, db_constraint=False, db_index=False)),
        ("pk", models.CompositePrimaryKey("org_id", "id")),
        ("name", models.CharField(max_length=9)),
    ],
)
LATER = [
    ops.AddIndex("thing", models.Index(fields=["org", "name"], name="things_by_name")),
    ops.AddConstraint("thing", models.UniqueConstraint(fields=["org", "name", "id"], name="thing_unique")),
    ops.AddConstraint("thing", models.CheckConstraint(condition=models.Q(id__gt=0), name="thing_positive")),
    ops.AddField("thing", "count", models.PositiveIntegerField(null=True)),
    ops.AddField("thing", "size", models.PositiveIntegerField(db_default=7)),
    ops.AddConstraint("thing", SameOrg(field="customer", name="thing_customer_of_org")),
    ops.AddConstraint("thing", AppendOnly(name="thing_append_only")),
]


@pytest.mark.django_db
def test_database_without_citus_is_refused_with_what_to_do(not_on_cluster: None) -> None:
    expected = "SQLite" if connection.vendor == "sqlite" else "CREATE EXTENSION citus"
    with pytest.raises(CommandError, match=expected):
        call_command("distribute_ledger", "--plan", "--json", stdout=io.StringIO())


@pytest.mark.django_db
def test_tables_of_orgs_are_distributed_and_those_of_staff_are_local() -> None:
    kinds = {model._meta.label: kind_of(model) for model in apps.get_models()}
    assert {label for label, kind in kinds.items() if kind == ""} == {
        *("loyalty.Org", "loyalty.Program", "loyalty.ApiClient", "loyalty.ApiSecret", "loyalty.EmfSetting"),
        *("loyalty.Webhook", "loyalty.ReasonCode", "loyalty.Maintenance"),
    }
    local = {label for label, kind in kinds.items() if kind is None and label.startswith(("loyalty.", "reversals."))}
    assert local == {
        *("loyalty.OrgAccess", "loyalty.ChosenOrg", "loyalty.SavedView", "loyalty.StaffChange"),
        *("reversals.LedgerCheck", "reversals.Export", "reversals.ExportPart", "reversals.Seal", "reversals.Backup"),
        *("reversals.WorkerProcess", "reversals.CheckResult"),
    }
    assert kinds["loyalty.Tally"] == "key"
    assert all(kinds[label] == "org_id" for label in ("loyalty.Lot", "reversals.Attempt", "reversals.SealedRow"))


@pytest.fixture
def session(committed: None, on_cluster: None) -> Iterator[None]:
    """The session of a `migrate`; removes what it creates."""
    with migrating.live_session(connection):
        yield
    execute("DROP TABLE IF EXISTS scratch_thing, migration_progress")
    execute("DROP FUNCTION IF EXISTS refuse_thing_append_only() CASCADE")
    MigrationRecorder(connection).migration_qs.filter(app="scratch").delete()


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def test_later_migrations_change_a_distributed_table_on_every_node(session: None) -> None:
    state = MigrationLoader(connection).project_state()
    state = migrating.LiveExecutor(connection).apply_migration(state, migration("0001", [TABLE]))
    execute("SELECT create_distributed_table('scratch_thing', 'org_id', colocate_with => 'loyalty_customer')")
    first, second = make_world(), make_world()
    for world in (first, second):
        row = f"(1, 'one', {world.asha.id}, {world.org.id})"
        execute(f"INSERT INTO scratch_thing (id, name, customer_id, org_id) VALUES {row}")
    migrating.LiveExecutor(connection).apply_migration(state, migration("0002", LATER))
    for name, broken in {
        "thing_customer_of_org": f"(2, 'two', {first.asha.id}, {second.org.id}, 1)",
        "thing_positive": f"(-2, 'two', {first.asha.id}, {first.org.id}, 1)",
        "scratch_thing_count_check": f"(2, 'two', {first.asha.id}, {first.org.id}, -1)",
    }.items():
        with pytest.raises(IntegrityError, match=name):
            execute(f"INSERT INTO scratch_thing (id, name, customer_id, org_id, count) VALUES {broken}")
    with pytest.raises(IntegrityError, match="thing_append_only"):
        execute("DELETE FROM scratch_thing")


def migration(name: str, operations: list[Any]) -> Migration:
    made = Migration(name, "scratch")
    made.operations = operations
    return made
