"""Secrets of API clients, kept only as keyed hashes, and of webhooks, not kept at all."""

import base64
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
    return hmac.digest(settings.API_PEPPER.encode(), text.encode(), "sha256").hex()


def webhook_secret(webhook_id: int) -> str:
    """The signing secret of the webhook with this row id: `whsec_` and the base64 of 256 bits.

    It is derived from the pepper each time it is needed, so that the database holds none. No text that is
    hashed elsewhere holds a NUL.
    """
    key = hmac.new(settings.API_PEPPER.encode(), f"webhook\0{webhook_id}".encode(), hashlib.sha256).digest()
    return f"whsec_{base64.b64encode(key).decode()}"
