"""Builds JSON replies, and turns exceptions outside the movement engine into failures with the common envelope."""

import logging
from http import HTTPStatus
from typing import Any

from django.db import Error
from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import APIException, AuthenticationFailed, MethodNotAllowed, Throttled

from loyalty.staff import error_pages
from reversals.api.authentication import ApiClientAuthentication
from reversals.api.fields import failure_body
from reversals.models import Attempt
from reversals.movements import outages
from reversals.refusals import ErrorCode, Ladder, Refused

logger = logging.getLogger(__name__)

UNEXPECTED = "An unexpected error occurred. Report the X-CAP-REQUEST-ID of this reply."
TOO_MANY = "Too many calls, or too many with wrong credentials. Wait the seconds that Retry-After says."


class Reply(HttpResponse):
    """A JSON reply, with the refusal and the attempt for the access log and the metrics."""

    error: Ladder | None = None
    attempt: Attempt | None = None


def answer(status: int, body: str, *, headers: dict[str, str] | None = None) -> Reply:
    """Builds a JSON reply with its length and headers."""
    response = Reply(body, status=status, content_type="application/json")
    response["Content-Length"] = str(len(response.content))
    for name, value in (headers or {}).items():
        response[name] = value
    return response


def _answer_refusal(refusal: Refused, ladder: type[Ladder]) -> HttpResponse:
    error = ladder[refusal.error.name]
    reply = answer(error.status, failure_body(error.code, error.message, refusal.reason), headers=retry_header(error))
    reply.error = error
    return reply


def retry_header(error: Ladder | None) -> dict[str, str]:
    """Returns the Retry-After header of a refusal; empty if a retry cannot help."""
    seconds = error.retry_after_seconds if error is not None else None
    return {} if seconds is None else {"Retry-After": str(seconds)}


def answer_exception(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """Handles exceptions for DRF: those of authentication, of reads, and unexpected ones."""
    match error:
        case AuthenticationFailed():
            return answer(
                401,
                failure_body(401, "Unauthorized", "Send the HTTP Basic credentials of an active API client."),
                headers={"WWW-Authenticate": ApiClientAuthentication.CHALLENGE},
            )
        case MethodNotAllowed():
            allowed = ", ".join(method.upper() for method in context["view"].http_method_names)
            return answer(405, _platform_body(405, f"This address accepts {allowed}."), headers={"Allow": allowed})
        case Throttled():
            return answer(
                429,
                _platform_body(429, TOO_MANY),
                headers={"Retry-After": str(error.wait)},  # type: ignore[attr-defined]
            )
        case APIException():
            return answer(error.status_code, _platform_body(error.status_code, str(error.detail)))
        case Refused():
            return _answer_refusal(error, context["view"].ladder)
        case Error() if (outage := outages.refusal_for(error, during_movement=False)) is not None:
            return _answer_refusal(outage, context["view"].ladder)
    logger.error("unexpected error in a request", exc_info=error)
    return _answer_refusal(Refused(ErrorCode.UNFORESEEN, UNEXPECTED), context["view"].ladder)


def _platform_body(status: int, reason: str) -> str:
    return failure_body(status, HTTPStatus(status).phrase, reason)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_for_staff(request):
        return error_pages.bad_request(request)
    return answer(400, _platform_body(400, "The request cannot be read. Check its host and headers."))


def over_http(request: HttpRequest) -> HttpResponse:
    return answer(403, _platform_body(403, "Send the call over https; over http it is refused, and nothing was done."))


def not_found(request: HttpRequest, exception: Exception | None) -> HttpResponse:
    if _is_for_staff(request):
        return error_pages.not_found(request)
    return answer(404, _platform_body(404, "This address does not exist. See /docs/ for the addresses of the API."))


def server_error(request: HttpRequest) -> HttpResponse:
    if _is_for_staff(request):
        return error_pages.server_error(request)
    return answer(500, _platform_body(500, UNEXPECTED))


def _is_for_staff(request: HttpRequest) -> bool:
    return request.path.startswith("/admin/")
