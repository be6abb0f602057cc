"""Moves one org with its whole history to another cell: a deployment with a database of its own."""
