"""Decides on one reversal: takes facts, and returns a plan or refuses. Uses no clock, no database and no Django."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from loyalty.emf import registry as emf
from loyalty.emf.registry import EmfSettings, InvalidSetting
from loyalty.ledger.points import written
from loyalty.ledger.snapshots import DrawFacts, RedemptionFacts
from reversals.movements.quantities import quantity
from reversals.movements.reverse.requests import ReversalRequest
from reversals.refusals import ErrorCode, Refused

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class LimitUse:
    """The reversals and the points within the limits' period that count for a customer: their redemptions and lots."""

    count: int = 0
    points: Decimal = ZERO


@dataclass(frozen=True, slots=True)
class EarlierReversals:
    """What the rules must know of earlier reversals. A field is None, zero or empty if no setting needs it.

    `limit_use` is by the customer's row id. `points_reversed_manually` are the points of the same redemption that staff
    reversed without an approval, and `points_of_user` those of any redemption that the same user reversed so within the
    last 24 hours. `user_lifted_status`: within that time, the user lifted the customer's status FRAUD or DEACTIVATED.
    """

    last_of_redemption: str | None = None
    duplicate: str | None = None
    limit_use: Mapping[int, LimitUse] = field(default_factory=dict)
    points_reversed_manually: Decimal = ZERO
    points_of_user: Decimal = ZERO
    user_lifted_status: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that one reversal is decided on, read after the rows were locked."""

    request: ReversalRequest
    settings: EmfSettings
    redemption: RedemptionFacts
    earlier: EarlierReversals
    is_manual: bool
    is_approved: bool
    now: datetime


@dataclass(frozen=True, slots=True)
class PlannedLine:
    """The points to reverse to one draw. `reissued` of them go to a new lot, and count as available."""

    draw: DrawFacts
    points: Decimal
    available: Decimal
    expired: Decimal
    reissued: Decimal

    def owner_id(self, redemption: RedemptionFacts) -> int:
        """The row id of the customer who receives the points."""
        owner = self.draw.lot_customer_id
        return redemption.customer.id if owner is None else owner


@dataclass(frozen=True, slots=True)
class Plan:
    """An allowed reversal: its lines, in the order of reversal."""

    points: Decimal
    lines: tuple[PlannedLine, ...]
    reissue_expires_at: datetime | None

    @property
    def available(self) -> Decimal:
        return sum((line.available for line in self.lines), ZERO)

    @property
    def expired(self) -> Decimal:
        return sum((line.expired for line in self.lines), ZERO)

    @property
    def reissued(self) -> Decimal:
        return sum((line.reissued for line in self.lines), ZERO)

    @property
    def expired_again(self) -> Decimal:
        """The expired points that are not re-issued because their lot is a re-issue already."""
        return sum((line.expired for line in self.lines if self._reissues and line.draw.lot_is_reissue), ZERO)

    @property
    def _reissues(self) -> bool:
        return self.reissue_expires_at is not None

    def points_by_owner(self, redemption: RedemptionFacts, *, available: bool = False) -> dict[int, Decimal]:
        """The points, or only the available ones, for each customer's row id, in the order of the lines."""
        points: dict[int, Decimal] = {}
        for line in self.lines:
            owner = line.owner_id(redemption)
            points[owner] = points.get(owner, ZERO) + (line.available if available else line.points)
        return points


def check_org(settings: EmfSettings) -> None:
    """Checks the settings, before any look-up. Refuses 898, 888, 818 (rows 3 to 5 of `ErrorCode`)."""
    try:
        if settings.get(emf.PAUSED):
            raise Refused(ErrorCode.UNAVAILABLE, "Reversals are paused for this org. Try again later.")
        settings.check()
    except InvalidSetting as error:
        raise Refused(ErrorCode.INVALID_SETTING, f"An EMF setting must be corrected: {error}.") from error
    if not settings.allows_reversal_somewhere():
        raise Refused(
            ErrorCode.OFF_FOR_ORG,
            f"Reversals are off for this org. The EMF setting {emf.ALLOW_REVERSAL.name} turns them on.",
        )


def plan_reversal(facts: Facts) -> Plan:
    """Plans the reversal. Refuses 885, 818, 901, 904, 902, 827, 817, 899, 903 (rows 8 to 16), in this order."""
    _check_program(facts)
    _check_customer(facts)
    _check_repeat(facts)
    _check_window(facts)
    points = _points_to_reverse(facts)
    reissue_days = facts.settings.get(emf.REISSUE_DAYS, facts.redemption.program.id)
    plan = Plan(
        points=points,
        lines=_plan_lines(facts, points),
        reissue_expires_at=None if reissue_days is None else facts.now + timedelta(days=reissue_days),
    )
    _check_limits(facts, plan)
    _check_approval(facts, points)
    return plan


def standing_refusal(facts: Facts) -> Refused | None:
    """Returns the refusal that any amount and any repeat would get now: 898, 888, 818, 885, 901, 904 or 827."""
    try:
        check_org(facts.settings)
        _check_program(facts)
        _check_customer(facts)
        _check_window(facts)
    except Refused as refusal:
        return refusal
    return None


def _check_program(facts: Facts) -> None:
    program = facts.redemption.program
    if not program.is_active:
        raise Refused(
            ErrorCode.WRONG_PROGRAM, "The program of this redemption is not active, so its points cannot be reversed."
        )
    if facts.request.program_id not in {None, str(program.public_id)}:
        raise Refused(
            ErrorCode.WRONG_PROGRAM,
            "programId is not the program of this redemption. Send the redemption's program, or leave programId out.",
        )
    if not facts.settings.get(emf.ALLOW_REVERSAL, program.id):
        raise Refused(
            ErrorCode.OFF_FOR_PROGRAM,
            f"Reversals are off for program {program.public_id}."
            f" The EMF setting {emf.ALLOW_REVERSAL.name} turns them on.",
        )


def _check_customer(facts: Facts) -> None:
    customer = facts.redemption.customer
    if customer.status == "MERGED":
        raise Refused(
            ErrorCode.CUSTOMER_NOT_ELIGIBLE,
            customer.merged_reason("Send the identifier of that customer."),
        )
    if customer.status in facts.settings.get(emf.BLOCKED_STATUSES, facts.redemption.program.id):
        raise Refused(
            ErrorCode.CUSTOMER_NOT_ELIGIBLE, f"The customer's status is {customer.status}, which blocks reversals."
        )
    if not customer.reversals_locked:
        return
    until = customer.reversals_locked_until
    if until is None:
        raise Refused(
            ErrorCode.CUSTOMER_LOCKED,
            "Reversals are locked for this customer until they are unlocked in the back office.",
        )
    if until > facts.now:
        raise Refused(
            ErrorCode.CUSTOMER_LOCKED, f"Reversals are locked for this customer until {until:%Y-%m-%dT%H:%M:%SZ}."
        )


def _check_repeat(facts: Facts) -> None:
    earlier = facts.earlier
    if facts.redemption.points_left <= 0:
        raise Refused(
            ErrorCode.NOTHING_LEFT,
            f"All points of this redemption are already reversed. The last reversal is {earlier.last_of_redemption}.",
        )
    if earlier.duplicate is not None:
        raise Refused(
            ErrorCode.DUPLICATE,
            f"The same request was accepted a moment ago as reversal {earlier.duplicate}."
            " To make another reversal, send an Idempotency-Key.",
            staff_reason=f"The same points were reversed a moment ago as reversal {earlier.duplicate}."
            f" To make another reversal, wait until {emf.DUPLICATE_WINDOW_SECONDS.name} has passed.",
        )


def _check_window(facts: Facts) -> None:
    days = facts.settings.get(emf.WINDOW_DAYS, facts.redemption.program.id)
    if days is None:
        return
    if facts.now - facts.redemption.redeemed_at > timedelta(days=days):
        raise Refused(
            ErrorCode.OUTSIDE_WINDOW,
            f"The points were redeemed more than {quantity(days, 'day')} ago, which is too long for a reversal.",
        )


def _points_to_reverse(facts: Facts) -> Decimal:
    left = facts.redemption.points_left
    asked = facts.request.points_asked
    if asked is None:
        return left
    if asked > left:
        raise Refused(
            ErrorCode.MORE_THAN_LEFT, f"{quantity(asked, 'point')} requested, {written(left)} remaining to reverse."
        )
    return asked


def _plan_lines(facts: Facts, points: Decimal) -> tuple[PlannedLine, ...]:
    """Reverses in the opposite order of drawing. So redeeming r and reversing p leaves the same as redeeming r - p."""
    reissues = facts.settings.get(emf.REISSUE_DAYS, facts.redemption.program.id) is not None
    lines: list[PlannedLine] = []
    missing = points
    for draw in reversed(facts.redemption.draws):
        returned = min(missing, draw.points_left)
        if not returned:
            continue
        lines.append(_plan_line(draw, returned, reissues=reissues, now=facts.now))
        missing -= returned
    return tuple(lines)


def _plan_line(draw: DrawFacts, points: Decimal, *, reissues: bool, now: datetime) -> PlannedLine:
    has_expired = draw.has_expired(now)
    if reissues and (draw.lot_id is None or (has_expired and not draw.lot_is_reissue)):
        return PlannedLine(draw, points, available=points, expired=ZERO, reissued=points)
    if draw.lot_id is None:
        raise Refused(
            ErrorCode.NO_LOT_TO_RETURN_TO,
            f"{written(points)} of the points did not come from a lot and cannot be reversed to one."
            f" Request fewer points, or allow re-issue with the EMF setting {emf.REISSUE_DAYS.name}.",
        )
    if has_expired:
        return PlannedLine(draw, points, available=ZERO, expired=points, reissued=ZERO)
    return PlannedLine(draw, points, available=points, expired=ZERO, reissued=ZERO)


def _check_limits(facts: Facts, plan: Plan) -> None:
    """Checks the limits of the customer who redeemed, and of each customer to whose lots points are reversed."""
    customer_id = facts.redemption.customer.id
    points = plan.points_by_owner(facts.redemption) | {customer_id: plan.points}
    for owner_id in (customer_id, *(owner for owner in points if owner != customer_id)):
        whose = "this customer" if owner_id == customer_id else "a group member who owns some of the points"
        _check_limits_of(facts, facts.earlier.limit_use.get(owner_id, LimitUse()), points[owner_id], whose)


def _check_limits_of(facts: Facts, used: LimitUse, points: Decimal, whose: str) -> None:
    program_id = facts.redemption.program.id
    days = facts.settings.get(emf.LIMIT_DAYS, program_id)
    count_limit = facts.settings.get(emf.LIMIT_COUNT, program_id)
    if count_limit is not None and used.count + 1 > count_limit:
        raise Refused(
            ErrorCode.LIMIT_EXCEEDED,
            f"{emf.LIMIT_COUNT.name} allows {quantity(count_limit, 'reversal')} within {quantity(days, 'day')}:"
            f" {used.count} already made for {whose}.",
        )
    points_limit = facts.settings.get(emf.LIMIT_POINTS, program_id)
    if points_limit is not None and used.points + points > points_limit:
        raise Refused(
            ErrorCode.LIMIT_EXCEEDED,
            f"{emf.LIMIT_POINTS.name} allows {quantity(points_limit, 'point')} within {quantity(days, 'day')}:"
            f" {written(used.points)} already reversed for {whose}, {written(points)} more requested.",
        )


def why_approval(facts: Facts, points: Decimal) -> str | None:
    """Why a manual reversal of that many points needs an approval, or None if it needs none."""
    if not facts.is_manual:
        return None
    earlier = facts.earlier
    if earlier.user_lifted_status:
        return (
            "A user who lifted the customer's status FRAUD or DEACTIVATED cannot reverse their points alone for a day."
        )
    for key, used, of_what in (
        (emf.APPROVAL_POINTS, earlier.points_reversed_manually, "of a redemption"),
        (emf.APPROVAL_POINTS_PER_DAY, earlier.points_of_user, "of a user in 24 hours"),
    ):
        limit = facts.settings.get(key, facts.redemption.program.id)
        if limit is not None and used + points > limit:
            requested = f"{written(used)} already reversed, {written(points)} more" if used else written(points)
            allowed = f"{quantity(limit, 'point')} {of_what} without approval"
            return f"{key.name} allows {allowed}: {requested} requested."
    return None


def _check_approval(facts: Facts, points: Decimal) -> None:
    why = None if facts.is_approved else why_approval(facts, points)
    if why is not None:
        raise Refused(ErrorCode.NEEDS_APPROVAL, f"{why} A second user must approve the reversal in the back office.")
