"""The HTTP door of reversals: who asks and in what shape, one call to the service, and its answer as JSON."""

from django.http import HttpResponse
from rest_framework.request import Request

from reversals.document import operations
from reversals.errors import ErrorCode, Refused
from reversals.exchange import ApiView, Exchange, parameters_of
from reversals.serializers import ReversalReplies
from reversals.service import Reverse


class ReversePoints(ApiView):
    """`POST /v2/points/reverse`."""

    http_method_names = ("post",)
    ladder = ErrorCode

    @operations.reverse_points
    def post(self, request: Request) -> HttpResponse:
        exchange = Exchange(request, Reverse.operation)
        caller = exchange.caller
        replies = ReversalReplies(caller.org, caller.settings)
        try:
            members = exchange.read()
            exchange.attempt.is_dry_run = replies.read_options(parameters_of(request))
            movement = Reverse(replies.read(members), caller.settings)
        except Refused as refusal:
            outcome = exchange.refuse(refusal, replies.reply)
        else:
            outcome = exchange.run(movement, replies.reply)
        return exchange.send(outcome, replies.echoing(outcome.attempt.reply))
