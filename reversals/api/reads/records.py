"""Reversals as plain values, for replies that say what was; no Django here."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum


class Role(StrEnum):
    """What a customer was to a reversal: the one who had redeemed, or only the owner of points drawn."""

    TRANSACTING = "TRANSACTING"
    SOURCE = "SOURCE"


@dataclass(frozen=True, slots=True)
class ReversalRecord:
    """A reversal, and where it was found for a customer, their role in it; ids are public ids but for `row_id`.

    For a SOURCE the points, available and expired, are those of this customer's points. A reversal that
    was corrected counts as nothing in the end: all of its points were drawn again.
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
    """A line of a reversal. What is said of the lot drawn is None where none was; ids are public ids."""

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
    """One page of reversals, newest first, and the cursor of the next; None: there is none."""

    reversals: tuple[ReversalRecord, ...]
    next_cursor: str | None
