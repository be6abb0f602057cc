"""The HTTP door: who asks and in what shape, one call to the service, and its answer as JSON."""

from collections.abc import Iterable
from typing import cast

from django.http import HttpResponse
from django.utils import timezone
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.views import APIView

from loyalty.selectors import Caller
from reversals import handlers, serializers
from reversals.authentication import ApiClientAuthentication
from reversals.errors import ErrorCode, ReversalRefused
from reversals.models import Attempt, Channel
from reversals.request_id import current_request_id
from reversals.requests import ReversalRequest
from reversals.serializers import SentIdentifier
from reversals.service import Answer, reverse_points

LARGEST_BODY = 64 * 1024


class JsonOnly(BaseContentNegotiation):
    """Every reply is JSON, whatever a client says that it accepts."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        renderer = next(iter(renderers))
        return renderer, str(renderer.media_type)


class Exchange:
    """One HTTP request for a reversal: its attempt, its reading, and the sending of the answer."""

    def __init__(self, request: Request, caller: Caller) -> None:
        self.request = request
        self.caller = caller
        self.identifier: SentIdentifier | None = None
        self.attempt = Attempt(
            org_id=caller.org.id,
            created_at=timezone.now(),
            request_id=current_request_id(),
            channel=Channel.API,
            client_id=caller.client_id,
            made_by=caller.username,
        )

    def read(self) -> ReversalRequest:
        """The reversal asked for. Refuses 403, 415, 413, 887, 878."""
        if not self.caller.org.v2_enabled:
            raise ReversalRefused(ErrorCode.V2_NOT_ENABLED, "Ask the org's staff to enable the V2 API.")
        if self.request.content_type.partition(";")[0].strip().lower() != "application/json":
            raise ReversalRefused(ErrorCode.NOT_JSON, "Send Content-Type: application/json.")
        self.attempt.idempotency_key = serializers.read_idempotency_key(self.request.headers.get("Idempotency-Key"))
        asked, self.identifier = serializers.read_request(self._body(), country=self.caller.org.country)
        return asked

    def _body(self) -> bytes:
        """The body, whole. A chunked one has no length, and Django would take it for empty."""
        body: bytes
        length_sent = self.request.META.get("CONTENT_LENGTH", "")
        if not length_sent and self.request.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = self.request.META["wsgi.input"].read(LARGEST_BODY + 1)
            length = len(body)
        else:
            length = int(length_sent) if length_sent.isdigit() else 0
            body = self.request.body if length <= LARGEST_BODY else b""
        if length > LARGEST_BODY:
            raise ReversalRefused(ErrorCode.BODY_TOO_LARGE, f"Send at most {LARGEST_BODY} bytes.")
        if len(body) < length:
            raise ReversalRefused(ErrorCode.INVALID_REQUEST, f"The body ended after {len(body)} of {length} bytes.")
        return body

    def send(self, answered: Answer) -> HttpResponse:
        attempt = answered.attempt
        body = attempt.reply if self.identifier is None else self.identifier.into(attempt.reply)
        headers = handlers.retry_header(answered.error)
        if answered.is_replay:
            headers["Idempotent-Replayed"] = "true"
        return handlers.answer(attempt.http_status or 500, body, headers=headers)


class ReversePoints(APIView):
    """`POST /v2/points/reverse`."""

    authentication_classes = (ApiClientAuthentication,)
    permission_classes = ()
    content_negotiation_class = JsonOnly
    http_method_names = ("post",)

    def post(self, request: Request) -> HttpResponse:
        caller = cast(Caller, request.user)
        exchange = Exchange(request, caller)
        answered = reverse_points(
            exchange.attempt,
            settings=caller.settings,
            read=exchange.read,
            reply=serializers.reply_in_dialect(caller.org.id, caller.settings),
        )
        return exchange.send(answered)
