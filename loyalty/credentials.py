"""Secrets of API clients: random, shown once, and kept only as keyed hashes."""

import hashlib
import hmac
import secrets

from django.conf import settings

SHORTEST_SECRET = 32


def new_secret() -> str:
    """256 random bits as 43 characters."""
    return secrets.token_urlsafe(32)


def md5_form(secret: str) -> str:
    """The lower-case hex MD5 of the secret, which the vendor's own clients send as the Basic password."""
    return hashlib.md5(secret.encode(), usedforsecurity=False).hexdigest()


def keyed_digest(text: str) -> str:
    """HMAC-SHA256 of the text with the pepper, 64 hex digits.

    A password hash would cost a second of CPU on each call and protects nothing that is random.
    """
    return hmac.new(settings.API_PEPPER.encode(), text.encode(), hashlib.sha256).hexdigest()
