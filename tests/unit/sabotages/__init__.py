"""Breaks one guarantee of the code at a time, and checks that a named test fails."""
