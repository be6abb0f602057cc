"""The Django project: settings, URLs, response headers and the start of the server."""

__version__ = "0.2.0"
