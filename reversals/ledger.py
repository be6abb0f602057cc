"""Writes a reversal: the only code that changes lots, draws and redemptions for one, and adds its rows."""

import secrets
import string
from collections.abc import Sequence
from typing import Any

from loyalty.fields import new_row_id
from loyalty.points import to_thousandths
from loyalty.statements import Statement, execute_together, insert_into
from reversals.attempts import insert_attempt, update_attempt
from reversals.models import Attempt
from reversals.rules import Facts, Plan, PlannedLine

PUBLIC_ID_LENGTH = 6
_PUBLIC_ID_CHARACTERS = string.ascii_letters + string.digits


def new_public_id() -> str:
    """Six random letters and digits: 57 billion of them, so that a clash is rare and a retry ends it."""
    return "".join(secrets.choice(_PUBLIC_ID_CHARACTERS) for _ in range(PUBLIC_ID_LENGTH))


def write_reversal(*, facts: Facts, plan: Plan, attempt: Attempt, public_id: str) -> None:
    """Writes the planned reversal and the attempt that asked for it, in the caller's transaction.

    The caller holds the locks under which `facts` were read. `attempt` is complete but for its reversal,
    which is set here. On PostgreSQL it is one round trip.
    """
    redemption = facts.redemption
    reversal_id = new_row_id()
    reissued_lot_id = new_row_id() if plan.reissued else None
    # Parents first: SQLite's triggers look for the parent when the child is written.
    statements: list[Statement] = [
        (
            "UPDATE loyalty_redemption SET points_reversed = points_reversed + %s WHERE org_id = %s AND id = %s",
            [to_thousandths(plan.points), attempt.org_id, redemption.id],
        ),
        _add_to("loyalty_draw", "points_reversed", attempt.org_id, [(line.draw.id, line) for line in plan.lines]),
    ]
    lots = [(line.draw.lot_id, line) for line in plan.lines if line.draw.lot_id is not None]
    if lots:
        lots.sort(key=lambda lot: lot[0])
        statements.append(_add_to("loyalty_lot", "points_remaining", attempt.org_id, lots))
    if reissued_lot_id is not None:
        statements.append(_insert_reissued_lot(reissued_lot_id, facts, plan, attempt, public_id))
    statements.append(_insert_reversal(reversal_id, facts, plan, attempt, public_id))
    statements.append(_insert_lines(reversal_id, reissued_lot_id, plan, attempt))
    attempt.reversal_id = reversal_id
    statements.append(update_attempt(attempt) if attempt.holds_key else insert_attempt(attempt))
    execute_together(statements)


def _add_to(table: str, column: str, org_id: int, lines: Sequence[tuple[int, PlannedLine]]) -> Statement:
    """Adds each line's points to a column of the row with the id beside it."""
    values = ", ".join(["(CAST(%s AS bigint), CAST(%s AS bigint))"] * len(lines))
    params: list[Any] = []
    for row_id, line in lines:
        params += [row_id, to_thousandths(line.points)]
    # Both databases name the columns of VALUES column1 and column2.
    return (
        f"UPDATE {table} SET {column} = {column} + returned.column2 FROM (VALUES {values}) AS returned"
        f" WHERE {table}.org_id = %s AND {table}.id = returned.column1",
        [*params, org_id],
    )


def _insert_reissued_lot(lot_id: int, facts: Facts, plan: Plan, attempt: Attempt, public_id: str) -> Statement:
    redemption = facts.redemption
    return insert_into(
        "loyalty_lot",
        {
            "id": lot_id,
            "org_id": attempt.org_id,
            "program_id": redemption.program.id,
            "customer_id": redemption.customer.id,
            "lot_ref": f"REISSUE-{public_id}",
            "points_awarded": to_thousandths(plan.reissued),
            "points_remaining": to_thousandths(plan.reissued),
            "awarded_at": facts.now,
            "expires_at": plan.reissue_expires_at,
        },
    )


def _insert_reversal(reversal_id: int, facts: Facts, plan: Plan, attempt: Attempt, public_id: str) -> Statement:
    asked = facts.request.points_asked
    return insert_into(
        "reversals_reversal",
        {
            "id": reversal_id,
            "org_id": attempt.org_id,
            "redemption_id": facts.redemption.id,
            "customer_id": facts.redemption.customer.id,
            "public_id": public_id,
            "points_asked": None if asked is None else to_thousandths(asked),
            "points": to_thousandths(plan.points),
            "points_available": to_thousandths(plan.available),
            "points_expired": to_thousandths(plan.expired),
            "has_key": bool(attempt.idempotency_key),
            "channel": attempt.channel,
            "client_id": attempt.client_id,
            "made_by": attempt.made_by,
            "reason": attempt.reason,
            "created_at": facts.now,
        },
    )


def _insert_lines(reversal_id: int, reissued_lot_id: int | None, plan: Plan, attempt: Attempt) -> Statement:
    return insert_into(
        "reversals_reversalline",
        *(
            {
                "id": new_row_id(),
                "org_id": attempt.org_id,
                "reversal_id": reversal_id,
                "draw_id": line.draw.id,
                "points": to_thousandths(line.points),
                "points_available": to_thousandths(line.available),
                "points_expired": to_thousandths(line.expired),
                "reissued_lot_id": reissued_lot_id if line.reissued else None,
            }
            for line in plan.lines
        ),
    )
