"""Erases the identity of customers from the ledger."""
