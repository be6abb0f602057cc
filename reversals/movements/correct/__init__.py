"""Corrects a wrong reversal: takes back all of its points."""
