"""The rules of corrections, without a database: the text of each refusal, and the points taken from each lot."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from loyalty.emf.registry import EmfSettings
from loyalty.ledger.snapshots import CustomerFacts, LotFacts, WalletLot
from reversals.movements.correct.rules import Facts, LineFacts, ReversalFacts, check_org, plan_correction
from reversals.refusals import CorrectionError, Refused

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def lot(number: int, remaining: int) -> WalletLot:
    facts = LotFacts(number, 564, Decimal(remaining), NOW - timedelta(days=9), None)
    return WalletLot(facts, f"L{number}", 1, 1, 973)


def line(number: int, points: int, *, lot_id: int | None = None, new: int | None = None) -> LineFacts:
    return LineFacts(number, Decimal(points), lot_id, new, None)


def facts(*lines: LineFacts, remaining: dict[int, int]) -> Facts:
    points = sum((each.points for each in lines), Decimal(0))
    return Facts(
        reversal=ReversalFacts(1, "V1", 1, "R1", 1, points, lines),
        corrected_at=None,
        customer=CustomerFacts(1, 564, "ACTIVE", False, None),
        lots={number: lot(number, points) for number, points in remaining.items()},
        is_approved=True,
        now=NOW,
    )


def refusal(case: Facts) -> tuple[object, str]:
    with pytest.raises(Refused) as raised:
        plan_correction(case)
    return raised.value.error, raised.value.reason


def test_a_correction_takes_from_each_lot_the_points_reversed_to_it() -> None:
    plan = plan_correction(facts(line(1, 5, lot_id=10), line(2, 4, lot_id=11), remaining={10: 5, 11: 9}))
    assert (plan.points, plan.replaced) == (9, {})
    assert [(taking.lot.lot_ref, taking.points, taking.missing) for taking in plan.takings] == [
        ("L10", 5, 0),
        ("L11", 4, 0),
    ]


def test_reissued_points_are_taken_from_the_new_lot_only() -> None:
    lines = (line(1, 5, lot_id=10), line(2, 4, lot_id=11, new=20), line(3, 2, new=20))
    plan = plan_correction(facts(*lines, remaining={10: 5, 11: 0, 20: 6}))
    assert [(taking.lot.lot_ref, taking.points, taking.lot_was_reissued) for taking in plan.takings] == [
        ("L10", 5, False),
        ("L20", 6, True),
    ]
    assert plan.replaced == {11: 4}


def test_two_lines_of_one_lot_are_combined() -> None:
    plan = plan_correction(facts(line(1, 5, lot_id=10), line(2, 4, lot_id=10), remaining={10: 9}))
    assert [(taking.lot.lot_ref, taking.points) for taking in plan.takings] == [("L10", 9)]


def test_customers_and_lots_of_a_reversal_include_all_that_received_points() -> None:
    lines = (line(1, 5, lot_id=10), replace(line(2, 4, lot_id=11, new=12), lot_customer_id=3))
    reversal = ReversalFacts(1, "V1", 1, "R1", 2, Decimal(9), lines)
    assert (reversal.customer_ids, reversal.lot_ids) == ({2, 3}, {10, 11, 12})


def test_the_reason_names_at_most_three_lots_whose_points_were_spent() -> None:
    case = facts(*[line(number, 5, lot_id=number) for number in (1, 2, 3)], remaining={1: 4, 2: 5, 3: 0})
    assert refusal(case) == (
        CorrectionError.MORE_THAN_REMAINING,
        "6 of 15 reversed points cannot be taken back (1 of lot L1, 5 of lot L3): they were redeemed or"
        " re-issued since. A reversal can only be corrected in full.",
    )
    exactly_three = facts(*[line(number, 1, lot_id=number) for number in (1, 2, 3)], remaining={1: 0, 2: 0, 3: 0})
    assert "(1 of lot L1, 1 of lot L2, 1 of lot L3):" in refusal(exactly_three)[1]
    numbers = range(1, 5)
    many = facts(*[line(number, 1, lot_id=number) for number in numbers], remaining=dict.fromkeys(numbers, 0))
    assert "(1 of lot L1, 1 of lot L2, 1 of lot L3 and 1 more lot):" in refusal(many)[1]


def test_refusals_of_a_correction_come_in_order_of_precedence() -> None:
    case = facts(line(1, 5, lot_id=1), remaining={1: 4})
    case = replace(case, customer=replace(case.customer, status="MERGED"), corrected_at=NOW, is_approved=False)
    merged = (
        CorrectionError.CUSTOMER_NOT_ELIGIBLE,
        "The customer was merged into another customer, so the reversal cannot be corrected.",
    )
    assert refusal(case) == merged
    case = replace(case, customer=replace(case.customer, status="FRAUD"))
    assert refusal(case) == (
        CorrectionError.ALREADY_CORRECTED,
        "Reversal V1 was already corrected at 2026-11-22T12:00:00Z.",
    )
    case = replace(case, corrected_at=None)
    assert refusal(case)[0] is CorrectionError.MORE_THAN_REMAINING
    case = replace(case, lots={1: lot(1, 5)})
    assert refusal(case) == (
        CorrectionError.NEEDS_APPROVAL,
        "A second user must approve a correction.",
    )
    assert plan_correction(replace(case, is_approved=True)).points == 5


@pytest.mark.parametrize(
    ("stored", "error", "reason"),
    [
        (
            {"Reversal_paused": "yes"},
            CorrectionError.UNAVAILABLE,
            "Reversals and corrections are paused for this org. Try again later.",
        ),
        (
            {"Reversal_limit_days": "soon"},
            CorrectionError.INVALID_SETTING,
            "An EMF setting must be corrected: the stored value 'soon' of Reversal_limit_days is not valid:"
            " expected a whole number from 1 to 36500.",
        ),
    ],
)
def test_settings_of_the_org_are_checked_before_any_look_up(
    stored: dict[str, str], error: CorrectionError, reason: str
) -> None:
    with pytest.raises(Refused) as raised:
        check_org(EmfSettings({(None, name): text for name, text in stored.items()}))
    assert (raised.value.error, raised.value.reason) == (error, reason)
    check_org(EmfSettings({(None, "Reversal_paused"): "no"}))
