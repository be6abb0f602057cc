"""Breaks one promise in the code at a time, and holds that a named test notices."""
