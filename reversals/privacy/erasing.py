"""Erases who a customer is, in every table: what `loyalty.privacy.erasing` lists, and what is kept of calls and events.

| table | identity in it | what becomes of it |
|---|---|---|
| attempt | `identifier_masked` (its last characters) | emptied, where the attempt is of the customer or says the same |
| attempt | `reason`, `refusal_reason`, `redemption_id_asked`, `external_reference_asked` | erased where they hold one |
| attempt | `fingerprint` | stays: a keyed hash, without which a repeat of the key would not be recognised |
| attempt | `idempotency_key`, `reply` | stay: a repeat must meet the key; no reply is kept with an identifier |
| reversal, correction | `reason` | where it holds one, its digest takes its place, so that its seal still holds |
| approval | `reason`, `comment` | erased where they hold one |
| bulk run, bulk row | the file's name; `redemption_id`, `reason`, `outcome` | erased where they hold one |
| event | the identifier in `data` | taken out, also of what is still to be delivered; the customer id stays |
| delivery | `last_answer` | erased where it holds one |
| line, seal, sealed row, ledger check, day totals | none | stay |

A repeat of a key that named the customer by an erased identifier is still answered with the kept reply: what it echoes
is what that very request sent, and nothing of it is stored. A new request with it finds no customer.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Q

from loyalty.ledger.identifiers import IdentifierType, masked
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
    """How much was erased: identifiers, texts that held one, and the traces of one in attempts and events."""

    identifiers: int
    texts: int
    attempts: int
    events: int


@transaction.atomic
def erase_customer(customer: Customer, *, ticket: str, reason: str, made_by: str) -> Erased:
    """Erases the customer's identity everywhere, once, and keeps who did it and why.

    Raises InvalidOperation if it was erased before, without a ticket, a reason or a name, or if one of them holds an
    identifier; ValidationError on one that is too long.
    """
    identifiers = erasing.lock_to_erase(customer)
    attempts = _erase_masked(customer, identifiers)
    events = _erase_in_events(customer)
    texts = erasing.erase_texts(_TEXTS, org_id=customer.org_id, identifiers=identifiers)
    texts += erasing.erase_identity(customer, identifiers, ticket=ticket, reason=reason, made_by=made_by)
    return Erased(len(identifiers), texts, attempts, events)


def _erase_masked(customer: Customer, identifiers: Sequence[CustomerIdentifier]) -> int:
    """Refused attempts know no customer: those go too that show the same last characters."""
    redemptions = Redemption.objects.filter(org_id=customer.org_id, customer=customer)
    of_customer = (
        Q(reversal__customer=customer)
        | Q(redemption__customer=customer)
        | Q(redemption_id_asked__in=redemptions.values("public_id"))
    )
    for identifier in identifiers:
        of_customer |= Q(identifier_type=identifier.type, identifier_masked=masked(identifier.value))
    attempts = Attempt.objects.filter(of_customer, org_id=customer.org_id).exclude(identifier_type=IdentifierType.ID)
    ids = attempts.exclude(identifier_masked="").values_list("id", flat=True)
    return Attempt.objects.filter(org_id=customer.org_id, id__in=list(ids)).update(identifier_masked="")


def _erase_in_events(customer: Customer) -> int:
    count = 0
    for event in Event.objects.filter(org_id=customer.org_id, customer=customer).order_by("id"):
        data = json.loads(event.data)
        if not data["customerIdentifiers"]["instore"]:
            continue
        data["customerIdentifiers"]["instore"] = {}
        event.data = written_json(data)
        event.save(update_fields=["data"])
        count += 1
    return count
