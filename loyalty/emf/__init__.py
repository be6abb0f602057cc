"""EMF settings: the registry of keys, the stored values, and warnings about contradictions."""
