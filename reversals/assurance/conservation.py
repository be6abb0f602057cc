"""Counts the points of each program by state: live + spent + expired + replaced = awarded + re-issued.

Each part is counted from the rows that moved the points, not from the totals kept in lots, draws and redemptions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from django.db import connection

from loyalty.ledger import queries
from loyalty.ledger.clock import clock
from loyalty.ledger.distribution import read_one_snapshot
from loyalty.ledger.points import from_thousandths, written

# Every way in which points move: the tables that join a movement to the lot whose program counts it, and the amount
# that it adds to each part.
_MOVEMENTS: tuple[tuple[str, dict[str, str]], ...] = (
    # Awarded by an import or by a re-issue.
    (
        "loyalty_lot lot",
        {
            "awarded": "CASE WHEN lot.is_reissue THEN 0 ELSE lot.points_awarded END",
            "live": "CASE WHEN lot.expires_at <= {now} THEN 0 ELSE lot.points_remaining END",
            "expired": "CASE WHEN lot.expires_at <= {now} THEN lot.points_remaining ELSE 0 END",
        },
    ),
    (
        "reversals_reversalline line"
        " JOIN loyalty_lot lot ON lot.org_id = line.org_id AND lot.id = line.reissued_lot_id",
        {"reissued": "line.points_available"},
    ),
    # Redeemed.
    (
        "loyalty_draw draw JOIN loyalty_lot lot ON lot.org_id = draw.org_id AND lot.id = draw.lot_id",
        {"spent": "draw.points"},
    ),
    # Reversed to their own lot, or re-issued in a new lot, so that their own lot loses them permanently.
    (
        "reversals_reversalline line JOIN loyalty_draw draw ON draw.org_id = line.org_id AND draw.id = line.draw_id"
        " JOIN loyalty_lot lot ON lot.org_id = draw.org_id AND lot.id = draw.lot_id",
        {"spent": "-line.points", "replaced": "CASE WHEN line.reissued_lot_id IS NULL THEN 0 ELSE line.points END"},
    ),
    # Corrected: drawn from their own lot again. If they were re-issued, the new lot loses them.
    (
        "reversals_correction correction JOIN reversals_reversalline line"
        " ON line.org_id = correction.org_id AND line.reversal_id = correction.reversal_id"
        " JOIN loyalty_draw draw ON draw.org_id = line.org_id AND draw.id = line.draw_id"
        " JOIN loyalty_lot lot ON lot.org_id = draw.org_id AND lot.id = draw.lot_id",
        {"spent": "line.points", "replaced": "CASE WHEN line.reissued_lot_id IS NULL THEN 0 ELSE -line.points END"},
    ),
    (
        "reversals_correction correction JOIN reversals_reversalline line"
        " ON line.org_id = correction.org_id AND line.reversal_id = correction.reversal_id"
        " JOIN loyalty_lot lot ON lot.org_id = line.org_id AND lot.id = line.reissued_lot_id",
        {"replaced": "line.points_available"},
    ),
)

_PARTS = ("awarded", "reissued", "live", "spent", "expired", "replaced")


def _totals(now: str) -> str:
    """Returns the query that sums each part by org and program, in thousandths. `now` is an SQL expression."""
    movements = " UNION ALL ".join(
        "SELECT lot.org_id, lot.program_id, "
        + ", ".join(f"{parts.get(part, '0').format(now=now)} AS {part}" for part in _PARTS)
        + f" FROM {rows}"
        for rows, parts in _MOVEMENTS
    )
    sums = ", ".join(f"SUM(moved.{part}) AS {part}" for part in _PARTS)
    return (
        f"SELECT moved.org_id, program.public_id AS program_id, {sums} FROM ({movements}) AS moved"
        " JOIN loyalty_program program ON program.id = moved.program_id GROUP BY moved.org_id, program.public_id"
    )


# The time can be NULL because it only divides points into live and expired, which does not change the sum.
NOT_CONSERVED = (
    "SELECT total.org_id, total.program_id, total.live + total.spent + total.expired + total.replaced,"
    f" total.awarded + total.reissued FROM ({_totals('NULL')}) AS total"
    " WHERE total.live + total.spent + total.expired + total.replaced <> total.awarded + total.reissued"
)


@dataclass(frozen=True, slots=True)
class PointsOfProgram:
    """The points of one program by state; `program_id` is the public id."""

    org_id: int
    program_id: int
    awarded: Decimal
    reissued: Decimal
    live: Decimal
    spent: Decimal
    expired: Decimal
    replaced: Decimal

    def as_json(self) -> dict[str, object]:
        """Returns JSON values, with points as text so that no digit is lost."""
        parts = {part: written(getattr(self, part)) for part in _PARTS}
        return {"org": self.org_id, "program": self.program_id, **parts}


def points_of_programs(org_id: int | None = None) -> Iterator[PointsOfProgram]:
    """Yields the points of each program of one org, or of all orgs, as of now by the database's clock."""
    now, params = clock()
    with queries.one_snapshot(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # The time limit of a request is too short for a scan of all rows.
            cursor.execute("SET LOCAL statement_timeout = 0")
            read_one_snapshot(cursor)
        condition, org = ("WHERE total.org_id = %s", [org_id]) if org_id is not None else ("", [])
        cursor.execute(
            f"WITH moment AS (SELECT {now} AS now) SELECT total.* FROM ({_totals('(SELECT now FROM moment)')}) AS total"
            f" {condition} ORDER BY total.org_id, total.program_id",
            [*params, *org],
        )
        rows = cursor.fetchall()
    for program_org_id, program_id, *parts in rows:
        yield PointsOfProgram(program_org_id, program_id, *(from_thousandths(part) for part in parts))
