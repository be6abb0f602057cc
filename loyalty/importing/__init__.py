"""Imports ledger files: customers, points and redemptions."""
