"""Authenticates API clients by HTTP Basic, with the secret or with its MD5, which the vendor's clients send."""

import base64
import binascii

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.request import Request

from loyalty.clients import failed_logins, rates
from loyalty.clients.addresses import address_of
from loyalty.clients.callers import Caller, find_caller
from loyalty.clients.credentials import keyed_digests
from loyalty.clients.failed_logins import Login
from loyalty.clients.last_used import note_use
from loyalty.clients.rehashing import hash_anew
from reversals.api.fields import idempotency_key_of
from reversals.movements.attempts import holder_of
from reversals.refusals import Refused


class ApiClientAuthentication(BaseAuthentication):
    """Authenticates the caller, and sets `request.user` to its Caller.

    The Caller's `also` is the row id of the attempt that holds the request's idempotency key, found by the same query.
    Missing, wrong and inactive credentials all raise the same AuthenticationFailed (401). Too many wrong credentials or
    too many calls in the current minute raise Throttled (429).
    """

    CHALLENGE = 'Basic realm="loyalty", charset="UTF-8"'

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        credentials = _basic_credentials(request.META.get("HTTP_AUTHORIZATION", ""))
        if credentials is None:
            raise AuthenticationFailed
        username, password = credentials
        # For the access line of a 401 or 429.
        request._request.tried_username = username  # type: ignore[attr-defined]
        digests = keyed_digests(password)
        login = Login(username, digests[0], address_of(request))
        _must_wait(failed_logins.seconds_to_wait(login))
        _must_wait(rates.seconds_to_wait(username=username, digest=login.digest))
        caller = find_caller(username=username, digests=digests, also=holder_of(_key_of(request)))
        if caller is None:
            _must_wait(failed_logins.note_failure(login))
            raise AuthenticationFailed
        failed_logins.note_success(login)
        _must_wait(rates.note_call(caller, digest=login.digest))
        if not caller.in_maintenance:
            note_use(caller.secret_id, last_used_at=caller.secret_last_used_at, address=login.address)
            if not caller.is_hashed_anew:
                hash_anew(caller.secret_id, password)
        return caller, None

    def authenticate_header(self, request: Request) -> str:
        return self.CHALLENGE


def _key_of(request: Request) -> str:
    """Returns the request's idempotency key; empty if it is missing or invalid. The view refuses an invalid key."""
    try:
        return idempotency_key_of(request.META)
    except Refused:
        return ""


def _must_wait(seconds: int) -> None:
    if seconds:
        raise Throttled(seconds)


def _basic_credentials(header: str) -> tuple[str, str] | None:
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        decoded = base64.b64decode(encoded.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        return None
    username, colon, password = decoded.partition(":")
    if not colon or "\0" in username:
        return None
    return username, password
