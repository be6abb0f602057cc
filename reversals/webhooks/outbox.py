"""Builds the statements that write events and their deliveries, and purges old events."""

import json
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django.db.models import Exists, Max, OuterRef

from loyalty.fields import new_row_id
from loyalty.ledger.identifiers import Identifier
from loyalty.ledger.sql import Statement, insert_all_into, insert_into
from loyalty.models import Program, Webhook
from reversals.json_values import written_json
from reversals.models import Channel, Delivery, Event
from reversals.webhooks import payloads
from reversals.webhooks.payloads import Occasion

RETRIED_FOR = timedelta(days=7)
PURGED_AT_ONCE = 1_000


def body_of(event: Event) -> bytes:
    """Returns the body to send for the event. It is the same on every try."""
    return payloads.body(
        number=event.number,
        event_id=event.event_id,
        name=event.name,
        org_id=event.org_id,
        request_id=event.request_id,
        created_at=event.created_at,
        data=json.loads(event.data),
    )


def purge(*, before: datetime) -> int:
    """Deletes events older than `before` without pending deliveries, in batches. Returns their number."""
    waiting = Delivery.objects.filter(
        org_id=OuterRef("org_id"), event_id=OuterRef("id"), status=Delivery.Status.PENDING
    )
    old = Event.objects.filter(~Exists(waiting), created_at__lt=before).order_by("id")
    removed = 0
    while batch := list(old.values_list("id", flat=True)[:PURGED_AT_ONCE]):
        Delivery.objects.filter(event_id__in=batch).delete()
        removed += Event.objects.filter(id__in=batch).delete()[0]
    return removed


def webhooks_of(org_id: int, name: str) -> list[Webhook]:
    """Returns the org's active webhooks that subscribe to the event `name`."""
    return [webhook for webhook in Webhook.objects.filter(org_id=org_id, is_active=True) if webhook.wants(name)]


def occasion_of(
    programs: Mapping[int, Program],
    *,
    program_id: int,
    customer_id: int,
    identifier: Identifier | None,
    made_by: str,
    channel: str,
) -> Occasion:
    """Builds the common part of an event's data. `programs` are the org's programs by row id, the oldest first."""
    program = programs[program_id]
    return Occasion(
        customer_id=customer_id,
        identifier=identifier,
        program_id=program.public_id,
        program_name=program.name,
        # No program is marked as the default, so the org's first program is taken.
        program_is_default=program_id == next(iter(programs)),
        made_by=made_by,
        by_api_client=channel == Channel.API,
    )


def event_statements(
    name: str,
    data: dict[str, Any],
    *,
    webhooks: list[Webhook],
    org_id: int,
    customer_id: int,
    request_id: str,
    now: datetime,
) -> list[Statement]:
    """Returns the statements that insert an event and a delivery to each of the webhooks."""
    event_id = _next_id(org_id=org_id, customer_id=customer_id, webhooks=webhooks, now=now)
    event = {
        "id": event_id,
        "org_id": org_id,
        "customer_id": customer_id,
        "name": name,
        "event_id": str(uuid4()),
        "request_id": request_id,
        "data": written_json(data),
        "created_at": now,
    }
    deliveries = [
        {
            "id": new_row_id(),
            "org_id": org_id,
            "event_id": event_id,
            "webhook_id": webhook.id,
            "customer_id": customer_id,
            "status": Delivery.Status.PENDING.value,
            "tries": 0,
            "due_at": now,
            "give_up_at": now + RETRIED_FOR,
            "last_answer": "",
        }
        for webhook in webhooks
    ]
    return [
        insert_into(Event._meta.db_table, event),
        *insert_all_into(Delivery._meta.db_table, deliveries),
    ]


def _next_id(*, org_id: int, customer_id: int, webhooks: list[Webhook], now: datetime) -> int:
    """Returns the id of a new event: the microseconds of `now`, and random bits.

    `now` is the database's time after the customer's row was locked, so ids rise with each event of the customer. If
    the clock was set back, the id follows the customer's last event that was not delivered yet.
    """
    pending = Delivery.objects.filter(
        org_id=org_id, webhook__in=webhooks, customer_id=customer_id, status=Delivery.Status.PENDING
    )
    last = pending.aggregate(id=Max("event_id"))["id"] or 0
    by_clock = (int(now.timestamp() * 1_000_000) << Event.RANDOM_BITS) + secrets.randbits(Event.RANDOM_BITS)
    return int(max(by_clock, last + 2**Event.RANDOM_BITS))
