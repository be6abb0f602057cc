"""The Django project: settings, addresses, response headers and the server's start."""

__version__ = "0.2.0"
