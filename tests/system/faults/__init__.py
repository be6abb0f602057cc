"""Breaks the machines under a real server, and holds what was answered against what is stored."""
