"""Ends moves of orgs to another database. An org that has moved away stays closed here.

A closed org had triggers that refuse every write. All are dropped but one, which refuses the org's attempts. Each
movement commits with an attempt, so none is accepted over any entry point, by this version or an older one: otherwise
both databases would spend the same points. The org and its webhooks become inactive. Prints each closed org.

The table of moves stays in the database, because older code that still serves reads it.
"""

from typing import Any

from django.db import migrations, transaction
from django.utils import timezone

KEPT = ("closed_org_insert", "reversals_attempt")
# The code of a missing privilege, which callers get as 898: nothing can be written.
REFUSE = (
    "CREATE OR REPLACE FUNCTION refuse_closed_org() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN RAISE EXCEPTION 'the org has moved to another database' USING ERRCODE = '42501'; END $$"
)
ON_POSTGRESQL = (
    "CREATE OR REPLACE TRIGGER closed_org_insert BEFORE INSERT ON reversals_attempt FOR EACH ROW"
    " WHEN (NEW.org_id IN ({closed})) EXECUTE FUNCTION refuse_closed_org()"
)
ON_SQLITE = (
    "CREATE TRIGGER closed_org_insert_reversals_attempt BEFORE INSERT ON reversals_attempt FOR EACH ROW"
    " WHEN NEW.org_id IN ({closed}) BEGIN SELECT RAISE(ABORT, 'the org has moved to another database'); END"
)


def end_moves(apps: Any, schema_editor: Any) -> None:
    connection = schema_editor.connection
    moves = apps.get_model("loyalty", "OrgMove").objects.using(connection.alias).order_by("made_at", "id")
    last = {move.org_id: move for move in moves}
    closed = {org_id: move for org_id, move in sorted(last.items()) if move.step == "CLOSED"}
    guard_attempts = _on_postgresql if connection.vendor == "postgresql" else _on_sqlite
    with connection.cursor() as cursor:
        guard_attempts(cursor, ", ".join(map(str, closed)))
    for org_id, move in closed.items():
        _switch_off(apps, connection.alias, org_id)
        print(
            f"org {org_id} was closed by {move.made_by} to move to {move.host}: it stays closed here, and is now"
            " inactive; see docs/upgrade.md"
        )


def _on_postgresql(cursor: Any, closed: str) -> None:
    """Guards the attempts first, so that an org is closed at every moment. Each statement commits by itself."""
    if closed:
        cursor.execute(REFUSE)
        cursor.execute(ON_POSTGRESQL.format(closed=closed))
    cursor.execute(
        "SELECT tgname, tgrelid::regclass::text FROM pg_trigger"
        " WHERE tgname IN ('closed_org_insert', 'closed_org_update', 'closed_org_delete') AND tgparentid = 0"
    )
    for trigger in cursor.fetchall():
        if trigger != KEPT or not closed:
            cursor.execute(f"DROP TRIGGER {trigger[0]} ON {trigger[1]}")
    if not closed:
        cursor.execute("DROP FUNCTION IF EXISTS refuse_closed_org()")


def _on_sqlite(cursor: Any, closed: str) -> None:
    cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, 11) = 'closed_org_'")
    for (name,) in cursor.fetchall():
        cursor.execute(f"DROP TRIGGER {name}")
    if closed:
        cursor.execute(ON_SQLITE.format(closed=closed))


def _switch_off(apps: Any, alias: str, org_id: int) -> None:
    """Makes the org and its webhooks inactive, and records it. Does nothing if an interrupted run has done it."""
    with transaction.atomic(alias):
        org = apps.get_model("loyalty", "Org").objects.using(alias).get(id=org_id)
        before = {"is_active": org.is_active, "v2_enabled": org.v2_enabled}
        if not any(before.values()):
            return
        apps.get_model("loyalty", "Org").objects.using(alias).filter(id=org_id).update(
            is_active=False, v2_enabled=False
        )
        apps.get_model("loyalty", "Webhook").objects.using(alias).filter(org_id=org_id).update(is_active=False)
        apps.get_model("loyalty", "StaffChange").objects.using(alias).create(
            org_id=org_id,
            subject="loyalty.org",
            subject_id=str(org_id),
            subject_name=f"{org.name} ({org_id})"[:200],
            action="changed",
            before=before,
            after={"is_active": False, "v2_enabled": False},
            reason="The org was closed to move to another database, and this version ends such moves.",
            made_by="migrate",
            made_at=timezone.now(),
        )


class Migration(migrations.Migration):
    dependencies = [
        ("loyalty", "0033_reasons_of_corrections"),
        ("reversals", "0034_export_format"),
    ]

    under_load = "Drops triggers only where an org was closed; old code goes on reading the table of moves."

    operations = [
        migrations.RunPython(end_moves, migrations.RunPython.noop, atomic=False),
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel("OrgMove")]),
    ]
