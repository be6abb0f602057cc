"""The HTTP API for API clients, and the health and metrics addresses."""
