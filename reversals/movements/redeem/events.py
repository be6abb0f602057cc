"""Builds the event that reports a redemption to webhooks."""

from collections.abc import Iterator, Mapping
from decimal import Decimal

from loyalty.ledger import queries
from loyalty.ledger.sql import Statement
from loyalty.models import EventName, Program
from reversals.models import Attempt
from reversals.movements.redeem.statements import NewRedemption
from reversals.webhooks import payloads
from reversals.webhooks.outbox import event_statements, occasion_of, webhooks_of
from reversals.webhooks.payloads import ProgramPoints


def redemption_events(
    new: NewRedemption,
    *,
    customer_public_id: int,
    points_by_program: Mapping[int, Decimal],
    own_points_by_program: Mapping[int, Decimal],
    is_group_redemption: bool,
    attempt: Attempt,
) -> list[Statement]:
    """Builds the statements that write `pointsRedeemed` of the planned redemption for each subscribed webhook.

    The caller holds the customer's lock. `points_by_program` are all points drawn, by the program's row id;
    `own_points_by_program` are those of them that the customer owned.
    """
    webhooks = webhooks_of(new.org_id, EventName.POINTS_REDEEMED)
    if not webhooks:
        return []
    programs = queries.programs_of(new.org_id)
    data = payloads.redeemed_data(
        occasion=occasion_of(
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
        programs=list(_drawn(new, programs, points_by_program, own_points_by_program)),
    )
    return event_statements(
        EventName.POINTS_REDEEMED,
        data,
        webhooks=webhooks,
        org_id=new.org_id,
        customer_id=new.customer_id,
        request_id=attempt.request_id,
        now=new.redeemed_at,
    )


def _drawn(
    new: NewRedemption,
    programs: Mapping[int, Program],
    points: Mapping[int, Decimal],
    own_points: Mapping[int, Decimal],
) -> Iterator[ProgramPoints]:
    """The points drawn in each program, and the points that the customer can spend there afterwards."""
    points_before = queries.current_points(
        org_id=new.org_id, customer_id=new.customer_id, program_ids=points.keys(), now=new.redeemed_at
    )
    for program_id, drawn in points.items():
        points_after = points_before[program_id] - own_points.get(program_id, Decimal(0))
        yield ProgramPoints(programs[program_id].public_id, drawn, points_after)
