"""Movements of points: one package per kind decides, and one engine runs them all."""
