"""Corrects a wrong reversal: the whole of it is taken back, through the same calls, locks and ledger."""
