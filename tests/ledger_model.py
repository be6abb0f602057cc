"""A model of the specified ledger: the answer and the effect of each step. Plain Python, without a database.

Points are whole thousandths. A customer is a number: the position in the order of customer ids.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

NEVER = datetime.max.replace(tzinfo=UTC)
BLOCKED = ("FRAUD", "DEACTIVATED", "MERGED")
REDEMPTION_REFUSALS = {"MERGED": 8069, "FRAUD": 809, "DEACTIVATED": 881}
APPROVAL_DAYS = 7
NOT_ALONE = 403  # an approval is needed, or not possible


@dataclass(frozen=True)
class Refusal:
    """A refused call, which changes nothing, and its code."""

    code: int


@dataclass
class Settings:
    """The settings in force."""

    reissue_days: int | None = None
    limit_count: int | None = None
    limit_points: int | None = None
    limit_days: int = 30
    approval_points: int | None = None
    shares: bool = False


@dataclass(eq=False)
class Lot:
    """Points awarded together. Each point is remaining, re-issued, or in a draw."""

    owner: int
    program: int
    ref: str
    awarded: int
    awarded_at: datetime
    expires_at: datetime | None
    is_reissue: bool = False
    reissued: int = 0

    def __post_init__(self) -> None:
        self.remaining = self.awarded

    def has_expired(self, now: datetime) -> bool:
        return self.expires_at is not None and self.expires_at <= now

    def can_be_drawn(self, now: datetime) -> bool:
        return self.remaining > 0 and self.awarded_at <= now and not self.has_expired(now)

    @property
    def order(self) -> tuple[datetime, datetime, int]:
        """The sort key of drawing. The state machine never creates two lots of one customer that tie."""
        return self.expires_at or NEVER, self.awarded_at, self.owner


@dataclass(eq=False)
class Draw:
    """Points that a redemption drew from a lot. `lot` is None for points that no lot covered."""

    lot: Lot | None
    points: int
    reversed: int = 0

    @property
    def left(self) -> int:
        return self.points - self.reversed


@dataclass(eq=False)
class Redemption:
    """A redemption, with its draws in order. `id` is set from the reply."""

    customer: int
    program: int
    points: int
    draws: list[Draw]
    reference: str | None = None
    id: str = ""

    @property
    def content(self) -> tuple[int, int, int]:
        """What a repeat of its reference number must request."""
        return self.customer, self.program, self.points

    @property
    def left(self) -> int:
        return sum(draw.left for draw in self.draws)


@dataclass(eq=False)
class Line:
    """The points that one reversal returned to one draw. `new_lot` is the lot of re-issued points."""

    draw: Draw
    points: int
    owner: int
    is_expired: bool
    new_lot: Lot | None = None


@dataclass(eq=False)
class Reversal:
    """A reversal, with its lines in order. `id` is set from the reply. `alone`: made manually, without approval."""

    redemption: Redemption
    lines: list[Line]
    made_at: datetime
    alone: bool
    is_corrected: bool = False
    id: str = ""

    @property
    def points(self) -> int:
        return sum(line.points for line in self.lines)

    @property
    def expired(self) -> int:
        return sum(line.points for line in self.lines if line.is_expired)

    @property
    def is_cross_member(self) -> bool:
        """Whether the redemption drew on lots of other customers than its own."""
        return any(draw.lot and draw.lot.owner != self.redemption.customer for draw in self.redemption.draws)

    @property
    def shares(self) -> dict[int, tuple[int, int]]:
        """The points of each member, including expired ones, and how many of them have expired."""
        shares: dict[int, tuple[int, int]] = {}
        for line in self.lines:
            points, expired = shares.get(line.owner, (0, 0))
            shares[line.owner] = points + line.points, expired + (line.points if line.is_expired else 0)
        return shares

    @property
    def beneficiaries(self) -> set[int]:
        """The customers who got available points from it."""
        return {line.owner for line in self.lines if not line.is_expired}

    @property
    def new_lots(self) -> list[Lot]:
        return list(dict.fromkeys(line.new_lot for line in self.lines if line.new_lot is not None))

    def points_of(self, customer: int) -> int:
        """The points that count against the customer's limit: all for the redeemer, otherwise those in their lots."""
        if customer == self.redemption.customer:
            return self.points
        return sum(line.points for line in self.lines if line.owner == customer)

    def set_id(self, public_id: str) -> None:
        self.id = public_id
        for number, lot in enumerate(self.new_lots, start=1):
            lot.ref = f"REISSUE-{public_id}" if number == 1 else f"REISSUE-{public_id}-{number}"


@dataclass(eq=False)
class Request:
    """An approval request for a reversal, or for a correction if `corrects` is set."""

    redemption: Redemption
    corrects: Reversal | None
    points: int
    asked_by: str
    lapses_at: datetime
    status: str = "WAITING"

    def can_be_decided(self, user: str, now: datetime) -> bool:
        return self.status == "WAITING" and now < self.lapses_at and user != self.asked_by


@dataclass(frozen=True)
class Late:
    """A row of a redemptions file that is imported after the redemption happened."""

    redemption: Redemption
    at: datetime


@dataclass(frozen=True)
class Points:
    """A customer's points: available by expiry, soonest first, and expired."""

    by_expiry: list[tuple[datetime | None, int]]
    expired: int

    @property
    def available(self) -> int:
        return sum(points for _, points in self.by_expiry)


@dataclass
class Ledger:
    """The whole ledger, with a method for each movement. A refused movement changes nothing."""

    customers: int
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.statuses = ["ACTIVE"] * self.customers
        self.group: set[int] = set()
        self.lots: list[Lot] = []
        self.redemptions: list[Redemption] = []
        self.reversals: list[Reversal] = []
        self.requests: list[Request] = []

    # Reading

    def points_of(self, customer: int, now: datetime) -> Points:
        parts: dict[datetime | None, int] = {}
        expired = 0
        for lot in self.lots:
            if lot.owner != customer or not lot.remaining or lot.awarded_at > now:
                continue
            if lot.has_expired(now):
                expired += lot.remaining
            else:
                parts[lot.expires_at] = parts.get(lot.expires_at, 0) + lot.remaining
        return Points(sorted(parts.items(), key=lambda part: part[0] or NEVER), expired)

    def expiries_of(self, redemption: Redemption, *, after: datetime) -> list[Lot]:
        """The lots of its draws with points left that expire after this time, soonest first."""
        lots = [draw.lot for draw in redemption.draws if draw.lot is not None and draw.left]
        return sorted((lot for lot in lots if lot.expires_at and lot.expires_at > after), key=lambda lot: lot.order)

    # Redeeming

    def available(self, customer: int, now: datetime) -> int:
        """The points that the customer could redeem, including those of other members."""
        return sum(lot.remaining for lot in self._usable(self._sharing(customer), now))

    def redeem(self, asked: Redemption, now: datetime) -> Redemption | Refusal:
        """Returns the redemption, or the earlier one with the same reference number."""
        earlier = self._earlier(asked)
        if earlier is not None:
            is_same = (asked.customer, asked.program, asked.points) == (
                earlier.customer,
                earlier.program,
                earlier.points,
            )
            return earlier if is_same and earlier.left == earlier.points else Refusal(887)
        status = self.statuses[asked.customer]
        if status in REDEMPTION_REFUSALS:
            return Refusal(REDEMPTION_REFUSALS[status])
        usable = self._usable(self._sharing(asked.customer), now)
        if asked.points > sum(lot.remaining for lot in usable):
            return Refusal(818)
        self._draw(asked, usable)
        return asked

    def redeem_late(self, rows: Iterable[Late]) -> list[Redemption]:
        """Draws on points that remain now and could be drawn then. Uncovered points come from no lot."""
        uncovered = []
        for late in sorted(rows, key=lambda late: late.at):
            redemption = late.redemption
            missing = self._draw(redemption, self._usable({redemption.customer}, late.at))
            if missing:
                redemption.draws.insert(0, Draw(None, missing))
                uncovered.append(redemption)
        return uncovered

    def _earlier(self, asked: Redemption) -> Redemption | None:
        if asked.reference is None:
            return None
        return next((each for each in self.redemptions if each.reference == asked.reference), None)

    def _sharing(self, customer: int) -> set[int]:
        """The customers whose lots the customer may draw on."""
        if not self.settings.shares or customer not in self.group:
            return {customer}
        return {customer} | {member for member in self.group if self.statuses[member] == "ACTIVE"}

    def _usable(self, owners: set[int], now: datetime) -> list[Lot]:
        return sorted(
            (lot for lot in self.lots if lot.owner in owners and lot.can_be_drawn(now)), key=lambda lot: lot.order
        )

    def _draw(self, redemption: Redemption, usable: list[Lot]) -> int:
        """Returns the points that the lots do not cover."""
        missing = redemption.points
        for lot in usable:
            taken = min(missing, lot.remaining)
            if not taken:
                break
            lot.remaining -= taken
            missing -= taken
            redemption.draws.append(Draw(lot, taken))
        self.redemptions.append(redemption)
        return missing

    # Reversing

    def reverse(
        self,
        redemption: Redemption,
        points: int | None,
        now: datetime,
        *,
        is_manual: bool = False,
        is_approved: bool = False,
    ) -> Reversal | Refusal:
        refusal = self._refusal_of_reversal(redemption, points)
        if refusal is not None:
            return refusal
        lines = list(self._lines(redemption, redemption.left if points is None else points, now))
        if self.settings.reissue_days is None and any(line.draw.lot is None for line in lines):
            return Refusal(899)
        reversal = Reversal(redemption, lines, now, alone=is_manual and not is_approved)
        if not self._is_within_limits(reversal):
            return Refusal(903)
        if reversal.alone and not self._needs_no_approval(reversal):
            return Refusal(NOT_ALONE)
        self._return(reversal)
        return reversal

    def _refusal_of_reversal(self, redemption: Redemption, points: int | None) -> Refusal | None:
        if self.statuses[redemption.customer] in BLOCKED:
            return Refusal(901)
        if not redemption.left:
            return Refusal(902)
        return Refusal(817) if points is not None and points > redemption.left else None

    def _lines(self, redemption: Redemption, missing: int, now: datetime) -> Iterator[Line]:
        """Yields the lines: the last draw is reversed first."""
        for draw in reversed(redemption.draws):
            returned = min(missing, draw.left)
            if returned:
                missing -= returned
                owner = redemption.customer if draw.lot is None else draw.lot.owner
                yield Line(draw, returned, owner, is_expired=self._stays_expired(draw.lot, now))

    def _stays_expired(self, lot: Lot | None, now: datetime) -> bool:
        """Whether points stay expired: re-issue is off, or they were re-issued before."""
        if lot is None or not lot.has_expired(now):
            return False
        return self.settings.reissue_days is None or lot.is_reissue

    def _is_within_limits(self, reversal: Reversal) -> bool:
        """Checks the customer who redeemed, and every customer whose lots get points."""
        settings = self.settings
        since = reversal.made_at - timedelta(days=settings.limit_days)
        recent = [each for each in self.reversals if not each.is_corrected and each.made_at > since]
        for customer in {reversal.redemption.customer, *(line.owner for line in reversal.lines)}:
            used = [points for each in [*recent, reversal] if (points := each.points_of(customer))]
            if settings.limit_count is not None and len(used) > settings.limit_count:
                return False
            if settings.limit_points is not None and sum(used) > settings.limit_points:
                return False
        return True

    def _needs_no_approval(self, reversal: Reversal) -> bool:
        """Whether the points are within the approval limit. Parts of one redemption count together."""
        limit = self.settings.approval_points
        before = (each for each in self.reversals if each.redemption is reversal.redemption)
        alone = sum(each.points for each in before if each.alone and not each.is_corrected)
        return limit is None or alone + reversal.points <= limit

    def _return(self, reversal: Reversal) -> None:
        new_lots: dict[int, Lot] = {}
        for line in reversal.lines:
            lot = line.draw.lot
            line.draw.reversed += line.points
            if line.is_expired or (lot is not None and not lot.has_expired(reversal.made_at)):
                lot.remaining += line.points
                continue
            if lot is not None:
                lot.reissued += line.points
            line.new_lot = new_lots.setdefault(line.owner, self._new_lot(line.owner, reversal))
            line.new_lot.awarded += line.points
            line.new_lot.remaining += line.points
        self.lots += new_lots.values()
        self.reversals.append(reversal)

    def _new_lot(self, owner: int, reversal: Reversal) -> Lot:
        now, days = reversal.made_at, self.settings.reissue_days
        assert days is not None
        return Lot(owner, reversal.redemption.program, "", 0, now, now + timedelta(days=days), is_reissue=True)

    def warnings(self, reversal: Reversal) -> list[int]:
        """The codes of the reply's warnings: expired points, re-issued points, and members who cannot spend theirs."""
        idle = [owner for owner in reversal.beneficiaries if self.statuses[owner] != "ACTIVE"]
        return [1001] * bool(reversal.expired) + [1002] * bool(reversal.new_lots) + [1003] * len(idle)

    # Correcting

    def correct(self, reversal: Reversal, *, is_preview: bool = False) -> Refusal | None:
        """Takes the whole reversal back, or refuses."""
        if self.statuses[reversal.redemption.customer] == "MERGED":
            return Refusal(901)
        if reversal.is_corrected:
            return Refusal(902)
        losses: dict[Lot, int] = {}
        for line in reversal.lines:
            lot = line.new_lot or line.draw.lot
            assert lot is not None
            losses[lot] = losses.get(lot, 0) + line.points
        if any(lot.remaining < points for lot, points in losses.items()):
            return Refusal(817)
        if not is_preview:
            self._take_back(reversal)
        return None

    def _take_back(self, reversal: Reversal) -> None:
        for line in reversal.lines:
            lot, new_lot = line.draw.lot, line.new_lot
            line.draw.reversed -= line.points
            if new_lot is None:
                assert lot is not None
                lot.remaining -= line.points
                continue
            new_lot.remaining -= line.points
            new_lot.reissued += line.points
            if lot is not None:
                lot.reissued -= line.points
        reversal.is_corrected = True

    # Approving

    def ask(
        self, redemption: Redemption, points: int, asked_by: str, now: datetime, corrects: Reversal | None = None
    ) -> Request:
        request = Request(redemption, corrects, points, asked_by, now + timedelta(days=APPROVAL_DAYS))
        self.requests.append(request)
        return request

    def approve(self, request: Request, user: str, now: datetime) -> Reversal | Refusal | None:
        """Returns None if a correction was made."""
        if not request.can_be_decided(user, now):
            return Refusal(NOT_ALONE)
        outcome: Reversal | Refusal | None
        if request.corrects is not None:
            outcome = self.correct(request.corrects)
        else:
            outcome = self.reverse(request.redemption, request.points, now, is_manual=True, is_approved=True)
        if not isinstance(outcome, Refusal):
            request.status = "APPROVED"
        return outcome
