"""One HTTP call that moves points: its attempt, the reading of its body, and the sending of its answer."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

from django.core.exceptions import TooManyFieldsSent
from django.http import HttpResponse, QueryDict
from rest_framework.request import Request
from rest_framework.views import APIView

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
    """A view for API clients. It speaks JSON alone, so that nothing is negotiated, and who it knows may call it."""

    default_response_headers: ClassVar[dict[str, str]] = {}

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        self.perform_authentication(request)


def check_v2(caller: Caller) -> None:
    """Refuses 403 where the org has no V2 API."""
    if not caller.org.v2_enabled:
        raise Refused(ErrorCode.V2_NOT_ENABLED, "Ask the org's staff to enable the V2 API.")


def parameters_of(request: Request) -> QueryDict:
    """The parameters in the address. Refuses 887 where they are too many to be read."""
    try:
        return request.query_params
    except TooManyFieldsSent as error:
        raise Refused(ErrorCode.INVALID_REQUEST, "The address has too many parameters; send fewer.") from error


class ApiCall:
    """One HTTP request that moves points, from its body to its answer."""

    def __init__(self, request: Request, operation: str) -> None:
        self.request = request
        self.caller = cast(Caller, request.user)
        self.attempt = new_attempt(
            self.caller.org.id,
            channel=Channel.API,
            made_by=self.caller.username,
            client_id=self.caller.client_id,
            operation=operation,
        )

    def read(self) -> dict[str, Any]:
        """The members of the body, and the key for the attempt. Refuses 403, 415, 413, 887."""
        check_v2(self.caller)
        if self.request.content_type.partition(";")[0].strip().lower() != "application/json":
            raise Refused(ErrorCode.NOT_JSON, "Send Content-Type: application/json.")
        self.attempt.idempotency_key = fields.read_idempotency_key(self.request.META.get("HTTP_IDEMPOTENCY_KEY"))
        return parse_object(self._body())

    def _body(self) -> bytes:
        """The body, whole. A chunked one has no length, and Django would take it for empty."""
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
        """Makes the movement. Who looked the caller up has looked for the holder of the key, too."""
        return engine.run(movement, self.attempt, render=render, key_is_free=self.caller.also is None)

    def refuse(self, refusal: Refused, render: Callable[[Any], engine.Reply]) -> Outcome[Any]:
        """Refuses a request that cannot be read."""
        return engine.refuse(refusal, self.attempt, render=render)

    def send(self, outcome: Outcome[Any], body: str | None = None) -> HttpResponse:
        """The reply: the attempt's, or `body` where the door completed it."""
        attempt = outcome.attempt
        headers = errors.retry_header(outcome.error)
        if outcome.is_replay:
            headers["Idempotent-Replayed"] = "true"
        reply = errors.answer(attempt.http_status or 500, attempt.reply if body is None else body, headers=headers)
        reply.error, reply.attempt = outcome.error, attempt
        return reply
