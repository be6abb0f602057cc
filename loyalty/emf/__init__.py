"""EMF settings: the keys, the stored values, and the warnings about settings that work against each other."""
