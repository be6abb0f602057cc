"""Exports a customer's data and erases a customer's identity."""
