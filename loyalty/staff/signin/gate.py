"""Refuses what signed-out users send to the back office beyond limits, before it costs memory or CPU time."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.loader import render_to_string

from loyalty.staff.signin import limits, second_factor
from loyalty.staff.signin.limits import PAGES, SIGN_IN

# The forms of sign-in are smaller. Uploads are for signed-in users.
LARGEST_BODY = 16 * 1024


class SignInMiddleware:
    """Refuses a sign-in from an address that made too many, before anything else is done for it."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.path_info != SIGN_IN or request.method != "POST":
            return self.get_response(request)
        seconds = limits.seconds_to_wait(request)
        if not seconds:
            return self.get_response(request)
        text = "There were too many sign-ins from your address. Try again in a minute."
        return refuse(429, "Too many sign-ins", text, wait=seconds)


class BodyMiddleware:
    """Refuses a large body of a signed-out user before it is read."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        is_page = request.path_info.startswith(PAGES)
        if is_page and _length_of(request) > LARGEST_BODY and not _is_signed_in(request):
            return refuse(413, "This request is too large", "Sign in before you upload a file.")
        return self.get_response(request)


def refuse(status: int, title: str, text: str, *, wait: int = 0) -> HttpResponse:
    """Returns a small page that says why the request was refused, and with `wait` in how many seconds to try again."""
    page = render_to_string("admin/signin/refused.html", {"title": title, "text": text})
    return HttpResponse(page, status=status, headers={"Retry-After": str(wait)} if wait else None)


def _length_of(request: HttpRequest) -> int:
    length = request.META.get("CONTENT_LENGTH") or "0"
    return int(length) if length.isascii() and length.isdigit() else LARGEST_BODY + 1


def _is_signed_in(request: HttpRequest) -> bool:
    user = request.user
    return bool(user.is_active and user.is_staff) and second_factor.is_passed(user)
