"""The exact reasons of refused reversals, in order of precedence, without a database."""

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
    plan_reversal,
    why_approval,
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
            "Reversals are paused for this org. Try again later.",
        ),
        (
            {"Reversal_limit_days": "soon"},
            ErrorCode.INVALID_SETTING,
            "An EMF setting must be corrected: the stored value 'soon' of Reversal_limit_days is not valid:"
            " expected a whole number from 1 to 36500.",
        ),
        ({}, ErrorCode.OFF_FOR_ORG, f"Reversals are off for this org. The EMF setting {SWITCH} turns them on."),
    ],
)
def test_settings_of_the_org_are_checked_before_any_look_up(
    stored: dict[str, str], error: ErrorCode, reason: str
) -> None:
    with pytest.raises(Refused) as raised:
        check_org(EmfSettings({(None, name): text for name, text in stored.items()}))
    assert (raised.value.error, raised.value.reason) == (error, reason)
    check_org(EmfSettings({(None, SWITCH): "yes"}))


def test_the_program_must_be_active_match_the_requested_one_and_allow_reversals() -> None:
    case = facts(draw(1, 5))
    inactive = replace(case, redemption=replace(case.redemption, program=ProgramFacts(1, 973, False)))
    assert refusal(inactive) == (
        ErrorCode.WRONG_PROGRAM,
        "The program of this redemption is not active, so its points cannot be reversed.",
    )
    other = replace(case, request=ReversalRequest("R1", None, None, None, "974"))
    assert refusal(other) == (
        ErrorCode.WRONG_PROGRAM,
        "programId is not the program of this redemption. Send the redemption's program, or leave programId out.",
    )
    assert plan_reversal(replace(other, request=replace(other.request, program_id="973"))).points == 5
    off = replace(case, settings=EmfSettings({(None, SWITCH): "yes", (1, SWITCH): "no"}))
    assert refusal(off) == (
        ErrorCode.OFF_FOR_PROGRAM,
        f"Reversals are off for program 973. The EMF setting {SWITCH} turns them on.",
    )


def test_the_reason_states_why_a_customer_is_not_eligible() -> None:
    case = facts(draw(1, 5))
    customer = case.redemption.customer
    assert refusal(of_customer(case, replace(customer, status="MERGED"))) == (
        ErrorCode.CUSTOMER_NOT_ELIGIBLE,
        "The customer was merged into another customer. Send the identifier of that customer.",
    )
    assert refusal(of_customer(case, replace(customer, status="FRAUD"))) == (
        ErrorCode.CUSTOMER_NOT_ELIGIBLE,
        "The customer's status is FRAUD, which blocks reversals.",
    )
    locked = replace(customer, reversals_locked=True)
    assert refusal(of_customer(case, locked)) == (
        ErrorCode.CUSTOMER_LOCKED,
        "Reversals are locked for this customer until they are unlocked in the back office.",
    )
    assert refusal(of_customer(case, replace(locked, reversals_locked_until=NOW + timedelta(1)))) == (
        ErrorCode.CUSTOMER_LOCKED,
        "Reversals are locked for this customer until 2026-11-23T12:00:00Z.",
    )


def test_a_programs_own_blocked_statuses_override_the_orgs() -> None:
    key = "Reversal_blocked_statuses"
    case = facts(draw(1, 5))
    blocked = EmfSettings({(None, SWITCH): "yes", (None, key): "FRAUD", (1, key): "ACTIVE"})
    assert refusal(replace(case, settings=blocked))[0] is ErrorCode.CUSTOMER_NOT_ELIGIBLE


def test_the_refusal_of_a_repeat_names_the_earlier_reversal() -> None:
    spent = replace(facts(draw(1, 5, reversed_points=5)), earlier=EarlierReversals(last_of_redemption="V1"))
    assert refusal(spent) == (
        ErrorCode.NOTHING_LEFT,
        "All points of this redemption are already reversed. The last reversal is V1.",
    )
    again = replace(facts(draw(1, 5, reversed_points=4)), earlier=EarlierReversals(duplicate="V2"))
    with pytest.raises(Refused) as raised:
        plan_reversal(again)
    assert raised.value.staff_reason == (
        "The same points were reversed a moment ago as reversal V2."
        " To make another reversal, wait until Reversal_duplicate_window_seconds has passed."
    )
    assert refusal(again) == (
        ErrorCode.DUPLICATE,
        "The same request was accepted a moment ago as reversal V2. To make another reversal, send an Idempotency-Key.",
    )


def test_the_reason_states_which_points_cannot_be_reversed() -> None:
    settings = {"Reversal_window_days": "1"}
    late = replace(facts(draw(1, 5), settings=settings), now=NOW + timedelta(days=1))
    assert refusal(late) == (
        ErrorCode.OUTSIDE_WINDOW,
        "The points were redeemed more than 1 day ago, which is too long for a reversal.",
    )
    assert refusal(facts(draw(1, 5, reversed_points=1), asked=5)) == (
        ErrorCode.MORE_THAN_LEFT,
        "5 points requested, 4 remaining to reverse.",
    )
    assert plan_reversal(facts(draw(1, 5), asked=5)).points == 5
    assert refusal(facts(no_lot(1, 4), draw(2, 5))) == (
        ErrorCode.NO_LOT_TO_RETURN_TO,
        "4 of the points did not come from a lot and cannot be reversed to one."
        " Request fewer points, or allow re-issue with the EMF setting Reversal_reissue_days.",
    )


def test_the_refusal_by_a_limit_states_how_much_of_it_is_used() -> None:
    earlier = used(count=2, points=Decimal(6))
    case = replace(
        facts(draw(1, 5), settings={"Reversal_limit_count": "2", "Reversal_limit_days": "9"}), earlier=earlier
    )
    assert refusal(case) == (
        ErrorCode.LIMIT_EXCEEDED,
        "Reversal_limit_count allows 2 reversals within 9 days: 2 already made for this customer.",
    )
    case = replace(facts(draw(1, 5), settings={"Reversal_limit_points": "9"}), earlier=earlier)
    assert refusal(case) == (
        ErrorCode.LIMIT_EXCEEDED,
        "Reversal_limit_points allows 9 points within 30 days: 6 already reversed for this customer, 5 more requested.",
    )


def test_the_refusal_for_missing_approval_states_points_and_limit() -> None:
    case = replace(facts(draw(1, 9), asked=4, settings={"Reversal_approval_points": "5"}), is_manual=True)
    assert plan_reversal(case).points == 4
    after = replace(case, earlier=EarlierReversals(points_reversed_manually=Decimal(2)))
    assert refusal(after) == (
        ErrorCode.NEEDS_APPROVAL,
        "Reversal_approval_points allows 5 points of a redemption without approval: 2 already reversed, 4 more"
        " requested. A second user must approve the reversal in the back office.",
    )
    large = replace(case, request=replace(case.request, points_asked=Decimal(6)))
    assert refusal(large) == (
        ErrorCode.NEEDS_APPROVAL,
        "Reversal_approval_points allows 5 points of a redemption without approval: 6 requested."
        " A second user must approve the reversal in the back office.",
    )
    assert [why_approval(each, Decimal(4)) is None for each in (case, after)] == [True, False]
    by_user = replace(
        facts(draw(1, 9), asked=4, settings={"Reversal_approval_points_per_day": "5"}),
        is_manual=True,
        earlier=EarlierReversals(points_of_user=Decimal(2)),
    )
    assert refusal(by_user) == (
        ErrorCode.NEEDS_APPROVAL,
        "Reversal_approval_points_per_day allows 5 points of a user in 24 hours without approval: 2 already reversed,"
        " 4 more requested. A second user must approve the reversal in the back office.",
    )


@pytest.mark.parametrize(
    ("key", "text", "error"),
    [
        ("Reversal_window_days", "1", ErrorCode.OUTSIDE_WINDOW),
        ("Reversal_limit_count", "0", ErrorCode.LIMIT_EXCEEDED),
        ("Reversal_limit_points", "0", ErrorCode.LIMIT_EXCEEDED),
        ("Reversal_approval_points", "0", ErrorCode.NEEDS_APPROVAL),
    ],
)
def test_a_programs_own_setting_overrides_the_orgs_setting(key: str, text: str, error: ErrorCode) -> None:
    settings = EmfSettings({(None, SWITCH): "yes", (1, key): text})
    case = replace(facts(draw(1, 5)), settings=settings, is_manual=True)
    old = replace(case, redemption=replace(case.redemption, redeemed_at=NOW - timedelta(days=2)))
    assert refusal(old)[0] is error


def test_a_programs_own_limit_period_and_reissue_days_apply() -> None:
    stored = {(None, SWITCH): "yes", (1, "Reversal_limit_days"): "9", (1, "Reversal_limit_count"): "0"}
    assert refusal(replace(facts(draw(1, 5)), settings=EmfSettings(stored)))[1].endswith(
        "within 9 days: 0 already made for this customer."
    )
    own = EmfSettings({(None, SWITCH): "yes", (1, "Reversal_reissue_days"): "30"})
    plan = plan_reversal(replace(facts(no_lot(1, 5)), settings=own))
    assert (plan.reissued, plan.reissue_expires_at) == (5, NOW + timedelta(days=30))


def test_a_line_counts_available_and_expired_points() -> None:
    expired = draw(1, 4, expires_in=timedelta(0))
    for settings in ({}, {"Reversal_reissue_days": "30"}):
        plan = plan_reversal(facts(expired, draw(2, 5), settings=settings))
        assert [line.points for line in plan.lines] == [5, 4]


def test_points_without_a_lot_are_reversed_to_the_redemptions_customer() -> None:
    redemption = facts(draw(1, 5)).redemption
    zero, draws = Decimal(0), (draw(1, 5, owner=7), no_lot(2, 5))
    owners = [PlannedLine(each, zero, zero, zero, zero).owner_id(redemption) for each in draws]
    assert owners == [7, 1]
