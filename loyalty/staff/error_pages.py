"""Pages for errors: what happened, what to do, a way back and the request id. They need no database and no session."""

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from loyalty.request_id import current_request_id

HOME, SIGN_IN = ("/admin/", "Go to the home page"), ("/admin/login/", "Sign in")


def error_page(status: int, title: str, *paragraphs: str, way_out: tuple[str, str] = HOME) -> HttpResponse:
    """Returns the page. `way_out` is the address and the text of its link. The request id leads to the log line."""
    context = {
        "status": status,
        "title": title,
        "paragraphs": paragraphs,
        "way_out": way_out,
        "request_id": current_request_id(),
    }
    return HttpResponse(render_to_string("admin/error.html", context), status=status)


def bad_request(request: HttpRequest) -> HttpResponse:
    text = "The server cannot read this request. Nothing was changed. Go back, reload the page and try again."
    return error_page(HTTPStatus.BAD_REQUEST, "The request cannot be read", text)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    user = getattr(request, "user", None)
    name = user.get_username() if user is not None and user.is_authenticated else ""
    return error_page(
        HTTPStatus.FORBIDDEN,
        "You do not have permission",
        f"You are signed in as {name}, and none of your roles allows this page or action. Nothing was changed."
        if name
        else "Sign in to use this page. Nothing was changed.",
        "To get permission, ask a superuser of the back office for the role, and give the address of this page.",
        way_out=HOME if name else SIGN_IN,
    )


def not_found(request: HttpRequest) -> HttpResponse:
    return error_page(
        HTTPStatus.NOT_FOUND,
        "This page does not exist",
        "The address may be mistyped, or the row belongs to an org that you do not work on.",
        "To find a redemption, reversal or customer, go to the home page, press / and enter its id.",
    )


def server_error(request: HttpRequest) -> HttpResponse:
    return error_page(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "Something went wrong",
        "This is an error of the back office, and it was logged. Reload the page. If you sent a reversal, reloading"
        " does not reverse the points twice; open the redemption to see whether it was made.",
        "If the error comes again, give your administrator the request id below.",
    )


def unavailable() -> HttpResponse:
    return error_page(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The database is not available",
        "The database could not be reached, or was too busy. Wait a moment and reload the page. If you submitted a"
        " reversal, reloading does not reverse the points twice.",
    )
