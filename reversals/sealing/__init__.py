"""Seals what was given back into a chain of hashes, so that nobody can change the past unnoticed."""
