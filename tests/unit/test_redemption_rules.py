"""The rules of redemptions, without a database: the text of each refusal, and the lots that are drawn on."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from loyalty.emf.registry import EmfSettings
from loyalty.ledger.drawing import PlannedDraw, plan_draws
from loyalty.ledger.snapshots import CustomerFacts, LotFacts, ProgramFacts, RedemptionRecord, WalletLot
from reversals.movements.redeem.requests import RedemptionRequest
from reversals.movements.redeem.rules import Facts, check_repeat, plan_redemption, redeems_for_group
from reversals.refusals import RedemptionError, Refused

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
GOLD, BLUE = ProgramFacts(1, 973, True), ProgramFacts(2, 974, True)
REQUEST = RedemptionRequest("564", Decimal(5), None, "T1", "X1")


def lot(number: int, remaining: int, *, expires_in: timedelta | None = None, age: timedelta = timedelta(9)) -> LotFacts:
    return LotFacts(number, 564, Decimal(remaining), NOW - age, None if expires_in is None else NOW + expires_in)


def facts(*lots: LotFacts) -> Facts:
    return Facts(
        request=REQUEST,
        customer=CustomerFacts(1, 564, "ACTIVE", False, None),
        programs=[GOLD],
        lots=[WalletLot(each, f"L{each.id}", 1, 1, 973) for each in lots],
        now=NOW,
    )


def refusal(case: Facts) -> tuple[object, str]:
    with pytest.raises(Refused) as raised:
        plan_redemption(case)
    return raised.value.error, raised.value.reason


def test_lots_are_drawn_by_earliest_expiry_up_to_the_requested_points() -> None:
    lots = [lot(1, 5), lot(2, 5, expires_in=timedelta(2)), lot(3, 2, expires_in=timedelta(1)), lot(4, 5)]
    assert plan_draws(lots, Decimal(7), at=NOW) == [PlannedDraw(3, Decimal(2)), PlannedDraw(2, Decimal(5))]
    assert plan_draws(lots, Decimal(8), at=NOW)[2:] == [PlannedDraw(1, Decimal(1))]


def test_lots_that_cannot_be_drawn_are_skipped_and_uncovered_points_come_first() -> None:
    lots = [lot(1, 0), lot(2, 5, expires_in=timedelta(0)), lot(3, 5, age=timedelta(microseconds=-1)), lot(4, 2)]
    assert plan_draws(lots, Decimal(7), at=NOW) == [PlannedDraw(None, Decimal(5)), PlannedDraw(4, Decimal(2))]


def test_a_redemption_is_planned_for_the_requested_program_or_the_only_one() -> None:
    plan = plan_redemption(facts(lot(1, 5)))
    assert (plan.program, plan.draws) == (GOLD, (PlannedDraw(1, Decimal(5)),))
    asked = replace(facts(lot(1, 5)), programs=[GOLD, BLUE], request=replace(REQUEST, program_id="974"))
    assert plan_redemption(asked).program == BLUE


@pytest.mark.parametrize(
    ("programs", "asked", "reason"),
    [
        ([GOLD, BLUE], None, "The org has 2 programs. Send the programId of the one to redeem in."),
        ([], None, "The org has 0 programs. Send the programId of the one to redeem in."),
        ([GOLD, BLUE], "975", "The org has no program with this id. Check programId."),
        (
            [GOLD, replace(BLUE, is_active=False)],
            "974",
            "Program 974 is not active. Send the programId of an active program.",
        ),
    ],
)
def test_a_missing_unknown_or_inactive_program_is_refused(
    programs: list[ProgramFacts], asked: str | None, reason: str
) -> None:
    case = replace(facts(lot(1, 5)), programs=programs, request=replace(REQUEST, program_id=asked))
    assert refusal(case) == (RedemptionError.WRONG_PROGRAM, reason)


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (
            "MERGED",
            RedemptionError.CUSTOMER_MERGED,
            "The customer was merged into another customer. Redeem the points of that customer.",
        ),
        ("FRAUD", RedemptionError.CUSTOMER_IS_FRAUD, "The customer's status is FRAUD, which blocks redemptions."),
        (
            "DEACTIVATED",
            RedemptionError.CUSTOMER_NOT_ELIGIBLE,
            "The customer's status is DEACTIVATED, which blocks redemptions.",
        ),
    ],
)
def test_a_blocking_status_is_refused_before_points_are_counted(
    status: str, error: RedemptionError, reason: str
) -> None:
    case = facts()
    assert refusal(replace(case, customer=replace(case.customer, status=status))) == (error, reason)


def test_a_redemption_of_more_points_than_available_is_refused() -> None:
    reason = "5 points requested, 4 available."
    assert refusal(facts(lot(1, 1), lot(2, 3))) == (RedemptionError.MORE_THAN_AVAILABLE, reason)


def record() -> RedemptionRecord:
    return RedemptionRecord(1, "R1", 564, 973, Decimal(5), Decimal(0), NOW, "T1", "X1", ())


@pytest.mark.parametrize("program_id", [None, "973"])
def test_the_same_reference_with_the_same_content_is_a_repeat(program_id: str | None) -> None:
    check_repeat(replace(REQUEST, program_id=program_id), record(), None)


@pytest.mark.parametrize(
    "other",
    [{"customer_id": "565"}, {"points_asked": Decimal(6)}, {"program_id": "974"}, {"transaction_number": "T2"}],
)
def test_the_same_reference_with_other_content_is_refused(other: dict[str, object]) -> None:
    with pytest.raises(Refused) as raised:
        check_repeat(replace(REQUEST, **other), record(), None)  # type: ignore[arg-type]
    assert (raised.value.error, raised.value.reason) == (
        RedemptionError.REFERENCE_TAKEN,
        "This externalReferenceNumber was used for a different redemption. Send a new number with a new redemption.",
    )


def test_reference_of_a_redemption_that_was_reversed_is_refused() -> None:
    part_reversed = replace(record(), points_reversed=Decimal(2))
    with pytest.raises(Refused) as raised:
        check_repeat(REQUEST, part_reversed, "V1")
    assert (raised.value.error, raised.value.reason) == (
        RedemptionError.REFERENCE_TAKEN,
        "This externalReferenceNumber belongs to redemption R1, of which 2 of 5 points are already reversed. The last"
        " reversal is V1. Send a new number with a new redemption.",
    )


def test_an_invalid_setting_for_cross_member_redemption_is_refused() -> None:
    key = "Enable_cross_member_redemption"
    assert [redeems_for_group(EmfSettings({(None, key): text})) for text in ("yes", "no")] == [True, False]
    with pytest.raises(Refused) as raised:
        redeems_for_group(EmfSettings({(None, key): "maybe"}))
    assert (raised.value.error, raised.value.reason) == (
        RedemptionError.INVALID_SETTING,
        f"An EMF setting must be corrected: the stored value 'maybe' of {key} is not valid: expected yes or no.",
    )
