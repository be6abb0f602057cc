"""What became of all points of a program: live + spent + expired + replaced = awarded + re-issued.

Each part is counted from the rows that moved the points, and not from the totals that lots, draws and redemptions keep.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from django.db import connection

from loyalty.ledger import queries
from loyalty.ledger.clock import clock
from loyalty.ledger.points import from_thousandths, written

# Every way in which points move: the lot whose program counts them, where it stands, and what it adds to which part.
_MOVEMENTS: tuple[tuple[str, dict[str, str]], ...] = (
    # Awarded: by an import, or by a re-issue.
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
    # Reversed: into their own lot, or out of it for good.
    (
        "reversals_reversalline line JOIN loyalty_draw draw ON draw.org_id = line.org_id AND draw.id = line.draw_id"
        " JOIN loyalty_lot lot ON lot.org_id = draw.org_id AND lot.id = draw.lot_id",
        {"spent": "-line.points", "replaced": "CASE WHEN line.reissued_lot_id IS NULL THEN 0 ELSE line.points END"},
    ),
    # Corrected: drawn from their own lot again; a lot that was awarded for them is taken back.
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
    """The query of the parts by org and program, in thousandths; `now` is SQL."""
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


# Whether points are live or have expired does not matter to their sum.
NOT_CONSERVED = (
    "SELECT total.org_id, total.program_id, total.live + total.spent + total.expired + total.replaced,"
    f" total.awarded + total.reissued FROM ({_totals('NULL')}) AS total"
    " WHERE total.live + total.spent + total.expired + total.replaced <> total.awarded + total.reissued"
)


@dataclass(frozen=True, slots=True)
class PointsOfProgram:
    """What became of the points of one program; `program_id` is the public one."""

    org_id: int
    program_id: int
    awarded: Decimal
    reissued: Decimal
    live: Decimal
    spent: Decimal
    expired: Decimal
    replaced: Decimal

    def as_json(self) -> dict[str, object]:
        """Points as text, so that no digit is lost."""
        parts = {part: written(getattr(self, part)) for part in _PARTS}
        return {"org": self.org_id, "program": self.program_id, **parts}


def points_of_programs(org_id: int | None = None) -> Iterator[PointsOfProgram]:
    """What became of the points of each program, of one org or of all, by the database's clock."""
    now, params = clock()
    with queries.one_moment(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # The limit of a request does not fit a look at all rows.
            cursor.execute("SET LOCAL statement_timeout = 0")
        condition, org = ("WHERE total.org_id = %s", [org_id]) if org_id is not None else ("", [])
        cursor.execute(
            f"WITH moment AS (SELECT {now} AS now) SELECT total.* FROM ({_totals('(SELECT now FROM moment)')}) AS total"
            f" {condition} ORDER BY total.org_id, total.program_id",
            [*params, *org],
        )
        rows = cursor.fetchall()
    for program_org_id, program_id, *parts in rows:
        yield PointsOfProgram(program_org_id, program_id, *(from_thousandths(part) for part in parts))
