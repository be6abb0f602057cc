"""Every HTTP address for API clients."""
