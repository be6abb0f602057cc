"""Tells which API client calls: HTTP Basic with a secret, or with its MD5 as the vendor's clients send it."""

import base64
import binascii

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, Throttled
from rest_framework.request import Request

from loyalty import call_rate, callers, failed_logins
from loyalty.addresses import address_of
from loyalty.callers import Belief
from loyalty.credentials import keyed_digest
from loyalty.failed_logins import Login
from loyalty.last_used import note_use
from loyalty.selectors import Caller, find_caller


class ApiClientAuthentication(BaseAuthentication):
    """`request.user` is the Caller, `request.auth` the belief in it, which is proven.

    Anything but right credentials of a live client is one and the same 401.

    Throttled (429) where they were wrong too often, or the client has called too often in this minute.
    """

    CHALLENGE = 'Basic realm="loyalty", charset="UTF-8"'

    def authenticate(self, request: Request) -> tuple[Caller, Belief]:
        authorization = request.META.get("HTTP_AUTHORIZATION", "")
        credentials = _basic_credentials(authorization)
        if credentials is None:
            raise AuthenticationFailed
        username, password = credentials
        login = Login(username, keyed_digest(password), address_of(request))
        _must_wait(failed_logins.seconds_to_wait(login))
        _must_wait(call_rate.seconds_to_wait(username=username, digest=login.digest))
        caller = find_caller(username=username, digest=login.digest)
        if caller is None:
            _must_wait(failed_logins.note_wrong(login))
            raise AuthenticationFailed
        failed_logins.note_right(login)
        _must_wait(call_rate.note_call(caller, digest=login.digest))
        note_use(caller.secret_id, last_used_at=caller.secret_last_used_at)
        return caller, callers.remember(authorization, login, caller)

    def authenticate_header(self, request: Request) -> str:
        return self.CHALLENGE


class RememberedAuthentication(ApiClientAuthentication):
    """As above, but a call that can begin anew is believed to come from whom its header named lately.

    Its view has `request.auth` proven before it answers, and begins anew on Unproven.
    """

    def authenticate(self, request: Request) -> tuple[Caller, Belief]:
        belief = _recall(request)
        if belief is None:
            return super().authenticate(request)
        _must_wait(call_rate.note_call(belief.caller, digest=belief.login.digest))
        return belief.caller, belief


def _recall(request: Request) -> Belief | None:
    """The belief in the caller of a request that can be read twice; a body without a length cannot."""
    if request.method != "POST" or not request.META.get("CONTENT_LENGTH"):
        return None
    return callers.recall(request.META.get("HTTP_AUTHORIZATION", ""), address_of(request))


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
