"""The server that ships, started once for all hostile requests."""

from tests.test_server import environment, port

__all__ = ["environment", "port"]
