"""Decides on one redemption: facts in, a plan out, or a refusal. No clock, no database and no Django here."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from loyalty.emf import registry as emf
from loyalty.emf.registry import EmfSettings, InvalidSetting
from loyalty.ledger.drawing import PlannedDraw, plan_draws
from loyalty.ledger.points import written
from loyalty.ledger.snapshots import CustomerFacts, ProgramFacts, RedemptionRecord, WalletLot
from reversals.movements.redeem.requests import RedemptionRequest
from reversals.refusals import RedemptionError, Refused

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the decision on one redemption rests on, read after the rows were locked.

    `lots` can be drawn on: the customer's, and the other active members' where points of the group may be redeemed.
    """

    request: RedemptionRequest
    customer: CustomerFacts
    programs: Sequence[ProgramFacts]
    lots: Sequence[WalletLot]
    now: datetime


@dataclass(frozen=True, slots=True)
class Plan:
    """A redemption that may be made: its program, and its draws in their order."""

    program: ProgramFacts
    draws: tuple[PlannedDraw, ...]


def redeems_for_group(settings: EmfSettings) -> bool:
    """Whether a member redeems the points of all active members of their group. Refuses 888."""
    try:
        return settings.get(emf.CROSS_MEMBER_REDEMPTION)
    except InvalidSetting as error:
        raise Refused(RedemptionError.INVALID_SETTING, f"Staff must correct a setting: {error}.") from error


def check_repeat(request: RedemptionRequest, earlier: RedemptionRecord, reversal_id: str | None) -> None:
    """Refuses 887 (422) where the external reference number cannot stand for `earlier`, which has it.

    That is a redemption of other content, or one of which `reversal_id` (public) is the last reversal.
    """
    programs = {None, str(earlier.program_id)}
    if (
        request.customer_id != str(earlier.customer_id)
        or request.points_asked != earlier.points
        or request.program_id not in programs
        or request.transaction_number != earlier.transaction_number
    ):
        raise Refused(
            RedemptionError.REFERENCE_TAKEN,
            "This externalReferenceNumber was used for another redemption; send a new one with a new redemption.",
        )
    if reversal_id is not None:
        raise Refused(
            RedemptionError.REFERENCE_TAKEN,
            f"This externalReferenceNumber belongs to redemption {earlier.public_id}, of which"
            f" {written(earlier.points_reversed)} of {written(earlier.points)} points were reversed (last by reversal"
            f" {reversal_id}); send a new one with a new redemption.",
        )


def plan_redemption(facts: Facts) -> Plan:
    """The redemption to write. Refuses 885, 8069, 809, 881, 818 (rows 7 to 11), in this order."""
    program = _program(facts)
    _check_customer(facts.customer)
    _check_available(facts)
    draws = plan_draws((lot.facts for lot in facts.lots), facts.request.points_asked, at=facts.now)
    return Plan(program, tuple(draws))


def _program(facts: Facts) -> ProgramFacts:
    asked = facts.request.program_id
    if asked is None and len(facts.programs) != 1:
        raise Refused(
            RedemptionError.WRONG_PROGRAM, f"The org has {len(facts.programs)} programs; send the programId of one."
        )
    for program in facts.programs:
        if asked in {None, str(program.public_id)}:
            if not program.is_active:
                raise Refused(RedemptionError.WRONG_PROGRAM, f"Program {program.public_id} is not active.")
            return program
    raise Refused(RedemptionError.WRONG_PROGRAM, "There is no such program; check programId.")


def _check_customer(customer: CustomerFacts) -> None:
    match customer.status:
        case "MERGED":
            raise Refused(
                RedemptionError.CUSTOMER_MERGED, "The customer was merged into another; redeem for the other one."
            )
        case "FRAUD":
            raise Refused(RedemptionError.CUSTOMER_IS_FRAUD, "The customer's status is FRAUD, which blocks redemption.")
        case "DEACTIVATED":
            raise Refused(
                RedemptionError.CUSTOMER_NOT_ELIGIBLE, "The customer's status is DEACTIVATED, which blocks redemption."
            )


def _check_available(facts: Facts) -> None:
    available = sum((lot.facts.points_remaining for lot in facts.lots), ZERO)
    if facts.request.points_asked > available:
        raise Refused(
            RedemptionError.MORE_THAN_AVAILABLE,
            f"{written(facts.request.points_asked)} points were asked and {written(available)} are available.",
        )
