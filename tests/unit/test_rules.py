"""The rules of reversals, without a database: which points are reversed to which lot, and which count as expired."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from loyalty.emf.registry import EmfSettings
from loyalty.ledger.snapshots import CustomerFacts, DrawFacts, ProgramFacts, RedemptionFacts
from reversals.movements.reverse.requests import ReversalRequest
from reversals.movements.reverse.rules import ZERO, EarlierReversals, Facts, LimitUse, Plan, plan_reversal
from reversals.refusals import ErrorCode, Refused

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
ON = {(None, "Allow_points_redemption_reversal"): "yes"}


def draw(
    number: int,
    points: int,
    *,
    reversed_points: int = 0,
    expires_in: timedelta | None = None,
    owner: int = 1,
    is_reissue: bool = False,
) -> DrawFacts:
    return DrawFacts(
        id=number,
        position=number,
        points=Decimal(points),
        points_reversed=Decimal(reversed_points),
        lot_id=100 + number,
        lot_ref=f"L{number}",
        lot_expires_at=None if expires_in is None else NOW + expires_in,
        lot_customer_id=owner,
        lot_is_reissue=is_reissue,
    )


def no_lot(number: int, points: int) -> DrawFacts:
    return DrawFacts(number, number, Decimal(points), Decimal(0), None, None, None, None, False)


def facts(*draws: DrawFacts, asked: int | None = None, settings: dict[str, str] | None = None) -> Facts:
    stored = ON | {(None, key): value for key, value in (settings or {}).items()}
    return Facts(
        request=ReversalRequest("R1", None, None, None if asked is None else Decimal(asked)),
        settings=EmfSettings(stored),
        redemption=RedemptionFacts(
            id=1,
            public_id="R1",
            points=sum((each.points for each in draws), Decimal(0)),
            points_reversed=sum((each.points_reversed for each in draws), Decimal(0)),
            redeemed_at=NOW - timedelta(days=1),
            customer=CustomerFacts(1, 564, "ACTIVE", False, None),
            program=ProgramFacts(1, 973, True),
            draws=draws,
            locked_at=NOW,
            candidate_is_taken=False,
            has_webhooks=False,
        ),
        earlier=EarlierReversals(),
        is_manual=False,
        is_approved=False,
        now=NOW,
    )


def used(*, by: int = 1, count: int = 0, points: Decimal = ZERO) -> EarlierReversals:
    """Returns how much of the limits the customer with row id `by` has used. Customer 1 redeemed the points."""
    return EarlierReversals(limit_use={by: LimitUse(count, points)})


def lines(plan: Plan) -> list[tuple[int, int, int, int]]:
    """Returns (draw id, available, expired, reissued) of each line."""
    return [(line.draw.id, int(line.available), int(line.expired), int(line.reissued)) for line in plan.lines]


def test_the_last_draw_is_reversed_first() -> None:
    assert lines(plan_reversal(facts(draw(1, 5), draw(2, 5), draw(3, 5), asked=7))) == [(3, 5, 0, 0), (2, 2, 0, 0)]


def test_points_reversed_earlier_are_not_reversed_again() -> None:
    plan = plan_reversal(facts(draw(1, 5), draw(2, 5, reversed_points=3), draw(3, 5, reversed_points=5)))
    assert lines(plan) == [(2, 2, 0, 0), (1, 5, 0, 0)]
    assert plan.points == 7


def test_a_lot_expires_exactly_at_its_expiry_time() -> None:
    at_the_moment = draw(1, 5, expires_in=timedelta(0))
    just_before = draw(2, 5, expires_in=timedelta(microseconds=1))
    plan = plan_reversal(facts(at_the_moment, just_before))
    assert lines(plan) == [(2, 5, 0, 0), (1, 0, 5, 0)]
    assert (plan.points, plan.available, plan.expired) == (10, 5, 5)


def test_expired_points_are_reissued_if_the_setting_is_on() -> None:
    settings = {"Reversal_reissue_days": "30"}
    plan = plan_reversal(facts(no_lot(1, 4), draw(2, 5, expires_in=timedelta(-1)), draw(3, 1), settings=settings))
    assert lines(plan) == [(3, 1, 0, 0), (2, 5, 0, 5), (1, 4, 0, 4)]
    assert (plan.available, plan.expired, plan.reissued) == (10, 0, 9)
    assert plan.reissue_expires_at == NOW + timedelta(days=30)


def test_points_without_a_lot_are_refused_only_if_the_amount_includes_them() -> None:
    assert lines(plan_reversal(facts(no_lot(1, 4), draw(2, 5), asked=5))) == [(2, 5, 0, 0)]
    with pytest.raises(Refused) as raised:
        plan_reversal(facts(no_lot(1, 4), draw(2, 5), asked=6))
    assert raised.value.error is ErrorCode.NO_LOT_TO_RETURN_TO


def test_a_reversal_later_than_the_window_is_refused() -> None:
    settings = {"Reversal_window_days": "1"}
    assert plan_reversal(facts(draw(1, 5), settings=settings)).points == 5
    late = replace(facts(draw(1, 5), settings=settings), now=NOW + timedelta(microseconds=1))
    with pytest.raises(Refused) as raised:
        plan_reversal(late)
    assert raised.value.error is ErrorCode.OUTSIDE_WINDOW


@pytest.mark.parametrize(("until", "is_refused"), [(NOW, False), (NOW + timedelta(microseconds=1), True), (None, True)])
def test_a_lock_on_reversals_ends_exactly_at_its_end_time(until: datetime | None, is_refused: bool) -> None:
    case = facts(draw(1, 5))
    locked = replace(case.redemption, customer=CustomerFacts(1, 564, "ACTIVE", True, until))
    if not is_refused:
        assert plan_reversal(replace(case, redemption=locked)).points == 5
        return
    with pytest.raises(Refused) as raised:
        plan_reversal(replace(case, redemption=locked))
    assert raised.value.error is ErrorCode.CUSTOMER_LOCKED


@pytest.mark.parametrize(
    ("is_manual", "asked", "is_approved", "is_refused"),
    [(True, 6, False, True), (True, 6, True, False), (True, 5, False, False), (False, 6, False, False)],
)
def test_only_a_large_manual_reversal_needs_approval(
    is_manual: bool, asked: int, is_approved: bool, is_refused: bool
) -> None:
    case = facts(draw(1, 9), asked=asked, settings={"Reversal_approval_points": "5"})
    case = replace(case, is_manual=is_manual, is_approved=is_approved)
    if not is_refused:
        assert plan_reversal(case).points == asked
        return
    with pytest.raises(Refused) as raised:
        plan_reversal(case)
    assert raised.value.error is ErrorCode.NEEDS_APPROVAL


def test_an_approval_limit_of_zero_makes_every_manual_reversal_need_approval() -> None:
    case = facts(draw(1, 9), asked=1, settings={"Reversal_approval_points": "0"})
    with pytest.raises(Refused) as raised:
        plan_reversal(replace(case, is_manual=True, is_approved=False))
    assert raised.value.error is ErrorCode.NEEDS_APPROVAL


@pytest.mark.parametrize(
    ("settings", "earlier", "is_refused"),
    [
        ({"Reversal_limit_count": "2"}, used(count=1), False),
        ({"Reversal_limit_count": "2"}, used(count=2), True),
        ({"Reversal_limit_points": "9"}, used(points=Decimal(4)), False),
        ({"Reversal_limit_points": "9"}, used(points=Decimal("4.001")), True),
        ({"Reversal_limit_count": "0"}, EarlierReversals(), True),
    ],
)
def test_a_reversal_may_reach_a_limit_but_not_exceed_it(
    settings: dict[str, str], earlier: EarlierReversals, is_refused: bool
) -> None:
    case = replace(facts(draw(1, 5), settings=settings), earlier=earlier)
    if not is_refused:
        assert plan_reversal(case).points == 5
        return
    with pytest.raises(Refused) as raised:
        plan_reversal(case)
    assert raised.value.error is ErrorCode.LIMIT_EXCEEDED


@pytest.mark.parametrize(("count", "is_refused"), [(1, False), (2, True)])
def test_limits_apply_to_each_member_whose_points_are_reversed(count: int, is_refused: bool) -> None:
    case = facts(draw(1, 5, owner=8), draw(2, 4), settings={"Reversal_limit_count": "2", "Reversal_limit_points": "9"})
    case = replace(case, earlier=used(by=8, count=count, points=Decimal(4)))
    if not is_refused:
        assert plan_reversal(case).points == 9
        return
    with pytest.raises(Refused) as raised:
        plan_reversal(case)
    assert raised.value.error is ErrorCode.LIMIT_EXCEEDED
    assert raised.value.reason == (
        "Reversal_limit_count allows 2 reversals within 30 days: 2 already made for a group member who owns some of the"
        " points."
    )


def test_points_of_a_reissued_lot_are_not_reissued_again() -> None:
    days = {"Reversal_reissue_days": "30"}
    gone = timedelta(days=-1)
    plan = plan_reversal(
        facts(draw(1, 5, expires_in=gone), draw(2, 4, expires_in=gone, is_reissue=True), settings=days)
    )
    assert lines(plan) == [(2, 0, 4, 0), (1, 5, 0, 5)]
    assert plan.expired_again == 4
    assert plan_reversal(facts(draw(2, 4, expires_in=gone, is_reissue=True))).expired_again == 0
