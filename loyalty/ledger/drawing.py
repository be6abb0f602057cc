"""Which lots a redemption draws on, and how much from each; pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from loyalty.ledger.snapshots import LotFacts


@dataclass(frozen=True, slots=True)
class PlannedDraw:
    """Points to take from a lot; `lot_id` None for the part that no lot covers."""

    lot_id: int | None
    points: Decimal


def plan_draws(lots: Iterable[LotFacts], points: Decimal, *, at: datetime) -> list[PlannedDraw]:
    """The draws of a redemption of `points` at `at`, in their order of position.

    What no lot covers comes first in position, so that it is reversed last.
    """
    return plan_draws_in_order(in_drawing_order(lots), points, at=at)


def in_drawing_order(lots: Iterable[LotFacts]) -> list[LotFacts]:
    """The lots in the order in which any redemption draws them, whether it can draw them or not."""
    return sorted(lots, key=lambda lot: lot.drawing_order)


def plan_draws_in_order(lots: Iterable[LotFacts], points: Decimal, *, at: datetime) -> list[PlannedDraw]:
    """As `plan_draws`, of lots that are in drawing order already; looks at none behind the last that it draws."""
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
