"""Builds the event that reports a reversal to webhooks."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from loyalty.ledger import queries
from loyalty.ledger.sql import Statement
from loyalty.models import EventName
from reversals.models import Attempt
from reversals.movements.reverse.rules import Facts, Plan, PlannedLine
from reversals.webhooks import payloads
from reversals.webhooks.outbox import event_statements, occasion_of, webhooks_of
from reversals.webhooks.payloads import ProgramPoints


def reversal_events(*, facts: Facts, plan: Plan, attempt: Attempt, public_id: str) -> list[Statement]:
    """Builds the statements that write `redeemedPointsReversed` of the planned reversal for each subscribed webhook.

    The caller holds the customer's lock. `public_id` is the reversal's.
    """
    org_id, redemption = attempt.org_id, facts.redemption
    webhooks = webhooks_of(org_id, EventName.POINTS_REVERSED)
    if not webhooks:
        return []
    programs = queries.programs_of(org_id)
    by_program = _reversed_by_program(facts, plan, org_id)
    points_before = queries.current_points(
        org_id=org_id, customer_id=redemption.customer.id, program_ids=by_program, now=facts.now
    )
    data = payloads.reversed_data(
        occasion=occasion_of(
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
            for program_id, part in by_program.items()
        ],
    )
    return event_statements(
        EventName.POINTS_REVERSED,
        data,
        webhooks=webhooks,
        org_id=org_id,
        customer_id=redemption.customer.id,
        request_id=attempt.request_id,
        now=facts.now,
    )


@dataclass(slots=True)
class _ReversedPoints:
    """The points reversed in one program. `own` are the available ones in lots of the redemption's customer."""

    available: Decimal = Decimal(0)
    expired: Decimal = Decimal(0)
    own: Decimal = Decimal(0)


def _reversed_by_program(facts: Facts, plan: Plan, org_id: int) -> dict[int, _ReversedPoints]:
    """The points reversed in each program, by its row id, in the order of the lines."""
    lot_ids = [line.draw.lot_id for line in plan.lines if line.draw.lot_id is not None]
    programs = queries.programs_of_lots(org_id=org_id, lot_ids=lot_ids)
    redemption = facts.redemption
    by_program: dict[int, _ReversedPoints] = {}
    for line in plan.lines:
        part = by_program.setdefault(_program_of(line, programs, otherwise=redemption.program.id), _ReversedPoints())
        part.available += line.available
        part.expired += line.expired
        if line.owner_id(redemption) == redemption.customer.id:
            part.own += line.available
    return by_program


def _program_of(line: PlannedLine, programs: Mapping[int, int], *, otherwise: int) -> int:
    """The lot's program; for re-issued points, the redemption's program."""
    if line.reissued or line.draw.lot_id is None:
        return otherwise
    return programs[line.draw.lot_id]
