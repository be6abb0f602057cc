"""Runs the files of `deploy/` with the programs that they configure."""
