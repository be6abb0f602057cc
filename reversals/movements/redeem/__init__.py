"""Redeems points: the movement that reversals undo, through the same calls, locks and ledger."""
