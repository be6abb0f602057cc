"""Limits how long each request waits for the database."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponseBase

from loyalty.waits import Limit, gave_up
from reversals.api.monitoring import health

# A call is answered within 5 s, also while the database does not answer.
SECONDS_OF_A_CALL = 4.1
# Longer than PostgreSQL's statement timeout of 5 s, because a merge of customers has none.
SECONDS_OF_A_STATEMENT = 30.0
# While the database does not commit. A call that waited behind those that were given up has had its 4.1 s.
SECONDS_FOR_A_PROBE = SECONDS_OF_A_READ = 0.2


class LimitMiddleware:
    """Limits all waits of an API call together, and each wait of a page."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith("/v2/"):
            with Limit(SECONDS_OF_A_STATEMENT, for_each_wait=True):
                return self.get_response(request)
        with Limit(SECONDS_OF_A_CALL if _commits() else SECONDS_OF_A_READ if request.method == "GET" else 0):
            return self.get_response(request)


def _commits() -> bool:
    """Returns False from when a wait was given up until a probe commits.

    So all threads but one stay free while COMMIT waits for a lost standby, and no call leaves a session that waits.
    """
    if not gave_up.is_set():
        return True
    try:
        health.check(SECONDS_FOR_A_PROBE)
    except health.NotReady:
        return False
    gave_up.clear()
    return True
