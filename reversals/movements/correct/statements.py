"""Builds the statements that write a correction. No other code takes back reversed points."""

from loyalty.fields import new_row_id
from loyalty.ledger.sql import Statement, add_points, insert_into
from reversals.models import Attempt
from reversals.movements.correct.rules import Facts, Plan


def correction_statements(
    *, facts: Facts, plan: Plan, attempt: Attempt, approval_id: int, approved_by: str
) -> list[Statement]:
    """Builds the statements. The caller holds the locks under which `facts` were read; `approval_id` is a row id."""
    org_id, reversal = attempt.org_id, facts.reversal
    draws = {line.draw_id: -line.points for line in reversal.lines}
    # PostgreSQL changes a row only once in a statement, so each lot is in just one of these three.
    emptied = {taking.lot.facts.id: -taking.points for taking in plan.takings if not taking.lot_was_reissued}
    taken_back = {taking.lot.facts.id: taking.points for taking in plan.takings if taking.lot_was_reissued}
    given_up = {lot_id: -points for lot_id, points in plan.replaced.items()}
    correction = {
        "id": new_row_id(),
        "org_id": org_id,
        "reversal_id": reversal.id,
        "approval_id": approval_id,
        "points": plan.points,
        "made_by": attempt.made_by,
        "approved_by": approved_by,
        "reason": attempt.reason,
        "created_at": facts.now,
    }
    return [
        *add_points(
            "loyalty_redemption", "points_reversed", org_id=org_id, points={reversal.redemption_id: -plan.points}
        ),
        *add_points("loyalty_draw", "points_reversed", org_id=org_id, points=draws),
        *add_points("loyalty_lot", "points_remaining", org_id=org_id, points=emptied),
        *add_points("loyalty_lot", "points_reissued", org_id=org_id, points=taken_back, out_of="points_remaining"),
        *add_points("loyalty_lot", "points_reissued", org_id=org_id, points=given_up),
        insert_into("reversals_correction", correction),
    ]
