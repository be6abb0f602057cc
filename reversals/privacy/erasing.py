"""Erases a customer's identity from every table: those that `loyalty.privacy.erasing` lists, and those of `reversals`.

"If found" means: if the text contains an identifier of the customer.

| table | identity in it | what happens to it |
|---|---|---|
| attempt | `identifier_masked` (its last characters) | emptied in attempts of the customer or with the same text |
| attempt | `reason`, `refusal_reason`, `redemption_id_asked`, `external_reference_asked` | erased if found |
| attempt | `address` | stays until ATTEMPT_ADDRESSES_KEPT_FOR_DAYS: the org's till called from it, not the customer |
| attempt | `fingerprint` | stays: a keyed hash that is needed to recognise a repeat of the key |
| attempt | `idempotency_key`, `reply` | stay: a repeat must find the key, and no stored reply holds an identifier |
| reversal, correction | `reason` | replaced by its digest if found, so that its seal still holds |
| approval | `reason`, `comment` | erased if found |
| bulk run, bulk row | the file's name; `redemption_id`, `reason`, `outcome` | erased if found |
| event | the identifiers in `data` | removed, also from events not yet delivered; the customer id stays |
| delivery | `last_answer` | erased if found |
| line, seal, sealed row, ledger check, day totals | no identity | stay |

A repeat of a key whose request named the customer by an erased identifier still gets the stored reply. The identifier
in that reply is copied from the repeated request and is not stored. A new request with the identifier finds no
customer.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Q

from loyalty.ledger.identifiers import IdentifierType, masked
from loyalty.ledger.queries import with_merged
from loyalty.models import Customer, CustomerIdentifier, Redemption
from loyalty.privacy import erasing
from loyalty.privacy.erasing import Texts
from reversals.json_values import written_json
from reversals.models import Approval, Attempt, BulkRow, BulkRun, Correction, Delivery, Event, Reversal

_TEXTS = (
    Texts(Attempt, ["reason", "refusal_reason", "redemption_id_asked", "external_reference_asked"]),
    Texts(Approval, ["reason", "comment"]),
    Texts(BulkRun, ["name"]),
    Texts(BulkRow, ["redemption_id", "reason", "outcome"]),
    Texts(Delivery, ["last_answer"]),
    Texts(Reversal, ["reason"], is_sealed=True),
    Texts(Correction, ["reason"], is_sealed=True),
)


@dataclass(frozen=True, slots=True)
class Erased:
    """The numbers of identifiers erased, texts that held one, attempts with a masked one, and events with one."""

    identifiers: int
    texts: int
    attempts: int
    events: int


@transaction.atomic
def erase_customer(customer: Customer, *, ticket: str, reason: str, made_by: str) -> Erased:
    """Erases the customer's identity from every table, and records who did it and why.

    Raises InvalidOperation if the identity was erased before, if the ticket, the reason or the username is missing, or
    if one of them contains an identifier. Raises ValidationError if one of them is too long.
    """
    identifiers = erasing.lock_to_erase(customer)
    attempts = _erase_masked(customer, identifiers)
    events = _erase_in_events(customer)
    texts = erasing.erase_texts(_TEXTS, org_id=customer.org_id, identifiers=identifiers)
    texts += erasing.erase_identity(customer, identifiers, ticket=ticket, reason=reason, made_by=made_by)
    return Erased(len(identifiers), texts, attempts, events)


def _erase_masked(customer: Customer, identifiers: Sequence[CustomerIdentifier]) -> int:
    """Empties the masked identifiers of the customer's attempts.

    A refused attempt is not linked to a customer, so attempts that show the same last characters are included.
    """
    redemptions = Redemption.objects.filter(org_id=customer.org_id, customer=customer)
    of_customer = (
        Q(reversal__redemption__customer=customer)
        | Q(redemption__customer=customer)
        | Q(redemption_id_asked__in=redemptions.values("public_id"))
    )
    for identifier in identifiers:
        of_customer |= Q(identifier_type=identifier.type, identifier_masked=masked(identifier.value))
    attempts = Attempt.objects.filter(of_customer, org_id=customer.org_id).exclude(identifier_type=IdentifierType.ID)
    ids = attempts.exclude(identifier_masked="").values_list("id", flat=True)
    return Attempt.objects.filter(org_id=customer.org_id, id__in=list(ids)).update(identifier_masked="")


def _erase_in_events(customer: Customer) -> int:
    count, ids = 0, with_merged(org_id=customer.org_id, customer_id=customer.id)
    for event in Event.objects.filter(org_id=customer.org_id, customer_id__in=ids).order_by("id"):
        data = json.loads(event.data)
        if not data.get("customerIdentifiers", {}).get("instore"):
            continue
        data["customerIdentifiers"]["instore"] = {}
        event.data = written_json(data)
        event.save(update_fields=["data"])
        count += 1
    return count
