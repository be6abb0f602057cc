"""Checks the ledger: its laws, the conservation of points, and the seals over its history."""
