"""Breaks the machines under a real server, and compares the answers with the stored movements."""
