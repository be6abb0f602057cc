"""Records, for each org, one import of the lots and redemptions that were there before imports were recorded.

Re-issued lots and redemptions made over the API are left out: their reversals and attempts say where they come from.
No import may run meanwhile. Each lot and redemption from a file is updated once, in one transaction.
"""

from typing import Any

from django.db import migrations
from django.utils import timezone

from loyalty.fields import new_row_id

MADE_BY = "before imports were recorded"
FROM_FILES = {
    "loyalty_lot": "ledger_import_id IS NULL AND NOT is_reissue",
    "loyalty_redemption": (
        "ledger_import_id IS NULL AND NOT EXISTS (SELECT 1 FROM reversals_attempt attempt"
        " WHERE attempt.org_id = loyalty_redemption.org_id AND attempt.redemption_id = loyalty_redemption.id)"
    ),
}
POINTS = {"loyalty_lot": "points_awarded", "loyalty_redemption": "points"}


def record_earlier_imports(apps: Any, schema_editor: Any) -> None:
    connection = schema_editor.connection
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL statement_timeout = 0")
        sums = {table: _sums(cursor, table) for table in FROM_FILES}
        for org_id in sorted(set().union(*sums.values())):
            import_id = new_row_id()
            lots, redemptions = (sums[table].get(org_id, (0, 0)) for table in FROM_FILES)
            cursor.execute(
                "INSERT INTO loyalty_ledgerimport (id, org_id, imported_at, made_by, lots_added, points_awarded,"
                " redemptions_added, points_redeemed) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                [import_id, org_id, now, MADE_BY, *lots, *redemptions],
            )
            for table, condition in FROM_FILES.items():
                cursor.execute(
                    f"UPDATE {table} SET ledger_import_id = %s WHERE org_id = %s AND {condition}", [import_id, org_id]
                )


def _sums(cursor: Any, table: str) -> dict[int, tuple[int, int]]:
    """By org, how many rows came from files, and their points in thousandths."""
    cursor.execute(
        f"SELECT org_id, COUNT(*), SUM({POINTS[table]}) FROM {table} WHERE {FROM_FILES[table]} GROUP BY org_id"
    )
    return {org_id: (count, points) for org_id, count, points in cursor.fetchall()}


class Migration(migrations.Migration):
    dependencies = [
        ("loyalty", "0013_ledger_import"),
        ("reversals", "0015_points_reissued"),
    ]

    operations = [migrations.RunPython(record_earlier_imports, migrations.RunPython.noop)]
