"""The view that redeems points."""

from functools import partial
from typing import Any

from django.http import HttpResponse
from rest_framework.request import Request

from reversals.api import redemption_json
from reversals.api.call import ApiCall, ApiView, parameters_of
from reversals.api.openapi import operations
from reversals.movements.redeem.movement import Redeem
from reversals.refusals import RedemptionError, Refused


class RedeemPoints(ApiView):
    """`POST /v2/customers/{customerId}/redemptions`."""

    http_method_names = ("post",)
    ladder = RedemptionError

    @operations.redeem_points
    def post(self, request: Request, customer_id: str) -> HttpResponse:
        call = ApiCall(request, Redeem.operation)
        caller = call.caller
        members: dict[str, Any] = {}
        reply = partial(redemption_json.reply, caller.org.id, members)
        try:
            members.update(call.read())
            call.attempt.is_dry_run = not redemption_json.read_commit(members, parameters_of(request))
            movement = Redeem(redemption_json.read_request(members, customer_id=customer_id), caller.settings)
        except Refused as refusal:
            return call.send(call.refuse(refusal, reply))
        return call.send(call.run(movement, reply))
