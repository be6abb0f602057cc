"""The view that reverses points."""

from django.http import HttpResponse
from rest_framework.request import Request

from reversals.api.call import ApiCall, ApiView, parameters_of
from reversals.api.openapi import operations
from reversals.api.reversal_json import ReversalReplies
from reversals.movements.reverse.movement import Reverse
from reversals.refusals import ErrorCode, Refused


class ReversePoints(ApiView):
    """`POST /v2/points/reverse`."""

    http_method_names = ("post",)
    ladder = ErrorCode

    @operations.reverse_points
    def post(self, request: Request) -> HttpResponse:
        call = ApiCall(request, Reverse.operation)
        caller = call.caller
        replies = ReversalReplies(caller.org, caller.settings)
        try:
            members = call.read()
            call.attempt.is_dry_run = replies.read_options(parameters_of(request))
            movement = Reverse(replies.read(members), caller.settings)
        except Refused as refusal:
            outcome = call.refuse(refusal, replies.reply)
        else:
            outcome = call.run(movement, replies.reply)
        return call.send(outcome, replies.echoing(outcome.attempt.reply))
