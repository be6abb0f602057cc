"""Where a sign-in is kept and how long it lasts: until the person is idle for too long, or the limit is reached."""

from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends import db
from django.contrib.sessions.backends.base import VALID_KEY_CHARS
from django.http import HttpRequest
from django.utils import timezone

VALID_KEY_CHARACTERS = frozenset(VALID_KEY_CHARS)
BEGAN_AT, SEEN_AT = "began_at", "seen_at"  # in the session, in seconds since 1970
# So that not every page writes the session.
SEEN_TO_SECONDS = 60


class SessionStore(db.SessionStore):
    """Sessions in the database, which is asked only for keys that one can have: a cookie may hold anything."""

    def _validate_session_key(self, key: Any) -> bool:
        is_long_enough = super()._validate_session_key(key)  # type: ignore[misc]
        return bool(is_long_enough) and set(key) <= VALID_KEY_CHARACTERS


def end_if_over(request: HttpRequest) -> None:
    """Signs out a person who was idle for too long or signed in too long ago; else keeps that they were seen."""
    if not request.user.is_authenticated:
        return
    now = timezone.now().timestamp()
    began_at, seen_at = request.session.get(BEGAN_AT, 0), request.session.get(SEEN_AT, 0)
    is_idle = now - seen_at > settings.STAFF_IDLE_LIMIT.total_seconds()
    if is_idle or now - began_at > settings.STAFF_SESSION_LIMIT.total_seconds():
        logout(request)
    elif now - seen_at > SEEN_TO_SECONDS:
        request.session[SEEN_AT] = now


def _begin(request: HttpRequest, **kwargs: Any) -> None:
    request.session[BEGAN_AT] = request.session[SEEN_AT] = timezone.now().timestamp()


# Django's own signal, because a sign-in counts from its moment whatever page it was made on.
user_logged_in.connect(_begin)
