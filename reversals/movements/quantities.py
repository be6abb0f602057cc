"""Writes an amount with its noun: `1 day`, `2 days`."""

from decimal import Decimal

from loyalty.ledger.points import written


def quantity(amount: Decimal | int, noun: str) -> str:
    """The amount and its noun, which takes an `s` unless the amount is exactly 1."""
    return f"{written(Decimal(amount))} {noun if amount == 1 else noun + 's'}"
