"""Which lots a redemption draws on, and how much from each; pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class LotFacts:
    id: int
    customer_public_id: int
    points_remaining: Decimal
    awarded_at: datetime
    expires_at: datetime | None

    @property
    def drawing_order(self) -> tuple[bool, datetime, datetime, int, int]:
        """Earliest expiry first, never last; ties by earlier award, then lower customer id, then lower lot id."""
        never = self.expires_at is None
        return never, self.expires_at or self.awarded_at, self.awarded_at, self.customer_public_id, self.id

    def less(self, points: Decimal) -> "LotFacts":
        """The lot after a draw."""
        return replace(self, points_remaining=self.points_remaining - points)

    def can_be_drawn(self, at: datetime) -> bool:
        return self.points_remaining > 0 and self.awarded_at < at and (self.expires_at is None or self.expires_at > at)


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
