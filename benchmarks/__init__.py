"""Benchmarks of the API, the back office and the commands on ledgers of several sizes; run by `make bench`."""
