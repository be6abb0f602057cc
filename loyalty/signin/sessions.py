"""How long a sign-in lasts: until the person is idle for too long, and never longer than the limit."""

from typing import Any

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.signals import user_logged_in
from django.http import HttpRequest
from django.utils import timezone

BEGAN_AT, SEEN_AT = "began_at", "seen_at"  # in the session, in seconds since 1970
# So that not every page writes the session.
SEEN_TO_SECONDS = 60


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
