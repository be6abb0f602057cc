"""What writes events and their deliveries, with what they tell of; they are sent later, by the worker."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from django.db.models import Exists, OuterRef

from loyalty import selectors
from loyalty.fields import new_row_id
from loyalty.identifiers import Identifier
from loyalty.ledger import NewRedemption
from loyalty.models import EventName, Program, Webhook
from loyalty.moves import closed_orgs
from loyalty.statements import Statement, ids_of_sequence, insert_all_into, insert_into
from reversals.events import payloads
from reversals.events.payloads import Occasion, ProgramPoints
from reversals.models import Attempt, Channel, Delivery, Event
from reversals.rules import Facts, Plan, PlannedLine
from reversals.wire import written_json

RETRIED_FOR = timedelta(days=7)
PURGED_AT_ONCE = 1_000


def reversal_statements(*, facts: Facts, plan: Plan, attempt: Attempt, public_id: str) -> list[Statement]:
    """What writes `redeemedPointsReversed` of the planned reversal, for each webhook that wants it.

    The caller holds the customer's lock. `public_id` is the reversal's.
    """
    org_id, redemption = attempt.org_id, facts.redemption
    webhooks = _webhooks_of(org_id, EventName.POINTS_REVERSED)
    if not webhooks:
        return []
    programs = selectors.programs_of(org_id)
    returned = _returned_by_program(facts, plan, org_id)
    points_before = selectors.current_points(
        org_id=org_id, customer_id=redemption.customer.id, program_ids=returned, now=facts.now
    )
    data = payloads.reversed_data(
        occasion=_occasion(
            programs,
            program_id=redemption.program.id,
            customer_id=redemption.customer.public_id,
            identifier=facts.request.identifier,
            made_by=attempt.made_by,
            channel=attempt.channel,
        ),
        redemption_id=redemption.public_id,
        reversal_id=public_id,
        programs=[
            ProgramPoints(
                programs[program_id].public_id, part.available, points_before[program_id] + part.own, part.expired
            )
            for program_id, part in returned.items()
        ],
    )
    return _statements(
        EventName.POINTS_REVERSED,
        data,
        webhooks=webhooks,
        org_id=org_id,
        customer_id=redemption.customer.id,
        request_id=attempt.request_id,
        now=facts.now,
    )


def redemption_statements(
    new: NewRedemption,
    *,
    customer_public_id: int,
    points_by_program: Mapping[int, Decimal],
    own_points_by_program: Mapping[int, Decimal],
    is_group_redemption: bool,
    attempt: Attempt,
) -> list[Statement]:
    """What writes `pointsRedeemed` of the planned redemption, for each webhook that wants it.

    The caller holds the customer's lock. The points drawn, and those of them that were the customer's own, are by the
    program's row id.
    """
    webhooks = _webhooks_of(new.org_id, EventName.POINTS_REDEEMED)
    if not webhooks:
        return []
    programs = selectors.programs_of(new.org_id)
    points_before = selectors.current_points(
        org_id=new.org_id, customer_id=new.customer_id, program_ids=points_by_program.keys(), now=new.redeemed_at
    )
    data = payloads.redeemed_data(
        occasion=_occasion(
            programs,
            program_id=new.program_id,
            customer_id=customer_public_id,
            identifier=None,
            made_by=attempt.made_by,
            channel=attempt.channel,
        ),
        redemption_id=new.public_id,
        transaction_number=new.transaction_number,
        is_group_redemption=is_group_redemption,
        programs=[
            ProgramPoints(
                programs[drawn_in].public_id,
                points,
                points_before[drawn_in] - own_points_by_program.get(drawn_in, Decimal(0)),
            )
            for drawn_in, points in points_by_program.items()
        ],
    )
    return _statements(
        EventName.POINTS_REDEEMED,
        data,
        webhooks=webhooks,
        org_id=new.org_id,
        customer_id=new.customer_id,
        request_id=attempt.request_id,
        now=new.redeemed_at,
    )


def body_of(event: Event) -> bytes:
    """What is sent for the event, the same on every try."""
    return payloads.body(
        place=event.id,
        event_id=event.event_id,
        name=event.name,
        org_id=event.org_id,
        request_id=event.request_id,
        created_at=event.created_at,
        data=json.loads(event.data),
    )


def purge(*, before: datetime) -> int:
    """Removes events older than `before` that no webhook waits for, a batch at a time, and returns how many.

    Those of a closed org stay.
    """
    waiting = Delivery.objects.filter(event_id=OuterRef("id"), status=Delivery.Status.PENDING)
    old = Event.objects.filter(~Exists(waiting), created_at__lt=before).exclude(org_id__in=closed_orgs()).order_by("id")
    removed = 0
    while batch := list(old.values_list("id", flat=True)[:PURGED_AT_ONCE]):
        Delivery.objects.filter(event_id__in=batch).delete()
        removed += Event.objects.filter(id__in=batch).delete()[0]
    return removed


def _webhooks_of(org_id: int, name: str) -> list[Webhook]:
    return [webhook for webhook in Webhook.objects.filter(org_id=org_id, is_active=True) if webhook.wants(name)]


@dataclass(slots=True)
class _Returned:
    """The points that go to one program; `own` are the available ones in lots of the redemption's customer."""

    available: Decimal = Decimal(0)
    expired: Decimal = Decimal(0)
    own: Decimal = Decimal(0)


def _returned_by_program(facts: Facts, plan: Plan, org_id: int) -> dict[int, _Returned]:
    """What goes to each program, by its row id, in the order of the lines."""
    lot_ids = [line.draw.lot_id for line in plan.lines if line.draw.lot_id is not None]
    programs = selectors.programs_of_lots(org_id=org_id, lot_ids=lot_ids)
    redemption = facts.redemption
    returned: dict[int, _Returned] = {}
    for line in plan.lines:
        part = returned.setdefault(_program_of(line, programs, otherwise=redemption.program.id), _Returned())
        part.available += line.available
        part.expired += line.expired
        if line.owner_id(redemption) == redemption.customer.id:
            part.own += line.available
    return returned


def _program_of(line: PlannedLine, programs: Mapping[int, int], *, otherwise: int) -> int:
    """The lot's program; that of the redemption for points that come back in a new lot."""
    if line.reissued or line.draw.lot_id is None:
        return otherwise
    return programs[line.draw.lot_id]


def _occasion(
    programs: Mapping[int, Program],
    *,
    program_id: int,
    customer_id: int,
    identifier: Identifier | None,
    made_by: str,
    channel: str,
) -> Occasion:
    program = programs[program_id]
    return Occasion(
        customer_id=customer_id,
        identifier=identifier,
        program_id=program.public_id,
        program_name=program.name,
        # No program is marked as the default one: it is the one that the org began with.
        program_is_default=program_id == next(iter(programs)),
        made_by=made_by,
        by_api_client=channel == Channel.API,
    )


def _statements(
    name: str,
    data: dict[str, Any],
    *,
    webhooks: list[Webhook],
    org_id: int,
    customer_id: int,
    request_id: str,
    now: datetime,
) -> list[Statement]:
    [event_id] = ids_of_sequence(Event._meta.db_table, 1)
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
