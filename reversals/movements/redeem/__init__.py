"""Redeems points: draws them from a customer's lots."""
