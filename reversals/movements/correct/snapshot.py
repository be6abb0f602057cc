"""Reads the reversal that a correction takes back."""

from datetime import datetime

from reversals.models import Correction, Reversal, ReversalLine
from reversals.movements.correct.rules import LineFacts, ReversalFacts


def find_reversal_facts(*, org_id: int, public_id: str) -> ReversalFacts | None:
    """Finds the org's reversal with this public id, its lines in the order of reversal; None if it does not exist."""
    reversal = Reversal.objects.filter(org_id=org_id, public_id=public_id).select_related("redemption").first()
    if reversal is None:
        return None
    lines = ReversalLine.objects.filter(org_id=org_id, reversal_id=reversal.id).order_by("-draw__position")
    columns = ("draw_id", "points", "draw__lot_id", "reissued_lot_id", "draw__lot__customer_id")
    return ReversalFacts(
        id=reversal.id,
        public_id=reversal.public_id,
        redemption_id=reversal.redemption_id,
        redemption_public_id=reversal.redemption.public_id,
        customer_id=reversal.redemption.customer_id,
        points=reversal.points,
        lines=tuple(LineFacts(*line) for line in lines.values_list(*columns)),
    )


def corrected_at(*, org_id: int, reversal_id: int) -> datetime | None:
    """When the reversal with this row id was corrected; None if it was not."""
    corrections = Correction.objects.filter(org_id=org_id, reversal_id=reversal_id)
    return corrections.values_list("created_at", flat=True).first()
