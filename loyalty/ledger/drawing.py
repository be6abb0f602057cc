"""Plans which lots a redemption draws on, and how many points from each. Uses no database."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from loyalty.ledger.snapshots import LotFacts


@dataclass(frozen=True, slots=True)
class PlannedDraw:
    """Points to draw from a lot. `lot_id` is None for points that no lot covers."""

    lot_id: int | None
    points: Decimal


def plan_draws(lots: Iterable[LotFacts], points: Decimal, *, at: datetime) -> list[PlannedDraw]:
    """Returns the draws of a redemption of `points` at the time `at`, in the order of their positions.

    Points that no lot covers have the first position, so that they are reversed last.
    """
    return plan_draws_in_order(in_drawing_order(lots), points, at=at)


def in_drawing_order(lots: Iterable[LotFacts]) -> list[LotFacts]:
    """Returns the lots in the order in which redemptions draw on them. Includes lots that cannot be drawn on."""
    return sorted(lots, key=lambda lot: lot.drawing_order)


def plan_draws_in_order(lots: Iterable[LotFacts], points: Decimal, *, at: datetime) -> list[PlannedDraw]:
    """Like `plan_draws`, for lots that are in drawing order already. Does not read lots after the last one drawn."""
    draws: list[PlannedDraw] = []
    missing = points
    for lot in lots:
        if not missing:
            break
        if lot.can_be_drawn(at):
            taken = min(missing, lot.points_remaining)
            draws.append(PlannedDraw(lot.id, taken))
            missing -= taken
    if missing:
        draws.insert(0, PlannedDraw(None, missing))
    return draws
