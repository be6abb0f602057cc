"""Erases who a customer is."""
