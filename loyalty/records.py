"""What the ledger holds as plain values, for replies that say what was; no Django here."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class DrawRecord:
    """A draw as it stands. What is said of the lot is None where no lot was drawn; ids are public ids."""

    position: int
    points: Decimal
    points_reversed: Decimal
    lot_ref: str | None
    lot_expires_at: datetime | None
    program_id: int | None
    member_id: int | None


@dataclass(frozen=True, slots=True)
class RedemptionRecord:
    """A redemption as it stands, with its draws in the order of drawing; ids are public ids but for `row_id`."""

    row_id: int
    public_id: str
    customer_id: int
    program_id: int
    points: Decimal
    points_reversed: Decimal
    redeemed_at: datetime
    transaction_number: str
    external_reference_number: str | None
    draws: tuple[DrawRecord, ...]

    @property
    def points_left(self) -> Decimal:
        return self.points - self.points_reversed

    @property
    def is_cross_member(self) -> bool:
        """Whether it drew on lots of others than its customer."""
        return any(draw.member_id not in {None, self.customer_id} for draw in self.draws)


@dataclass(frozen=True, slots=True)
class ExpiryRecord:
    """The unexpired points of a customer that expire at one moment; `expires_at` None is never."""

    expires_at: datetime | None
    points: Decimal


@dataclass(frozen=True, slots=True)
class PointsRecord:
    """A customer's own points at one moment: what can be spent, by expiry, and what expired unspent."""

    available: Decimal
    expired: Decimal
    by_expiry: tuple[ExpiryRecord, ...]
