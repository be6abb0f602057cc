"""Secrets of API clients, stored only as keyed hashes, and of webhooks, which are not stored."""

import base64
import hashlib
import hmac
import secrets

from django.conf import settings

SHORTEST_SECRET = 32


def new_secret() -> str:
    """Returns 256 random bits as 43 characters."""
    return secrets.token_urlsafe(32)


def md5_form(secret: str) -> str:
    """Returns the lower-case hex MD5 of the secret, which the vendor's clients send as the Basic password."""
    return hashlib.md5(secret.encode(), usedforsecurity=False).hexdigest()


def fingerprint_of(secret: str) -> str:
    """Returns 8 hex digits that tell secrets apart. They are keyed, so nobody can try candidates against them."""
    return keyed_digest(f"fingerprint\0{secret}")[:8]


def peppers() -> list[str]:
    """Returns the pepper, and then the former ones."""
    return list(dict.fromkeys([settings.API_PEPPER, *settings.API_PEPPER_FORMER]))


def pepper_mark() -> str:
    """Returns a short name of the pepper, which tells rows of this pepper from rows of a former one."""
    return keyed_digest("pepper\0")[:16]


def keyed_digests(text: str) -> list[str]:
    """Returns the digests of the text with the pepper and with each former one."""
    return [_digest(pepper, text) for pepper in peppers()]


def _digest(pepper: str, text: str) -> str:
    return hmac.digest(pepper.encode(), text.encode(), "sha256").hex()


def keyed_digest(text: str) -> str:
    """Returns the HMAC-SHA256 of the text with the pepper, 64 hex digits.

    A password hash is not used, because it would take a second of CPU time per call and adds nothing for a random
    secret.
    """
    return hmac.digest(settings.API_PEPPER.encode(), text.encode(), "sha256").hex()


def webhook_secret(webhook_id: int, *, version: int = 1, pepper: str | None = None) -> str:
    """Returns a signing secret of the webhook with this row id: `whsec_` and the base64 of 256 bits.

    It is derived from the pepper each time, so that the database stores no signing secret. The NUL separates these
    inputs from all other hashed texts, which contain no NUL.
    """
    name = f"webhook\0{webhook_id}" if version == 1 else f"webhook\0{webhook_id}\0{version}"
    key = hmac.new((pepper or settings.API_PEPPER).encode(), name.encode(), hashlib.sha256).digest()
    return f"whsec_{base64.b64encode(key).decode()}"
