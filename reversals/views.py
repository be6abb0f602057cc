"""The HTTP door of reversals: who asks and in what shape, one call to the service, and its answer as JSON."""

from django.http import HttpResponse
from rest_framework.request import Request

from reversals.authentication import RememberedAuthentication
from reversals.document import operations
from reversals.errors import ErrorCode
from reversals.exchange import ApiView, Exchange, parameters_of
from reversals.models import Operation
from reversals.requests import ReversalRequest
from reversals.serializers import ReversalReplies
from reversals.service import reverse_points


class ReversePoints(ApiView):
    """`POST /v2/points/reverse`."""

    http_method_names = ("post",)
    authentication_classes = (RememberedAuthentication,)
    ladder = ErrorCode

    @operations.reverse_points
    def post(self, request: Request) -> HttpResponse:
        exchange = Exchange(request, Operation.REVERSE)
        caller = exchange.caller
        replies = ReversalReplies(caller.org, caller.settings)

        def read() -> ReversalRequest:
            members = exchange.read()
            exchange.attempt.is_dry_run = replies.read_options(parameters_of(request))
            return replies.read(members)

        answered = reverse_points(
            exchange.attempt, settings=caller.settings, read=read, reply=replies.reply, belief=exchange.belief
        )
        return exchange.send(answered, replies.echoing(answered.attempt.reply))
