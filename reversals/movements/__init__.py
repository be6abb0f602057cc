"""Movements of points: each decides in a package of its own, and one engine makes them."""
