"""Examines a set-up: what is wrong, what is expected, and what to do."""
