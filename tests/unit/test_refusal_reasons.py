"""What a refused reversal is told, word by word and in the order of the ladder, without a database."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from loyalty.emf.registry import EmfSettings
from loyalty.ledger.snapshots import CustomerFacts, ProgramFacts
from reversals.movements.reverse.requests import ReversalRequest
from reversals.movements.reverse.rules import (
    EarlierReversals,
    Facts,
    PlannedLine,
    check_org,
    needs_approval,
    plan_reversal,
)
from reversals.refusals import ErrorCode, Refused
from tests.unit.test_rules import NOW, draw, facts, no_lot, used

SWITCH = "Allow_points_redemption_reversal"


def refusal(case: Facts) -> tuple[object, str]:
    with pytest.raises(Refused) as raised:
        plan_reversal(case)
    return raised.value.error, raised.value.reason


def of_customer(case: Facts, customer: CustomerFacts) -> Facts:
    return replace(case, redemption=replace(case.redemption, customer=customer))


@pytest.mark.parametrize(
    ("stored", "error", "reason"),
    [
        (
            {"Reversal_paused": "yes", "Reversal_limit_days": "soon"},
            ErrorCode.UNAVAILABLE,
            "Reversals are paused for this org; try again later with the same key.",
        ),
        (
            {"Reversal_limit_days": "soon"},
            ErrorCode.INVALID_SETTING,
            "Staff must correct a setting: the stored value 'soon' of Reversal_limit_days is not valid:"
            " expected a whole number from 1 to 36500.",
        ),
        ({}, ErrorCode.OFF_FOR_ORG, f"{SWITCH} is off for this org; ask its staff to turn it on."),
    ],
)
def test_what_the_org_says_comes_before_any_look_up(stored: dict[str, str], error: ErrorCode, reason: str) -> None:
    with pytest.raises(Refused) as raised:
        check_org(EmfSettings({(None, name): text for name, text in stored.items()}))
    assert (raised.value.error, raised.value.reason) == (error, reason)
    check_org(EmfSettings({(None, SWITCH): "yes"}))


def test_the_program_must_be_active_be_the_one_asked_for_and_have_the_switch_on() -> None:
    case = facts(draw(1, 5))
    asleep = replace(case, redemption=replace(case.redemption, program=ProgramFacts(1, 973, False)))
    assert refusal(asleep) == (ErrorCode.WRONG_PROGRAM, "The program of this redemption is not active.")
    other = replace(case, request=ReversalRequest("R1", None, None, None, "974"))
    assert refusal(other) == (
        ErrorCode.WRONG_PROGRAM,
        "programId is not the program of this redemption; leave it out.",
    )
    assert plan_reversal(replace(other, request=replace(other.request, program_id="973"))).points == 5
    off = replace(case, settings=EmfSettings({(None, SWITCH): "yes", (1, SWITCH): "no"}))
    assert refusal(off) == (
        ErrorCode.OFF_FOR_PROGRAM,
        f"{SWITCH} is off for program 973; ask the org's staff to turn it on.",
    )


def test_a_customer_who_cannot_be_given_back_to_is_told_why() -> None:
    case = facts(draw(1, 5))
    customer = case.redemption.customer
    assert refusal(of_customer(case, replace(customer, status="MERGED"))) == (
        ErrorCode.CUSTOMER_NOT_ELIGIBLE,
        "The customer was merged into another; staff must put it right.",
    )
    assert refusal(of_customer(case, replace(customer, status="FRAUD"))) == (
        ErrorCode.CUSTOMER_NOT_ELIGIBLE,
        "The customer's status is FRAUD, which blocks reversals.",
    )
    locked = replace(customer, reversals_locked=True)
    assert refusal(of_customer(case, locked)) == (
        ErrorCode.CUSTOMER_LOCKED,
        "Reversals are locked for this customer until staff unlock them.",
    )
    assert refusal(of_customer(case, replace(locked, reversals_locked_until=NOW + timedelta(1)))) == (
        ErrorCode.CUSTOMER_LOCKED,
        "Reversals are locked for this customer until 2026-11-23T12:00:00Z.",
    )


def test_a_program_has_statuses_of_its_own_that_block() -> None:
    key = "Reversal_blocked_statuses"
    case = facts(draw(1, 5))
    blocked = EmfSettings({(None, SWITCH): "yes", (None, key): "FRAUD", (1, key): "ACTIVE"})
    assert refusal(replace(case, settings=blocked))[0] is ErrorCode.CUSTOMER_NOT_ELIGIBLE


def test_a_repeat_is_told_what_was_made_before() -> None:
    spent = replace(facts(draw(1, 5, reversed_points=5)), earlier=EarlierReversals(last_of_redemption="V1"))
    assert refusal(spent) == (
        ErrorCode.NOTHING_LEFT,
        "All points of this redemption were reversed already; the last reversal is V1.",
    )
    again = replace(facts(draw(1, 5, reversed_points=4)), earlier=EarlierReversals(duplicate="V2"))
    assert refusal(again) == (
        ErrorCode.DUPLICATE,
        "The same request was accepted a moment ago as reversal V2; if another one is meant, send an Idempotency-Key.",
    )


def test_amounts_that_cannot_be_given_back_are_named() -> None:
    settings = {"Reversal_window_days": "1"}
    late = replace(facts(draw(1, 5), settings=settings), now=NOW + timedelta(days=1))
    assert refusal(late) == (
        ErrorCode.OUTSIDE_WINDOW,
        "The points were redeemed more than 1 days ago; later reversals are not made.",
    )
    assert refusal(facts(draw(1, 5, reversed_points=1), asked=5)) == (
        ErrorCode.MORE_THAN_LEFT,
        "5 points were asked and 4 are left to reverse.",
    )
    assert plan_reversal(facts(draw(1, 5), asked=5)).points == 5
    assert refusal(facts(no_lot(1, 4), draw(2, 5))) == (
        ErrorCode.NO_LOT_TO_RETURN_TO,
        "4 of the points came from no lot that could take them back;"
        " staff must set Reversal_reissue_days, or ask for fewer points.",
    )


def test_limits_are_told_with_what_is_used_of_them() -> None:
    earlier = used(count=2, points=Decimal(6))
    case = replace(
        facts(draw(1, 5), settings={"Reversal_limit_count": "2", "Reversal_limit_days": "9"}), earlier=earlier
    )
    assert refusal(case) == (
        ErrorCode.LIMIT_EXCEEDED,
        "Reversal_limit_count: 2 of 2 reversals within 9 days are used.",
    )
    case = replace(facts(draw(1, 5), settings={"Reversal_limit_points": "9"}), earlier=earlier)
    assert refusal(case) == (
        ErrorCode.LIMIT_EXCEEDED,
        "Reversal_limit_points: 6 of 9 points within 30 days are used, and 5 more were asked.",
    )


def test_what_one_person_may_not_give_back_alone_is_told() -> None:
    case = replace(facts(draw(1, 9), asked=4, settings={"Reversal_approval_points": "5"}), is_manual=True)
    assert plan_reversal(case).points == 4
    after = replace(case, earlier=EarlierReversals(points_reversed_manually=Decimal(2)))
    assert refusal(after) == (
        ErrorCode.NEEDS_APPROVAL,
        "4 points after 2 of the same redemption are more than Reversal_approval_points (5)"
        " allows one person to reverse.",
    )
    large = replace(case, request=replace(case.request, points_asked=Decimal(6)))
    assert refusal(large) == (
        ErrorCode.NEEDS_APPROVAL,
        "6 points are more than Reversal_approval_points (5) allows one person to reverse.",
    )
    assert [needs_approval(each, Decimal(4)) for each in (case, after)] == [False, True]


@pytest.mark.parametrize(
    ("key", "text", "error"),
    [
        ("Reversal_window_days", "1", ErrorCode.OUTSIDE_WINDOW),
        ("Reversal_limit_count", "0", ErrorCode.LIMIT_EXCEEDED),
        ("Reversal_limit_points", "0", ErrorCode.LIMIT_EXCEEDED),
        ("Reversal_approval_points", "0", ErrorCode.NEEDS_APPROVAL),
    ],
)
def test_a_programs_own_value_decides(key: str, text: str, error: ErrorCode) -> None:
    settings = EmfSettings({(None, SWITCH): "yes", (1, key): text})
    case = replace(facts(draw(1, 5)), settings=settings, is_manual=True)
    old = replace(case, redemption=replace(case.redemption, redeemed_at=NOW - timedelta(days=2)))
    assert refusal(old)[0] is error


def test_a_programs_own_period_is_told_and_its_own_days_of_reissue_count() -> None:
    stored = {(None, SWITCH): "yes", (1, "Reversal_limit_days"): "9", (1, "Reversal_limit_count"): "0"}
    assert refusal(replace(facts(draw(1, 5)), settings=EmfSettings(stored)))[1].endswith("within 9 days are used.")
    own = EmfSettings({(None, SWITCH): "yes", (1, "Reversal_reissue_days"): "30"})
    plan = plan_reversal(replace(facts(no_lot(1, 5)), settings=own))
    assert (plan.reissued, plan.reissue_expires_at) == (5, NOW + timedelta(days=30))


def test_a_line_holds_its_points_whether_they_can_be_used_or_not() -> None:
    expired = draw(1, 4, expires_in=timedelta(0))
    for settings in ({}, {"Reversal_reissue_days": "30"}):
        plan = plan_reversal(facts(expired, draw(2, 5), settings=settings))
        assert [line.points for line in plan.lines] == [5, 4]


def test_points_without_a_lots_owner_go_to_the_customer() -> None:
    redemption = facts(draw(1, 5)).redemption
    zero, draws = Decimal(0), (draw(1, 5, owner=7), no_lot(2, 5))
    owners = [PlannedLine(each, zero, zero, zero, zero).owner_id(redemption) for each in draws]
    assert owners == [7, 1]
