"""The HTTP door of redemptions: who asks and in what shape, one call to the service, and its answer as JSON."""

from functools import partial

from django.http import HttpResponse
from rest_framework.request import Request

from reversals.authentication import RememberedAuthentication
from reversals.document import operations
from reversals.errors import RedemptionError
from reversals.exchange import ApiView, Exchange, parameters_of
from reversals.models import Operation
from reversals.redeeming import serializers
from reversals.redeeming.requests import RedemptionRequest
from reversals.redeeming.service import redeem_points


class RedeemPoints(ApiView):
    """`POST /v2/customers/{customerId}/redemptions`."""

    http_method_names = ("post",)
    authentication_classes = (RememberedAuthentication,)
    ladder = RedemptionError

    @operations.redeem_points
    def post(self, request: Request, customer_id: str) -> HttpResponse:
        exchange = Exchange(request, Operation.REDEEM)
        caller = exchange.caller

        def read() -> RedemptionRequest:
            members = exchange.read()
            exchange.attempt.is_dry_run = not serializers.read_commit(members, parameters_of(request))
            return serializers.read_request(members, customer_id=customer_id)

        answered = redeem_points(
            exchange.attempt,
            settings=caller.settings,
            read=read,
            reply=partial(serializers.reply, caller.org.id),
            belief=exchange.belief,
        )
        return exchange.send(answered)
