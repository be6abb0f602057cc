"""Which lots a redemption draws on, and how much from each; pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from loyalty.facts import LotFacts


@dataclass(frozen=True, slots=True)
class PlannedDraw:
    """Points to take from a lot; `lot_id` None for the part that no lot covers."""

    lot_id: int | None
    points: Decimal


def plan_draws(lots: Iterable[LotFacts], points: Decimal, *, at: datetime) -> list[PlannedDraw]:
    """The draws of a redemption of `points` at `at`, in their order of position.

    What no lot covers comes first in position, so that it is given back last.
    """
    draws: list[PlannedDraw] = []
    missing = points
    for lot in sorted((lot for lot in lots if lot.can_be_drawn(at)), key=lambda lot: lot.drawing_order):
        if not missing:
            break
        taken = min(missing, lot.points_remaining)
        draws.append(PlannedDraw(lot.id, taken))
        missing -= taken
    if missing:
        draws.insert(0, PlannedDraw(None, missing))
    return draws
