"""Answers a form that fails Django's CSRF check: logs the cause, and tells the user what to do."""

import logging

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import REASON_NO_CSRF_COOKIE, REASON_NO_REFERER

from loyalty.staff.error_pages import error_page

logger = logging.getLogger(__name__)

_LONGEST = 200
_NOTHING_CHANGED = (
    "Nothing was changed, because the server could not confirm that the form came from a page of this back office."
)


def failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The view in CSRF_FAILURE_VIEW. Nothing of the form has been read or changed."""
    # The reason can quote a Referer, whose query string can contain a search term.
    about = {
        "reason": reason.partition("?")[0][:_LONGEST],
        "origin": request.META.get("HTTP_ORIGIN", "")[:_LONGEST],
        "host": request.META.get("HTTP_HOST", "")[:_LONGEST],
    }
    logger.warning(
        "a form was refused by the CSRF check: %(reason)s Origin is %(origin)r, Host is %(host)r", about, extra=about
    )
    return error_page(
        403, "The form was not accepted", _NOTHING_CHANGED, _advice(reason, about["origin"], about["host"])
    )


def _advice(reason: str, origin: str, host: str) -> str:
    if reason == REASON_NO_CSRF_COOKIE:
        return (
            f"Your browser sent no cookie. Allow cookies for {host}, open the page again over https, and submit the"
            " form again."
        )
    if reason == REASON_NO_REFERER:
        return (
            "Your browser did not send the address of the page that the form came from. Allow the Referer header for"
            f" {host}, for example in the browser's privacy extension, then open the page again and submit the form"
            " again."
        )
    if reason.startswith(("Origin checking failed", "Referer checking failed")):
        return (
            f"The form came from {origin or 'another address'}, and this server expects its pages at other addresses."
            " Open the back office at its usual address and try again. If this is its usual address, ask your"
            " administrator to add it to CSRF_TRUSTED_ORIGINS, and to check that the proxy passes on the host and the"
            " scheme; the server's log has the details."
        )
    return (
        "The page was probably opened before you last signed in or out. Go back, reload the page, and submit the form"
        " again."
    )
