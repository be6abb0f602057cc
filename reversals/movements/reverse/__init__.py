"""Reverses points to the lots that a redemption drew on."""
