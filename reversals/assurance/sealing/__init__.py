"""Seals the rows of the ledger into a chain of hashes, so that nobody can change the past unnoticed."""
