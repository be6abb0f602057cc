"""Seals the rows of the ledger into a chain of hashes, so that any change of the past is detected."""
