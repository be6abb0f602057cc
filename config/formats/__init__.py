"""How the back office writes dates and times: ISO 8601, so that no two countries read one differently."""
