"""Moves one org with its whole history to another cell, a deployment with its own database."""
