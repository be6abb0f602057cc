"""Handles an HTTP call that moves points: creates its attempt, reads its body and sends its reply."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

from django.core.exceptions import TooManyFieldsSent
from django.http import HttpResponse, QueryDict
from rest_framework.request import Request
from rest_framework.views import APIView

from loyalty.clients.addresses import address_of
from loyalty.clients.callers import Caller
from reversals.api import errors, fields
from reversals.api.strict_json import parse_object
from reversals.models import Channel
from reversals.movements import engine
from reversals.movements.attempts import new_attempt
from reversals.movements.engine import Movement, Outcome
from reversals.refusals import ErrorCode, Refused

LARGEST_BODY = 64 * 1024

Accepted = TypeVar("Accepted")


class ApiView(APIView):
    """Base view for API clients.

    Skips content negotiation, because all replies are JSON. Skips permissions, because every authenticated client may
    call every address.
    """

    default_response_headers: ClassVar[dict[str, str]] = {}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.perform_authentication(request)


def check_v2(caller: Caller) -> None:
    """Raises 403 if the V2 API is off for the org."""
    if not caller.org.v2_enabled:
        raise Refused(ErrorCode.V2_NOT_ENABLED, "The V2 API is off for this org. Ask the org's staff to enable it.")


def parameters_of(request: Request) -> QueryDict:
    """Returns the query parameters. Raises 887 if there are too many."""
    try:
        return request.query_params
    except TooManyFieldsSent as error:
        raise Refused(ErrorCode.INVALID_REQUEST, "The address has too many parameters. Send fewer.") from error


class ApiCall:
    """An HTTP request that moves points, with its caller and its attempt."""

    def __init__(self, request: Request, operation: str) -> None:
        self.request = request
        self.caller = cast(Caller, request.user)
        self.attempt = new_attempt(
            self.caller.org.id,
            channel=Channel.API,
            made_by=self.caller.username,
            client_id=self.caller.client_id,
            address=address_of(request),
            operation=operation,
        )

    def read(self) -> dict[str, Any]:
        """Returns the members of the body, and sets the attempt's idempotency key. Raises 403, 415, 413, 887."""
        check_v2(self.caller)
        if self.request.content_type.partition(";")[0].strip().lower() != "application/json":
            raise Refused(ErrorCode.NOT_JSON, "Send Content-Type: application/json.")
        coding = self.request.META.get("HTTP_CONTENT_ENCODING", "").strip().lower()
        if coding not in {"", "identity"}:
            raise Refused(
                ErrorCode.NOT_JSON,
                f"Content-Encoding is {coding[:64]!r}; send the body uncompressed, without this header.",
            )
        self.attempt.idempotency_key = fields.idempotency_key_of(self.request.META)
        return parse_object(self._body())

    def _body(self) -> bytes:
        """Reads the complete body. Django would take a chunked body as empty, because it has no length."""
        body: bytes
        length_sent = self.request.META.get("CONTENT_LENGTH", "")
        if not length_sent and self.request.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = self.request.META["wsgi.input"].read(LARGEST_BODY + 1)
            length = len(body)
        else:
            length = int(length_sent) if length_sent.isdecimal() else 0
            body = self.request.body if 0 < length <= LARGEST_BODY else b""
        if length > LARGEST_BODY:
            raise Refused(ErrorCode.BODY_TOO_LARGE, f"Send at most {LARGEST_BODY} bytes.")
        if len(body) < length:
            raise Refused(ErrorCode.INVALID_REQUEST, f"The body ended after {len(body)} of {length} bytes.")
        return body

    def run(
        self, movement: Movement[Accepted], render: Callable[[Accepted | Refused], engine.Reply]
    ) -> Outcome[Accepted]:
        """Runs the movement. The query for the caller has looked up the key: `caller.also` is None if it is free."""
        return engine.run(
            movement,
            self.attempt,
            render=render,
            key_is_free=self.caller.also is None,
            in_maintenance=self.caller.in_maintenance,
        )

    def refuse(self, refusal: Refused, render: Callable[[Any], engine.Reply]) -> Outcome[Any]:
        """Records the refusal of a request that could not be read."""
        return engine.refuse(refusal, self.attempt, render=render, in_maintenance=self.caller.in_maintenance)

    def send(self, outcome: Outcome[Any], body: str | None = None) -> HttpResponse:
        """Builds the HTTP reply with the attempt's body, or with `body` if the view has completed it."""
        attempt = outcome.attempt
        headers = errors.retry_header(outcome.error)
        if outcome.is_replay:
            headers["Idempotent-Replayed"] = "true"
        reply = errors.answer(attempt.http_status or 500, attempt.reply if body is None else body, headers=headers)
        reply.error, reply.attempt = outcome.error, attempt
        return reply
