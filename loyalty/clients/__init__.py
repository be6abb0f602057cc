"""API clients: credentials, rate limits, and the look-up of the caller."""
