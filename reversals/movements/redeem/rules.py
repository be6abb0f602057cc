"""Decides on one redemption: takes facts, and returns a plan or refuses. Uses no clock, no database and no Django."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeVar

from loyalty.emf import registry as emf
from loyalty.emf.registry import EmfKey, EmfSettings, InvalidSetting
from loyalty.ledger.canonical import canonical
from loyalty.ledger.drawing import PlannedDraw, plan_draws
from loyalty.ledger.points import written
from loyalty.ledger.snapshots import CustomerFacts, ProgramFacts, RedemptionRecord, WalletLot
from reversals.movements.quantities import quantity
from reversals.movements.redeem.requests import RedemptionRequest
from reversals.refusals import RedemptionError, Refused

ZERO = Decimal(0)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that one redemption is decided on, read after the rows were locked.

    `lots` can be drawn on: those of the customer, and those of the other active members if the org lets a member
    redeem the points of the group. `repeats` is the public id of the redemption that this one would repeat.
    """

    request: RedemptionRequest
    customer: CustomerFacts
    programs: Sequence[ProgramFacts]
    lots: Sequence[WalletLot]
    now: datetime
    repeats: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """An allowed redemption: its program, and its draws in order."""

    program: ProgramFacts
    draws: tuple[PlannedDraw, ...]


def redeems_for_group(settings: EmfSettings) -> bool:
    """Whether a member redeems the points of all active members of the group. Refuses 888."""
    return _in_force(settings, emf.CROSS_MEMBER_REDEMPTION)


def duplicate_window(settings: EmfSettings) -> timedelta:
    """How long a request without key and reference number is refused if it repeats a redemption. Refuses 888."""
    return timedelta(seconds=_in_force(settings, emf.REDEMPTION_DUPLICATE_WINDOW_SECONDS))


def _in_force(settings: EmfSettings, key: EmfKey[T]) -> T:
    try:
        return settings.get(key)
    except InvalidSetting as error:
        raise Refused(RedemptionError.INVALID_SETTING, f"An EMF setting must be corrected: {error}.") from error


def check_repeat(
    request: RedemptionRequest, earlier: RedemptionRecord, reversal_id: str | None, *, merged_into: int | None = None
) -> None:
    """Refuses 887 (HTTP 422) unless the request repeats `earlier`, which has its external reference number.

    `merged_into` is the customer id into which the requested customer was merged: the redemption moved there.
    It is no repeat if its content differs, or if points of `earlier` were reversed: last by `reversal_id`, a public id.
    """
    programs = {None, str(earlier.program_id)}
    if (
        str(earlier.customer_id) not in {request.customer_id, str(merged_into)}
        or request.points_asked != earlier.points
        or request.program_id not in programs
        or request.transaction_number != canonical(earlier.transaction_number)
    ):
        raise Refused(
            RedemptionError.REFERENCE_TAKEN,
            "This externalReferenceNumber was used for a different redemption. Send a new number with a new"
            " redemption.",
        )
    if reversal_id is not None:
        raise Refused(
            RedemptionError.REFERENCE_TAKEN,
            f"This externalReferenceNumber belongs to redemption {earlier.public_id}, of which"
            f" {written(earlier.points_reversed)} of {quantity(earlier.points, 'point')} are already reversed. The last"
            f" reversal is {reversal_id}. Send a new number with a new redemption.",
        )


def plan_redemption(facts: Facts) -> Plan:
    """Plans the redemption. Refuses 885, 8069, 809, 881, 902, 818 (rows 7 to 12), in this order."""
    program = _program(facts)
    _check_customer(facts.customer)
    _check_duplicate(facts.repeats)
    _check_available(facts)
    draws = plan_draws((lot.facts for lot in facts.lots), facts.request.points_asked, at=facts.now)
    return Plan(program, tuple(draws))


def _program(facts: Facts) -> ProgramFacts:
    asked = facts.request.program_id
    if asked is None and len(facts.programs) != 1:
        raise Refused(
            RedemptionError.WRONG_PROGRAM,
            f"The org has {quantity(len(facts.programs), 'program')}. Send the programId of the one to redeem in.",
        )
    for program in facts.programs:
        if asked in {None, str(program.public_id)}:
            if not program.is_active:
                raise Refused(
                    RedemptionError.WRONG_PROGRAM,
                    f"Program {program.public_id} is not active. Send the programId of an active program.",
                )
            return program
    raise Refused(RedemptionError.WRONG_PROGRAM, "The org has no program with this id. Check programId.")


def _check_customer(customer: CustomerFacts) -> None:
    match customer.status:
        case "MERGED":
            raise Refused(
                RedemptionError.CUSTOMER_MERGED,
                customer.merged_reason("Redeem the points of that customer."),
            )
        case "FRAUD":
            raise Refused(
                RedemptionError.CUSTOMER_IS_FRAUD, "The customer's status is FRAUD, which blocks redemptions."
            )
        case "DEACTIVATED":
            raise Refused(
                RedemptionError.CUSTOMER_NOT_ELIGIBLE, "The customer's status is DEACTIVATED, which blocks redemptions."
            )


def _check_duplicate(repeats: str | None) -> None:
    if repeats is not None:
        raise Refused(
            RedemptionError.DUPLICATE,
            f"The same request was accepted a moment ago as redemption {repeats}. To make another redemption, send an"
            " Idempotency-Key or an externalReferenceNumber.",
        )


def _check_available(facts: Facts) -> None:
    available = sum((lot.facts.points_remaining for lot in facts.lots), ZERO)
    if facts.request.points_asked > available:
        raise Refused(
            RedemptionError.MORE_THAN_AVAILABLE,
            f"{quantity(facts.request.points_asked, 'point')} requested, {written(available)} available.",
        )
