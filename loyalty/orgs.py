"""Creates and finds orgs and programs, for commands and the admin."""

from django.db import transaction

from loyalty.errors import InvalidOperation
from loyalty.ledger.canonical import canonical
from loyalty.models import Org, Program, ReasonCode

FIRST_REASON_CODES = {
    "GOODS_RETURNED": "The customer returned what was bought.",
    "WRONG_REDEMPTION": "The points were redeemed by mistake.",
    "GOODWILL": "Reversed as a courtesy.",
    "OTHER": "Another reason; see the note.",
}

FIRST_CORRECTION_CODES = {
    "WRONG_CUSTOMER": "The points went to the wrong customer.",
    "WRONG_AMOUNT": "The wrong number of points was reversed.",
    "NOT_RETURNED": "The customer did not return what was bought.",
    "OTHER": "Another reason; see the note.",
}


def find_org(org_id: int) -> Org:
    """Returns the org. Raises InvalidOperation if it does not exist."""
    try:
        return Org.objects.get(id=org_id)
    except Org.DoesNotExist:
        raise InvalidOperation(f"org {org_id} does not exist; create it with create_org") from None


def find_program(org: Org, public_id: int) -> Program:
    """Returns the org's program with this public id. Raises InvalidOperation if it does not exist."""
    try:
        return Program.objects.get(org=org, public_id=public_id)
    except Program.DoesNotExist:
        raise InvalidOperation(f"org {org.id} has no program {public_id}; create it with create_program") from None


@transaction.atomic
def create_org(*, org_id: int, name: str, country: str, v2_enabled: bool, time_zone: str = "UTC") -> Org:
    """Creates an active org with the first reason codes.

    Raises InvalidOperation if the id is taken, and ValidationError for an invalid value.
    """
    if Org.objects.filter(id=org_id).exists():
        raise InvalidOperation(f"org {org_id} exists already")
    org = Org(id=org_id, name=canonical(name), country=country, v2_enabled=v2_enabled, time_zone=time_zone)
    org.full_clean()
    org.save(force_insert=True)
    add_first_reason_codes(org)
    return org


def add_first_reason_codes(org: Org) -> None:
    """Creates the first reason codes of a new org, for manual reversals and corrections. The org can change them."""
    first = {
        ReasonCode.Operation.REVERSE: FIRST_REASON_CODES,
        ReasonCode.Operation.CORRECT: FIRST_CORRECTION_CODES,
    }
    for operation, codes in first.items():
        for code, meaning in codes.items():
            ReasonCode.objects.create(org=org, operation=operation, code=code, meaning=meaning)


def reason_codes(org_id: int, operation: ReasonCode.Operation) -> list[ReasonCode]:
    """Returns the codes that can be selected as the reason of a reversal or a correction."""
    return list(ReasonCode.objects.filter(org_id=org_id, operation=operation, is_active=True).order_by("code"))


@transaction.atomic
def create_program(*, org: Org, public_id: int, name: str) -> Program:
    """Creates an active program of the org.

    Raises InvalidOperation if the id is taken, and ValidationError for an invalid value.
    """
    if Program.objects.filter(org=org, public_id=public_id).exists():
        raise InvalidOperation(f"org {org.id} already has a program {public_id}")
    program = Program(org=org, public_id=public_id, name=canonical(name))
    program.full_clean()
    program.save(force_insert=True)
    return program
