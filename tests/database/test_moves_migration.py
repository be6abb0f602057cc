"""Tests the migration that ends moves of orgs: an org that has moved away stays closed, over every entry point."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from django.apps import apps as current
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.migrations.loader import MigrationLoader

from loyalty.models import Org, StaffChange, Webhook
from tests.builders import World, make_webhook, make_world, operator_of, redeemed

pytestmark = pytest.mark.django_db

migration = import_module("loyalty.migrations.0034_no_moves")
OFF = {"is_active": False, "v2_enabled": False}
ON = {"is_active": True, "v2_enabled": True}
CHANGES = {"INSERT": "NEW", "UPDATE": "OLD", "DELETE": "OLD"}


@pytest.fixture(scope="module")
def before() -> Any:
    """The models before the migration."""
    nodes = [("loyalty", "0033_reasons_of_corrections"), ("reversals", "0034_export_format")]
    return MigrationLoader(None).project_state(nodes).apps


def execute(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall() if cursor.description else []


def make_move(before: Any, world: World, step: str) -> None:
    fields = {"host": "two.example", "made_by": "ravi", "made_at": "2026-01-02T00:00:00Z"}
    before.get_model("loyalty", "OrgMove").objects.create(org_id=world.org.id, step=step, **fields)


def guard_tables(org_id: int) -> None:
    """Creates the triggers with which earlier versions closed an org."""
    if connection.vendor == "postgresql":
        execute("SET CONSTRAINTS ALL IMMEDIATE")
        execute(
            "CREATE FUNCTION refuse_closed_org() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'closed_org' USING ERRCODE = '55C01'; END $$"
        )
    for model in current.get_models():
        columns = {field.column for field in model._meta.concrete_fields}
        column = "id" if model is Org else "org_id" if "org_id" in columns else ""
        for change, row in CHANGES.items() if column else ():
            name, table = f"closed_org_{change.lower()}", model._meta.db_table
            condition = f"BEFORE {change} ON {table} FOR EACH ROW WHEN ({row}.{column} IN ({org_id}))"
            if connection.vendor == "postgresql":
                execute(f"CREATE TRIGGER {name} {condition} EXECUTE FUNCTION refuse_closed_org()")
            else:
                execute(f"CREATE TRIGGER {name}_{table} {condition} BEGIN SELECT RAISE(ABORT, 'closed_org'); END")


def guards() -> list[str]:
    """The tables of the triggers that are left."""
    if connection.vendor == "postgresql":
        rows = execute("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE 'closed_org%'")
    else:
        rows = execute("SELECT tbl_name FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'closed_org%'")
    return [table for (table,) in rows]


def migrate(before: Any) -> None:
    migration.end_moves(before, SimpleNamespace(connection=connection))


@contextmanager
def apart() -> Iterator[None]:
    """Rolls back what the block wrote, because PostgreSQL accepts nothing more in a transaction with an error."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def switches(world: World) -> dict[str, bool]:
    return Org.objects.filter(id=world.org.id).values("is_active", "v2_enabled").get()


def test_org_that_moved_away_accepts_no_movement(before: Any, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    redemption, user = redeemed(world), operator_of(world)
    make_webhook(world.org)
    make_move(before, world, "CLOSED")
    guard_tables(world.org.id)
    migrate(before)
    said = f"org {world.org.id} was closed by ravi to move to two.example: it stays closed here, and is now inactive"
    assert said in capsys.readouterr().out
    assert (guards(), switches(world)) == (["reversals_attempt"], OFF)
    assert not Webhook.objects.filter(org=world.org, is_active=True).exists()
    written = world.written()
    assert world.reverse(redemption).status_code == 401
    manually = (str(world.org.id), redemption.public_id, "--reason", "why", "--by", user.username)
    with pytest.raises(CommandError), apart():
        call_command("reverse_points", *manually, stdout=StringIO())
    Org.objects.filter(id=world.org.id).update(**ON)  # by mistake
    with apart():
        answers = [world.reverse(redemption, key="key")]
    with apart():
        answers.append(world.redeem(world.asha, 1))
    codes = [answer.json()["errors"][0]["code"] for answer in answers]
    assert codes == ([898, 898] if connection.vendor == "postgresql" else [804, 817])
    assert world.written() == written


def test_end_of_a_move_is_recorded_once(before: Any, world: World) -> None:
    make_move(before, world, "CLOSED")
    guard_tables(world.org.id)
    for _ in range(2):  # the first run was interrupted before it was stored as done
        migrate(before)
    [change] = StaffChange.objects.filter(org=world.org, subject="loyalty.org")
    assert (change.subject_id, change.before, change.after) == (str(world.org.id), ON, OFF)
    assert (change.made_by, change.action) == ("migrate", "changed")


def test_org_that_was_reopened_or_arrived_is_served(
    before: Any, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    arrived = make_world()
    make_move(before, world, "CLOSED")
    make_move(before, world, "REOPENED")
    make_move(before, arrived, "ARRIVED")
    guard_tables(world.org.id)  # the command that reopened it was interrupted
    migrate(before)
    assert (guards(), switches(world), capsys.readouterr().out) == ([], ON, "")
    assert {each.reverse(redeemed(each)).status_code for each in (world, arrived)} == {200}
    if connection.vendor == "postgresql":
        assert execute("SELECT to_regproc('refuse_closed_org')::text") == [(None,)]
