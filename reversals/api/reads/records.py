"""Records of reversals for the read views, independent of Django."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class Role(StrEnum):
    """A customer's role in a reversal: they redeemed the points, or only owned lots that were drawn from."""

    TRANSACTING = "TRANSACTING"
    SOURCE = "SOURCE"


@dataclass(frozen=True, slots=True)
class ReversalRecord:
    """A reversal. `role` is set if it was found for a customer. All ids but `row_id` are public ids.

    For a SOURCE, the points are only those reversed to this customer's lots. If `corrected_at` is set, all points of
    the reversal were drawn again.
    """

    role: Role | None
    row_id: int
    public_id: str
    redemption_id: str
    customer_id: int
    points_asked: Decimal | None
    channel: str
    made_by: str
    reason: str
    made_at: datetime
    corrected_at: datetime | None
    points: Decimal
    points_available: Decimal
    points_expired: Decimal


@dataclass(frozen=True, slots=True)
class LineRecord:
    """A line of a reversal. Values of the lot are None if the points came from no lot. Ids are public ids."""

    position: int
    lot_ref: str | None
    lot_expires_at: datetime | None
    program_id: int | None
    member_id: int | None
    points: Decimal
    points_available: Decimal
    points_expired: Decimal
    reissued_lot_ref: str | None


@dataclass(frozen=True, slots=True)
class PageRecord:
    """One page of reversals, newest first. `next_cursor` is None on the last page."""

    reversals: tuple[ReversalRecord, ...]
    next_cursor: str | None
