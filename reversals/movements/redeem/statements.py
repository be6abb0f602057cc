"""Builds the statements that write a redemption. No other code takes points from lots for one."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from loyalty.fields import new_row_id
from loyalty.ledger.drawing import PlannedDraw
from loyalty.ledger.sql import Statement, add_points, insert_all_into, insert_into


@dataclass(frozen=True, slots=True)
class NewRedemption:
    """A redemption to write. All ids are row ids, except `public_id`."""

    id: int
    org_id: int
    program_id: int
    customer_id: int
    public_id: str
    points: Decimal
    redeemed_at: datetime
    transaction_number: str
    external_reference_number: str | None
    has_key: bool


def redemption_statements(redemption: NewRedemption, draws: Sequence[PlannedDraw]) -> list[Statement]:
    """Builds the statements, parents first. Every draw has a lot. The caller holds the locks of customers and lots."""
    return [
        insert_into(
            "loyalty_redemption",
            {
                "id": redemption.id,
                "org_id": redemption.org_id,
                "program_id": redemption.program_id,
                "customer_id": redemption.customer_id,
                "public_id": redemption.public_id,
                "points": redemption.points,
                "points_reversed": 0,
                "redeemed_at": redemption.redeemed_at,
                "transaction_number": redemption.transaction_number,
                "external_reference_number": redemption.external_reference_number,
                "has_key": redemption.has_key,
            },
        ),
        *insert_all_into(
            "loyalty_draw",
            [
                {
                    "id": new_row_id(),
                    "org_id": redemption.org_id,
                    "redemption_id": redemption.id,
                    "lot_id": draw.lot_id,
                    "position": position,
                    "points": draw.points,
                    "points_reversed": 0,
                }
                for position, draw in enumerate(draws, start=1)
            ],
        ),
        *add_points(
            "loyalty_lot",
            "points_remaining",
            org_id=redemption.org_id,
            points={draw.lot_id: -draw.points for draw in draws if draw.lot_id is not None},
        ),
    ]
