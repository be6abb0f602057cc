"""Events for webhooks. A movement writes them in its transaction, and a separate worker delivers them later."""
