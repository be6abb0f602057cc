"""What is read from the ledger under lock, as plain values that rules can decide on; no Django here."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class OrgFacts:
    id: int
    country: str
    v2_enabled: bool


@dataclass(frozen=True, slots=True)
class CustomerFacts:
    id: int
    public_id: int
    status: str
    reversals_locked: bool
    reversals_locked_until: datetime | None


@dataclass(frozen=True, slots=True)
class ProgramFacts:
    id: int
    public_id: int
    is_active: bool


@dataclass(frozen=True, slots=True)
class DrawFacts:
    """One draw. `lot_id` and `lot_expires_at` are None where no lot was drawn."""

    id: int
    points: Decimal
    points_reversed: Decimal
    lot_id: int | None
    lot_expires_at: datetime | None

    @property
    def points_left(self) -> Decimal:
        return self.points - self.points_reversed

    def has_expired(self, now: datetime) -> bool:
        return self.lot_expires_at is not None and self.lot_expires_at <= now


@dataclass(frozen=True, slots=True)
class RedemptionFacts:
    """A locked redemption with its customer, its program, and its draws in the order of drawing.

    `candidate_is_taken`: whether the public id considered for a new row names a redemption.
    """

    id: int
    public_id: str
    points: Decimal
    points_reversed: Decimal
    redeemed_at: datetime
    customer: CustomerFacts
    program: ProgramFacts
    draws: tuple[DrawFacts, ...]
    candidate_is_taken: bool

    @property
    def points_left(self) -> Decimal:
        return self.points - self.points_reversed
