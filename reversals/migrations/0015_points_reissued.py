"""Moves the points that re-issues replaced out of their own lots, where they stood a second time.

Until now a re-issue added the points to their own lot, which had expired, as well as to the new one. Where a correction
or a file that arrived late has taken such points since, they cannot be told from those that replaced them: the
migration says so for each lot, moves what is there, and `verify_ledger` names the lot from then on.
"""

import sys
from typing import Any

from django.db import migrations

LINES = (
    "SELECT line.*, correction.id IS NOT NULL AS is_corrected FROM reversals_reversalline line"
    " LEFT JOIN reversals_correction correction"
    " ON correction.org_id = line.org_id AND correction.reversal_id = line.reversal_id"
    " WHERE line.reissued_lot_id IS NOT NULL"
)
# By lot, the points of its draws that were re-issued.
REPLACED = (
    f"SELECT draw.lot_id, SUM(line.points) AS points FROM ({LINES}) AS line"
    " JOIN loyalty_draw draw ON draw.org_id = line.org_id AND draw.id = line.draw_id"
    " WHERE draw.lot_id IS NOT NULL AND NOT line.is_corrected GROUP BY draw.lot_id"
)
# By re-issued lot, what corrections took back.
TAKEN_BACK = (
    f"SELECT line.reissued_lot_id AS lot_id, SUM(line.points_available) AS points FROM ({LINES}) AS line"
    " WHERE line.is_corrected GROUP BY line.reissued_lot_id"
)


def move_replaced_points(apps: Any, schema_editor: Any) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE loyalty_lot SET is_reissue = TRUE WHERE id IN (SELECT reissued_lot_id FROM ({LINES}) AS line)"
        )
        cursor.execute(
            "SELECT lot.org_id, lot.lot_ref, replaced.points, lot.points_remaining"
            f" FROM ({REPLACED}) AS replaced JOIN loyalty_lot lot ON lot.id = replaced.lot_id"
            " WHERE replaced.points > lot.points_remaining ORDER BY lot.org_id, lot.lot_ref"
        )
        for org_id, lot_ref, replaced, remaining in cursor.fetchall():
            sys.stderr.write(
                f"Lot {lot_ref} of org {org_id}: {replaced / 1000:g} of its points were re-issued, but only"
                f" {remaining / 1000:g} are left in it. The others were spent twice; which of the two redemptions should"
                " not have had them cannot be decided here.\n"
            )
        cursor.execute(
            "UPDATE loyalty_lot SET points_reissued = points_reissued + replaced.moved,"
            " points_remaining = points_remaining - replaced.moved FROM (SELECT lot.id,"
            " CASE WHEN replaced.points > lot.points_remaining THEN lot.points_remaining ELSE replaced.points END AS moved"
            f" FROM ({REPLACED}) AS replaced JOIN loyalty_lot lot ON lot.id = replaced.lot_id) AS replaced"
            " WHERE loyalty_lot.id = replaced.id"
        )
        cursor.execute(
            "UPDATE loyalty_lot SET points_reissued = points_reissued + taken.points"
            f" FROM ({TAKEN_BACK}) AS taken WHERE loyalty_lot.id = taken.lot_id"
        )


def put_replaced_points_back(apps: Any, schema_editor: Any) -> None:
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(
            "UPDATE loyalty_lot SET points_reissued = points_reissued - taken.points"
            f" FROM ({TAKEN_BACK}) AS taken WHERE loyalty_lot.id = taken.lot_id"
        )
        cursor.execute(
            "UPDATE loyalty_lot SET points_remaining = points_remaining + points_reissued, points_reissued = 0"
            " WHERE points_reissued > 0"
        )


class Migration(migrations.Migration):
    under_load = "Updates only lots that were re-issued or whose points were. Calls about these lots wait until it commits."

    dependencies = [
        ("loyalty", "0012_points_reissued"),
        ("reversals", "0014_rare_answers"),
    ]

    operations = [migrations.RunPython(move_replaced_points, put_replaced_points_back)]
