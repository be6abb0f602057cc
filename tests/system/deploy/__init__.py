"""Runs what `deploy/` ships, with the programs that it names."""
