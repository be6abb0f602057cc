"""API clients: their credentials, their limits, and who calls."""
