"""Looks up earlier reversals for more than one kind of movement."""

from django.db.models import Exists, OuterRef, QuerySet

from loyalty.ledger.identifiers import Identifier
from loyalty.ledger.queries import find_customer_id, with_merged
from loyalty.ledger.sql import Statement
from reversals.models import Correction, Reversal


def standing(org_id: int) -> QuerySet[Reversal]:
    """The org's reversals that were not corrected."""
    corrections = Correction.objects.filter(org_id=org_id, reversal_id=OuterRef("id"))
    return Reversal.objects.filter(~Exists(corrections), org_id=org_id)


def last_reversal_of(*, org_id: int, redemption_id: int) -> str | None:
    """The public id of the redemption's last reversal that was not corrected; None if there is no such reversal."""
    reversals = standing(org_id).filter(redemption_id=redemption_id).order_by("-created_at", "-id")
    return reversals.values_list("public_id", flat=True).first()


def is_reversal(*, org_id: int, public_id: str, identifier: Identifier | None) -> bool:
    """Whether the public id is that of a reversal: of the customer with this identifier, or of any customer if None."""
    named = Reversal.objects.filter(org_id=org_id, public_id=public_id)
    if identifier is None:
        return named.exists()
    customer_id = find_customer_id(org_id=org_id, identifier=identifier)
    if customer_id is None:
        return False
    return named.filter(customer_id__in=with_merged(org_id=org_id, customer_id=customer_id)).exists()


def names_a_reversal(*, org_id: int, public_id: str) -> Statement:
    """An SQL condition for a locking statement: whether a reversal already has the public id."""
    named = "EXISTS (SELECT 1 FROM reversals_reversal named WHERE named.org_id = %s AND named.public_id = %s)"
    return named, [org_id, public_id]
