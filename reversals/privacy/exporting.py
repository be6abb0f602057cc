"""Exports all stored data of a customer, for the customer: plain values under the names of the columns.

Ids are public ids, points are decimal text, times are ISO 8601.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db.models import Q, QuerySet

from loyalty.ledger.points import written
from loyalty.ledger.queries import with_merged
from loyalty.models import (
    CoveringLine,
    Customer,
    CustomerIdentifier,
    CustomerMerge,
    Draw,
    GroupMember,
    Lot,
    Redemption,
    StaffChange,
)
from reversals.models import Approval, Attempt, BulkRow, Correction, Event, Reversal, ReversalLine


def export_customer(customer: Customer) -> dict[str, Any]:
    """Returns all stored data of the customer, and of those merged into the customer, by kind, oldest first."""
    return _identity(customer) | _points(customer) | _requests(customer)


def _identity(customer: Customer) -> dict[str, Any]:
    """Returns the customer's identity, and what staff changed in it."""
    org_id = customer.org_id
    ids = with_merged(org_id=org_id, customer_id=customer.id)
    return {
        "org_id": org_id,
        "customer_id": customer.public_id,
        **_fields(customer, "status", "reversals_locked", "reversals_locked_until", "reversals_lock_reason"),
        "erased_at": _plain(customer.erased_at),
        "merged_into": None if customer.merged_into is None else customer.merged_into.public_id,
        "identifiers": _rows(CustomerIdentifier.objects.filter(org=org_id, customer=customer), "type", "value"),
        "groups": _rows(
            GroupMember.objects.filter(org=org_id, customer_id__in=ids), "group__public_id", "joined_at", "left_at"
        ),
        "merges": _rows(
            CustomerMerge.objects.filter(Q(source_id__in=ids) | Q(target_id__in=ids), org=org_id),
            *("source__public_id", "target__public_id", "ticket", "reason", "made_by", "made_at"),
        ),
        "staff_changes": _rows(
            StaffChange.objects.filter(subject=customer._meta.label_lower, subject_id__in=map(str, ids)),
            *("action", "before", "after", "reason", "made_by", "made_at"),
        ),
    }


def _points(customer: Customer) -> dict[str, Any]:
    """Returns the customer's points and their movements."""
    org_id = customer.org_id
    drawn_by_others = Q(draw__lot__customer=customer)
    return {
        "lots": _rows(
            Lot.objects.filter(org=org_id, customer=customer),
            *("lot_ref", "program__public_id", "points_awarded", "points_remaining", "points_reissued"),
            *("awarded_at", "expires_at"),
        ),
        "redemptions": _rows(
            Redemption.objects.filter(org=org_id, customer=customer),
            *("public_id", "program__public_id", "points", "points_reversed", "redeemed_at"),
            *("transaction_number", "external_reference_number"),
        ),
        "draws": _rows(
            Draw.objects.filter(Q(redemption__customer=customer) | Q(lot__customer=customer), org=org_id),
            *("redemption__public_id", "position", "lot__lot_ref", "points", "points_reversed"),
        ),
        "reversals": _rows(
            Reversal.objects.filter(org=org_id, redemption__customer=customer),
            *("public_id", "redemption__public_id", "points_asked", "points", "points_available", "points_expired"),
            *("channel", "made_by", "reason", "created_at"),
        ),
        "coverings": _rows(
            CoveringLine.objects.filter(org=org_id, covering__redemption__customer=customer),
            *("covering__redemption__public_id", "lot__lot_ref", "points"),
            *("covering__made_by", "covering__reason", "covering__made_at"),
        ),
        "lines": _rows(
            ReversalLine.objects.filter(Q(reversal__redemption__customer=customer) | drawn_by_others, org=org_id),
            *("reversal__public_id", "draw__position", "points", "points_available", "points_expired"),
            "reissued_lot__lot_ref",
        ),
        "corrections": _rows(
            Correction.objects.filter(org=org_id, reversal__redemption__customer=customer),
            *("reversal__public_id", "points", "made_by", "approved_by", "reason", "created_at"),
        ),
    }


def _requests(customer: Customer) -> dict[str, Any]:
    """Returns the requests about the customer, and the events sent about them."""
    org_id = customer.org_id
    redemptions = Redemption.objects.filter(org=org_id, customer=customer)
    return {
        "approvals": _rows(
            Approval.objects.filter(org=org_id, redemption__customer=customer),
            *("redemption__public_id", "points", "status", "reason", "asked_by", "asked_at"),
            *("decided_by", "decided_at", "comment"),
        ),
        "attempts": _rows(
            Attempt.objects.filter(
                Q(reversal__redemption__customer=customer)
                | Q(redemption__customer=customer)
                | Q(redemption_id_asked__in=redemptions.values("public_id")),
                org=org_id,
            ),
            *("created_at", "operation", "request_id", "channel", "made_by", "reason", "redemption_id_asked"),
            *("identifier_type", "identifier_masked", "points_asked", "http_status", "code", "refusal_reason"),
        ),
        "bulk_rows": _rows(
            BulkRow.objects.filter(org=org_id, redemption_id__in=redemptions.values("public_id")),
            *("run__name", "position", "redemption_id", "points_written", "reason", "status", "outcome"),
        ),
        "events": _rows(
            Event.objects.filter(org=org_id, customer_id__in=with_merged(org_id=org_id, customer_id=customer.id)),
            *("name", "event_id", "created_at", "data"),
        ),
    }


def _rows(rows: QuerySet[Any], *columns: str) -> list[dict[str, Any]]:
    return [
        {column.replace("__", "_"): _plain(value) for column, value in row.items()}
        for row in rows.order_by("id").values(*columns)
    ]


def _fields(row: Any, *columns: str) -> dict[str, Any]:
    return {column: _plain(getattr(row, column)) for column in columns}


def _plain(value: Any) -> Any:
    match value:
        case Decimal():
            return written(value)
        case datetime():
            return value.isoformat()
        case _:
            return value
