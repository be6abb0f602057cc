"""Answers, in the one envelope, what goes wrong outside the service: the platform's errors and outages."""

import logging
from http import HTTPStatus
from typing import Any

from django.db import Error
from django.http import HttpRequest, HttpResponse
from django.views import defaults
from rest_framework.exceptions import APIException, AuthenticationFailed, MethodNotAllowed, Throttled

from reversals.api.authentication import ApiClientAuthentication
from reversals.api.fields import failure_body
from reversals.models import Attempt
from reversals.movements import outages
from reversals.refusals import ErrorCode, Ladder, Refused

logger = logging.getLogger(__name__)


class Reply(HttpResponse):
    """A JSON reply, with what the log and the counts say of it: the refusal, and the attempt that records the call."""

    error: Ladder | None = None
    attempt: Attempt | None = None


def answer(status: int, body: str, *, headers: dict[str, str] | None = None) -> Reply:
    """A JSON reply, whole."""
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
    seconds = error.retry_after_seconds if error is not None else None
    return {} if seconds is None else {"Retry-After": str(seconds)}


def answer_exception(error: Exception, context: dict[str, Any]) -> HttpResponse | None:
    """DRF's exception handler: what is raised before the service is reached, authentication above all."""
    match error:
        case AuthenticationFailed():
            return answer(
                401,
                failure_body(401, "Unauthorized", "Send the HTTP Basic credentials of a live API client."),
                headers={"WWW-Authenticate": ApiClientAuthentication.CHALLENGE},
            )
        case MethodNotAllowed():
            allowed = ", ".join(method.upper() for method in context["view"].http_method_names)
            return answer(405, _platform_body(405, f"This address takes {allowed}."), headers={"Allow": allowed})
        case Throttled():
            return answer(
                429,
                _platform_body(429, "Too many calls, or too many with wrong credentials; wait as Retry-After says."),
                headers={"Retry-After": str(error.wait)},  # type: ignore[attr-defined]
            )
        case APIException():
            return answer(error.status_code, _platform_body(error.status_code, str(error.detail)))
        case Refused():
            return _answer_refusal(error, context["view"].ladder)
        case Error() if (outage := outages.refusal_for(error, during_movement=False)) is not None:
            return _answer_refusal(outage, context["view"].ladder)
    logger.error("a request failed unforeseen", exc_info=error)
    unforeseen = Refused(
        ErrorCode.UNFORESEEN, "An unexpected error occurred. Report the X-CAP-REQUEST-ID of this reply."
    )
    return _answer_refusal(unforeseen, context["view"].ladder)


def _platform_body(status: int, reason: str) -> str:
    return failure_body(status, HTTPStatus(status).phrase, reason)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_for_staff(request):
        return defaults.bad_request(request, exception)
    return answer(400, _platform_body(400, "The request cannot be read; check its host and headers."))


def not_found(request: HttpRequest, exception: Exception | None) -> HttpResponse:
    if _is_for_staff(request):
        return defaults.page_not_found(request, exception)
    return answer(404, _platform_body(404, "There is nothing at this address; /docs/ lists what there is."))


def server_error(request: HttpRequest) -> HttpResponse:
    if _is_for_staff(request):
        return defaults.server_error(request)
    return answer(500, _platform_body(500, "An unexpected error occurred. Report the X-CAP-REQUEST-ID of this reply."))


def _is_for_staff(request: HttpRequest) -> bool:
    return request.path.startswith("/admin/")
