"""Merges two customers on request of a user, and reports the merge to webhooks."""

from django.db import transaction

from loyalty.ledger import merging
from loyalty.ledger.clock import database_now
from loyalty.ledger.merging import Merged
from loyalty.ledger.sql import execute_together
from loyalty.models import EventName, Org
from loyalty.request_id import current_request_id
from reversals.webhooks import payloads
from reversals.webhooks.outbox import event_statements, webhooks_of


@transaction.atomic
def merge_customers(*, org: Org, source_id: int, target_id: int, ticket: str, reason: str, made_by: str) -> Merged:
    """Merges the customer `source_id` into `target_id` (public ids), with the event `customersMerged`.

    Raises InvalidOperation as `loyalty.ledger.merging.merge_customers` does.
    """
    merged = merging.merge_customers(
        org=org, source_id=source_id, target_id=target_id, ticket=ticket, reason=reason, made_by=made_by
    )
    webhooks = webhooks_of(org.id, EventName.CUSTOMERS_MERGED)
    if webhooks:
        execute_together(
            event_statements(
                EventName.CUSTOMERS_MERGED,
                payloads.merged_data(
                    merged_customer_id=source_id,
                    customer_id=target_id,
                    lots=merged.lots,
                    redemptions=merged.redemptions,
                ),
                webhooks=webhooks,
                org_id=org.id,
                customer_id=merged.target.id,
                request_id=current_request_id(),
                now=database_now(),
            )
        )
    return merged
