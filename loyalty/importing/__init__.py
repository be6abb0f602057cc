"""Imports a ledger from its files."""
