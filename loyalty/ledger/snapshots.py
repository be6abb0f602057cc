"""Plain values read from the ledger: facts, read under lock for rules, and records, read for display. No Django."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class OrgFacts:
    id: int
    country: str
    v2_enabled: bool


@dataclass(frozen=True, slots=True)
class CustomerFacts:
    """A customer. `merged_into` is the customer id (public) of the customer who has this one's points now."""

    id: int
    public_id: int
    status: str
    reversals_locked: bool
    reversals_locked_until: datetime | None
    merged_into: int | None = None

    def merged_reason(self, advice: str) -> str:
        """Returns a sentence that names the customer into whom this one was merged, followed by the advice."""
        survivor = "another customer" if self.merged_into is None else f"customer {self.merged_into}"
        return f"The customer was merged into {survivor}. {advice}"


@dataclass(frozen=True, slots=True)
class ProgramFacts:
    id: int
    public_id: int
    is_active: bool


@dataclass(frozen=True, slots=True)
class LotFacts:
    id: int
    customer_public_id: int
    points_remaining: Decimal
    awarded_at: datetime
    expires_at: datetime | None

    @property
    def drawing_order(self) -> tuple[bool, datetime, datetime, int, int]:
        """Sorts by earliest expiry, lots without expiry last; then by award time, customer id and lot id."""
        never = self.expires_at is None
        return never, self.expires_at or self.awarded_at, self.awarded_at, self.customer_public_id, self.id

    def less(self, points: Decimal) -> "LotFacts":
        """Returns the lot after a draw of these points."""
        return replace(self, points_remaining=self.points_remaining - points)

    def can_be_drawn(self, at: datetime) -> bool:
        return self.points_remaining > 0 and self.awarded_at <= at and (self.expires_at is None or self.expires_at > at)


@dataclass(frozen=True, slots=True)
class WalletLot:
    """A locked lot that a redemption can draw on, with its reference, owner and program."""

    facts: LotFacts
    lot_ref: str
    customer_id: int
    program_id: int
    program_public_id: int


@dataclass(frozen=True, slots=True)
class Wallet:
    """The org's programs and the locked lots, which a redemption reads once the customers are locked.

    `now`: the database's time, at which the lots can be drawn on.
    `candidate_is_taken`: whether another row has the public id that was proposed for a new row.
    `has_webhooks`: whether the org has an active webhook. Otherwise no events need to be written.
    `repeats`: the public id of the earlier redemption that was looked for, if there is one.
    """

    now: datetime
    programs: tuple[ProgramFacts, ...] = ()
    lots: tuple[WalletLot, ...] = ()
    candidate_is_taken: bool = False
    has_webhooks: bool = False
    repeats: str | None = None


@dataclass(frozen=True, slots=True)
class DrawFacts:
    """One draw. The `lot_` values are None if the points came from no lot. `lot_customer_id` is the lot's owner."""

    id: int
    position: int
    points: Decimal
    points_reversed: Decimal
    lot_id: int | None
    lot_ref: str | None
    lot_expires_at: datetime | None
    lot_customer_id: int | None
    lot_is_reissue: bool

    @property
    def points_left(self) -> Decimal:
        return self.points - self.points_reversed

    def has_expired(self, now: datetime) -> bool:
        return self.lot_expires_at is not None and self.lot_expires_at <= now


@dataclass(frozen=True, slots=True)
class RedemptionFacts:
    """A locked redemption with its customer, its program, and its draws in the order of drawing.

    `members`: the redemption's customer and the customers whose lots a cross-member redemption drew on, all locked.
    `locked_at`: the database's time once all rows were locked.
    `candidate_is_taken`: whether a redemption has the public id that was proposed for a new row.
    `has_webhooks`: whether the org has an active webhook. Otherwise no events need to be written.
    """

    id: int
    public_id: str
    points: Decimal
    points_reversed: Decimal
    redeemed_at: datetime
    customer: CustomerFacts
    program: ProgramFacts
    draws: tuple[DrawFacts, ...]
    locked_at: datetime
    candidate_is_taken: bool
    has_webhooks: bool
    members: tuple[CustomerFacts, ...] = ()

    @property
    def customer_ids(self) -> frozenset[int]:
        """The row ids of the customer and of every other customer whose lots were drawn."""
        owners = {draw.lot_customer_id for draw in self.draws if draw.lot_customer_id is not None}
        return frozenset(owners | {self.customer.id})

    def member(self, customer_id: int) -> CustomerFacts:
        """Returns the redemption's customer or the member with this row id."""
        return next(member for member in (self.customer, *self.members) if member.id == customer_id)

    def public_id_of(self, customer_id: int) -> int:
        return self.member(customer_id).public_id

    @property
    def is_cross_member(self) -> bool:
        """Whether the redemption drew on lots of other customers."""
        return len(self.customer_ids) > 1

    @property
    def points_left(self) -> Decimal:
        return self.points - self.points_reversed


@dataclass(frozen=True, slots=True)
class DrawRecord:
    """A draw, for display. Values of the lot are None if the points came from no lot. Ids are public ids."""

    position: int
    points: Decimal
    points_reversed: Decimal
    lot_ref: str | None
    lot_expires_at: datetime | None
    program_id: int | None
    member_id: int | None


@dataclass(frozen=True, slots=True)
class RedemptionRecord:
    """A redemption, for display, with its draws in the order of drawing. All ids but `row_id` are public ids."""

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
        """Whether the redemption drew on lots of other customers."""
        return any(draw.member_id not in {None, self.customer_id} for draw in self.draws)


@dataclass(frozen=True, slots=True)
class ExpiryRecord:
    """A customer's unexpired points with one expiry time. `expires_at` is None if they do not expire."""

    expires_at: datetime | None
    points: Decimal


@dataclass(frozen=True, slots=True)
class PointsRecord:
    """A customer's own points at one time: available points, also by expiry, and points that expired unspent."""

    available: Decimal
    expired: Decimal
    by_expiry: tuple[ExpiryRecord, ...]
