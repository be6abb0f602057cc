"""What is read from the ledger under lock, as plain values that rules can decide on; no Django here."""

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
        return self.points_remaining > 0 and self.awarded_at <= at and (self.expires_at is None or self.expires_at > at)


@dataclass(frozen=True, slots=True)
class WalletLot:
    """A locked lot that a redemption may draw on, with its name, its owner's row id and the program that awarded it."""

    facts: LotFacts
    lot_ref: str
    customer_id: int
    program_id: int
    program_public_id: int


@dataclass(frozen=True, slots=True)
class Wallet:
    """What a redemption may rest on, once the customers are locked: the org's programs, and the locked lots.

    `now`: the database's time, at which the lots can be drawn on.
    `candidate_is_taken`: whether the public id considered for a new row names another row.
    `has_webhooks`: whether the org has an active webhook, so that events are worth making.
    """

    now: datetime
    programs: tuple[ProgramFacts, ...] = ()
    lots: tuple[WalletLot, ...] = ()
    candidate_is_taken: bool = False
    has_webhooks: bool = False


@dataclass(frozen=True, slots=True)
class DrawFacts:
    """One draw. What is said of the lot is None where no lot was drawn; `lot_customer_id` is the lot's owner."""

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

    `members` are the customers whose lots a cross-member redemption drew on, locked as well, and its own.
    `locked_at`: the database's time once it was locked.
    `candidate_is_taken`: whether the public id considered for a new row names a redemption.
    `has_webhooks`: whether the org has an active webhook, so that events are worth making.
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
        """Its customer, or the member, with that row id."""
        return next(member for member in (self.customer, *self.members) if member.id == customer_id)

    def public_id_of(self, customer_id: int) -> int:
        return self.member(customer_id).public_id

    @property
    def is_cross_member(self) -> bool:
        """Whether it drew on lots of others than its customer."""
        return len(self.customer_ids) > 1

    @property
    def points_left(self) -> Decimal:
        return self.points - self.points_reversed


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
