"""Builds the statements that write a reversal. No other code changes lots, draws and redemptions for one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from loyalty.fields import new_row_id
from loyalty.ledger.sql import Statement, add_points, insert_all_into, insert_into
from reversals.models import Attempt
from reversals.movements.reverse.rules import Facts, Plan


@dataclass(frozen=True, slots=True)
class ReissuedLot:
    """A new lot that re-issues the points of one customer."""

    id: int
    customer_id: int
    points: Decimal
    lot_ref: str


def reversal_statements(
    reversal_id: int, public_id: str, *, facts: Facts, plan: Plan, attempt: Attempt
) -> list[Statement]:
    """Builds the statements, parents first, because SQLite checks the parent of each row when it is written.

    `reversal_id` is the row id. The caller holds the locks under which `facts` were read.
    """
    org_id = attempt.org_id
    reissued_lots = _reissued_lots(facts, plan, public_id)
    refilled: dict[int, Decimal] = {}
    replaced: dict[int, Decimal] = {}
    for line in plan.lines:
        if line.draw.lot_id is not None:
            (replaced if line.reissued else refilled)[line.draw.lot_id] = line.points
    draws = {line.draw.id: line.points for line in plan.lines}
    return [
        *add_points("loyalty_redemption", "points_reversed", org_id=org_id, points={facts.redemption.id: plan.points}),
        *add_points("loyalty_draw", "points_reversed", org_id=org_id, points=draws),
        *add_points("loyalty_lot", "points_remaining", org_id=org_id, points=refilled),
        *add_points("loyalty_lot", "points_reissued", org_id=org_id, points=replaced),
        *([_insert_reissued_lots(reissued_lots, facts, plan, attempt)] if reissued_lots else []),
        _insert_reversal(reversal_id, facts, plan, attempt, public_id),
        *_insert_lines(reversal_id, {lot.customer_id: lot.id for lot in reissued_lots}, facts, plan, attempt),
    ]


def _reissued_lots(facts: Facts, plan: Plan, public_id: str) -> list[ReissuedLot]:
    """One new lot for each customer whose points are re-issued."""
    points: dict[int, Decimal] = {}
    for line in plan.lines:
        if line.reissued:
            owner = line.owner_id(facts.redemption)
            points[owner] = points.get(owner, Decimal(0)) + line.reissued
    return [
        ReissuedLot(
            new_row_id(), owner, amount, f"REISSUE-{public_id}" if number == 1 else f"REISSUE-{public_id}-{number}"
        )
        for number, (owner, amount) in enumerate(points.items(), start=1)
    ]


def _insert_reissued_lots(lots: Sequence[ReissuedLot], facts: Facts, plan: Plan, attempt: Attempt) -> Statement:
    return insert_into(
        "loyalty_lot",
        *(
            {
                "id": lot.id,
                "org_id": attempt.org_id,
                "program_id": facts.redemption.program.id,
                "customer_id": lot.customer_id,
                "lot_ref": lot.lot_ref,
                "points_awarded": lot.points,
                "points_remaining": lot.points,
                "awarded_at": facts.now,
                "expires_at": plan.reissue_expires_at,
                "is_reissue": True,
            }
            for lot in lots
        ),
    )


def _insert_reversal(reversal_id: int, facts: Facts, plan: Plan, attempt: Attempt, public_id: str) -> Statement:
    return insert_into(
        "reversals_reversal",
        {
            "id": reversal_id,
            "org_id": attempt.org_id,
            "redemption_id": facts.redemption.id,
            "customer_id": facts.redemption.customer.id,
            "public_id": public_id,
            "points_asked": facts.request.points_asked,
            "points": plan.points,
            "points_available": plan.available,
            "points_expired": plan.expired,
            "has_key": bool(attempt.idempotency_key),
            "channel": attempt.channel,
            "client_id": attempt.client_id,
            "made_by": attempt.made_by,
            "reason": attempt.reason,
            "created_at": facts.now,
        },
    )


def _insert_lines(
    reversal_id: int, reissued_lot_ids: Mapping[int, int], facts: Facts, plan: Plan, attempt: Attempt
) -> list[Statement]:
    """`reissued_lot_ids` are by the customer's row id."""
    return insert_all_into(
        "reversals_reversalline",
        [
            {
                "id": new_row_id(),
                "org_id": attempt.org_id,
                "reversal_id": reversal_id,
                "draw_id": line.draw.id,
                "points": line.points,
                "points_available": line.available,
                "points_expired": line.expired,
                "reissued_lot_id": reissued_lot_ids[line.owner_id(facts.redemption)] if line.reissued else None,
            }
            for line in plan.lines
        ],
    )
