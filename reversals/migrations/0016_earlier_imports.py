"""Records, for each org, one import of the lots and redemptions that were there before imports were recorded.

Re-issued lots and redemptions made over the API are left out: their reversals and attempts say where they come from.
No import may run meanwhile. Rows are updated in batches that commit by themselves; a run that was interrupted goes on.
"""

from typing import Any

from django.db import migrations, transaction
from django.utils import timezone

from loyalty.fields import new_row_id

MADE_BY = "before imports were recorded"
# Older code that still serves does not mark the lots that it re-issues, so their lines are asked, too.
FROM_FILES = {
    "loyalty_lot": (
        "ledger_import_id IS NULL AND NOT is_reissue AND NOT EXISTS (SELECT 1 FROM reversals_reversalline line"
        " WHERE line.org_id = loyalty_lot.org_id AND line.reissued_lot_id = loyalty_lot.id)"
    ),
    "loyalty_redemption": (
        "ledger_import_id IS NULL AND NOT EXISTS (SELECT 1 FROM reversals_attempt attempt"
        " WHERE attempt.org_id = loyalty_redemption.org_id AND attempt.redemption_id = loyalty_redemption.id)"
    ),
}
POINTS = {"loyalty_lot": "points_awarded", "loyalty_redemption": "points"}
ROWS_AT_ONCE = 2_000


def record_earlier_imports(apps: Any, schema_editor: Any) -> None:
    connection = schema_editor.connection
    with connection.cursor() as cursor:
        for table in FROM_FILES:
            _list_rows(cursor, table)
        sums = {table: _sums(cursor, table) for table in FROM_FILES}
        for org_id in sorted(set().union(*sums.values())):
            import_id = _import_of(connection, cursor, org_id, sums)
            for table in FROM_FILES:
                _refer_to_import(connection, cursor, table, org_id, import_id)
        for table in FROM_FILES:
            cursor.execute(f"DROP TABLE {table}_from_files")


def _list_rows(cursor: Any, table: str) -> None:
    """Lists the rows from files in a temporary table, because finding them reads all attempts."""
    cursor.execute(f"DROP TABLE IF EXISTS {table}_from_files")
    cursor.execute(
        f"CREATE TEMPORARY TABLE {table}_from_files AS SELECT org_id, id, {POINTS[table]} AS points FROM {table}"
        f" WHERE {FROM_FILES[table]}"
    )
    cursor.execute(f"CREATE INDEX {table}_from_files_by_id ON {table}_from_files (org_id, id)")


def _import_of(connection: Any, cursor: Any, org_id: int, sums: Any) -> int:
    """Returns the id of the org's recorded import, which an interrupted run has inserted already."""
    cursor.execute("SELECT id FROM loyalty_ledgerimport WHERE org_id = %s AND made_by = %s", [org_id, MADE_BY])
    if found := cursor.fetchone():
        return found[0]
    import_id = new_row_id()
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    lots, redemptions = (sums[table].get(org_id, (0, 0)) for table in FROM_FILES)
    cursor.execute(
        "INSERT INTO loyalty_ledgerimport (id, org_id, imported_at, made_by, lots_added, points_awarded,"
        " redemptions_added, points_redeemed) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        [import_id, org_id, now, MADE_BY, *lots, *redemptions],
    )
    return import_id


def _refer_to_import(connection: Any, cursor: Any, table: str, org_id: int, import_id: int) -> None:
    last = 0
    while True:
        cursor.execute(
            f"SELECT id FROM {table}_from_files WHERE org_id = %s AND id > %s ORDER BY id LIMIT {ROWS_AT_ONCE}",
            [org_id, last],
        )
        ids = [row_id for (row_id,) in cursor.fetchall()]
        if not ids:
            return
        first, last = ids[0], ids[-1]
        with transaction.atomic(connection.alias):
            cursor.execute(
                f"UPDATE {table} SET ledger_import_id = %s WHERE org_id = %s AND id BETWEEN %s AND %s AND id IN"
                f" (SELECT id FROM {table}_from_files WHERE org_id = %s AND id BETWEEN %s AND %s)",
                [import_id, org_id, first, last, org_id, first, last],
            )


def _sums(cursor: Any, table: str) -> dict[int, tuple[int, int]]:
    """Returns by org how many rows came from files, and their points in thousandths."""
    cursor.execute(f"SELECT org_id, COUNT(*), SUM(points) FROM {table}_from_files GROUP BY org_id")
    return {org_id: (count, points) for org_id, count, points in cursor.fetchall()}


class Migration(migrations.Migration):
    dependencies = [
        ("loyalty", "0013_ledger_import"),
        ("reversals", "0015_points_reissued"),
    ]

    under_load = "Updates each lot and redemption from a file once, in batches that commit by themselves."

    operations = [migrations.RunPython(record_earlier_imports, migrations.RunPython.noop, atomic=False)]
