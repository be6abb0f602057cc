"""Sessions of staff: how they are stored, and when they end (an idle limit and a total limit)."""

from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import get_user, logout
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.contrib.sessions.backends import db
from django.contrib.sessions.backends.base import VALID_KEY_CHARS
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import SimpleLazyObject

VALID_KEY_CHARACTERS = frozenset(VALID_KEY_CHARS)
BEGAN_AT, SEEN_AT = "began_at", "seen_at"  # in the session, in seconds since 1970
SEEN_TO_SECONDS = 60  # the time of the last page is stored this coarsely, because else every page would write


class SessionStore(db.SessionStore):
    """Sessions in the database. Looks up valid keys only, because a cookie may hold any text."""

    def _validate_session_key(self, key: Any) -> bool:
        is_long_enough = super()._validate_session_key(key)  # type: ignore[misc]
        return bool(is_long_enough) and set(key) <= VALID_KEY_CHARACTERS


class SessionUserMiddleware(AuthenticationMiddleware):
    """Sets the user of the session. A session of a former SECRET_KEY goes on under its key.

    Django alone would give it another key and delete the old one, so that the browser's other requests of that moment
    would find no session and sign the user out.
    """

    def process_request(self, request: HttpRequest) -> None:
        super().process_request(request)
        request.user = cast(User, SimpleLazyObject(lambda: _user_of(request)))


def _user_of(request: HttpRequest) -> Any:
    session: Any = request.session
    session.cycle_key = lambda: None
    try:
        return get_user(request)
    finally:
        del session.cycle_key


def end_if_over(request: HttpRequest) -> None:
    """Signs out a user who was idle too long or signed in too long ago; else stores the time of this page."""
    if not request.user.is_authenticated:
        return
    now = timezone.now().timestamp()
    began_at, seen_at = request.session.get(BEGAN_AT, 0), request.session.get(SEEN_AT, 0)
    is_idle = now - seen_at > settings.STAFF_IDLE_LIMIT.total_seconds()
    if is_idle or now - began_at > settings.STAFF_SESSION_LIMIT.total_seconds():
        logout(request)
        messages.info(request, _ended(request, is_idle=is_idle))
    elif now - seen_at > SEEN_TO_SECONDS:
        request.session[SEEN_AT] = now


def _ended(request: HttpRequest, *, is_idle: bool) -> str:
    limit = settings.STAFF_IDLE_LIMIT if is_idle else settings.STAFF_SESSION_LIMIT
    hours, minutes = divmod(int(limit.total_seconds() / 60), 60)
    after = f"{hours} hours" if hours else f"{minutes} minutes"
    why = f"You were signed out after {after}{' without activity' if is_idle else ''}."
    lost = " What you last sent was not saved." if request.method == "POST" else ""
    return f"{why}{lost} Sign in to continue."


def _begin(request: HttpRequest, **kwargs: Any) -> None:
    request.session[BEGAN_AT] = request.session[SEEN_AT] = timezone.now().timestamp()


# Django's signal covers every page on which a user can sign in.
user_logged_in.connect(_begin)
