"""The views that the shipped endpoint is compared with: a constant, and a reversal in plain ORM and DRF."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.utils import timezone
from rest_framework import serializers
from rest_framework.authentication import BasicAuthentication
from rest_framework.exceptions import AuthenticationFailed, ValidationError
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from loyalty.clients.credentials import keyed_digest
from loyalty.models import ApiClient, ApiSecret, EmfSetting, Lot, Redemption
from reversals.models import Attempt, Channel, Reversal, ReversalLine
from reversals.movements.public_ids import new_public_id


class Constant(APIView):
    """Always answers the same JSON, without the database."""

    authentication_classes = ()
    renderer_classes = (JSONRenderer,)

    def get(self, request: Request) -> Response:
        return Response({"errors": [], "warnings": []})


class ClientAuthentication(BasicAuthentication):
    """Looks up the API client of HTTP Basic credentials in the simplest way."""

    def authenticate_credentials(self, userid: str, password: str, request: Any = None) -> tuple[ApiClient, None]:
        secret = ApiSecret.objects.filter(
            client__username=userid, client__is_active=True, client__org__is_active=True, digest=keyed_digest(password)
        ).first()
        if secret is None:
            raise AuthenticationFailed
        client = ApiClient.objects.select_related("org").get(pk=secret.client_id)
        client.is_authenticated = True
        return client, None


class IdentifierSerializer(serializers.Serializer[Any]):
    type = serializers.ChoiceField(["ID"])
    value = serializers.CharField()


class BodySerializer(serializers.Serializer[Any]):
    redemptionId = serializers.CharField()  # noqa: N815 (the published name)
    identifier = IdentifierSerializer()
    pointsToBeReversed = serializers.DecimalField(max_digits=15, decimal_places=3)  # noqa: N815


class PlainReversal(APIView):
    """A reversal with its checks, locks, lines and attempt, with one ORM operation for each."""

    authentication_classes = (ClientAuthentication,)
    parser_classes = (JSONParser,)
    renderer_classes = (JSONRenderer,)

    def get_exception_handler(self) -> Any:
        return exception_handler

    def post(self, request: Request) -> Response:
        body = BodySerializer(data=request.data)
        body.is_valid(raise_exception=True)
        with transaction.atomic():
            return Response(_reverse(request.user, *body.validated_data.values()))


def _locked(org: Any, redemption_id: str, identifier: dict[str, str], points: Decimal) -> Redemption:
    """The redemption, locked and checked."""
    settings = {setting.key: setting.value for setting in EmfSetting.objects.filter(org=org)}
    if settings.get("Allow_points_redemption_reversal") != "yes":
        raise ValidationError("reversals are off")
    redemption = (
        Redemption.objects.select_for_update(of=("self", "customer"))
        .select_related("customer", "program")
        .filter(org=org, public_id=redemption_id, customer__public_id=identifier["value"])
        .first()
    )
    if redemption is None or not redemption.program.is_active or redemption.customer.status != "ACTIVE":
        raise ValidationError("no such redemption")
    if points > redemption.points - redemption.points_reversed:
        raise ValidationError("more points than remaining")
    same = Reversal.objects.filter(redemption=redemption, points_asked=points, has_key=False)
    if same.filter(created_at__gt=timezone.now() - timedelta(seconds=30)).exists():
        raise ValidationError("a duplicate of an earlier reversal")
    return redemption


def _reverse(client: Any, redemption_id: str, identifier: dict[str, str], points: Decimal) -> dict[str, Any]:
    org, now = client.org, timezone.now()
    redemption = _locked(org, redemption_id, identifier, points)
    reversal = Reversal.objects.create(
        org=org,
        redemption=redemption,
        customer=redemption.customer,
        public_id=new_public_id(),
        points_asked=points,
        points=points,
        points_available=points,
        points_expired=0,
        has_key=False,
        channel=Channel.API,
        client=client,
        made_by=client.username,
        created_at=now,
    )
    _refill_lots(reversal, redemption)
    reply = {
        "orgId": org.id,
        "identifier": identifier,
        "customerId": redemption.customer.public_id,
        "redemptionId": redemption.public_id,
        "reversalId": reversal.public_id,
        "pointsToBeReversed": points,
        "pointsReversed": points,
        "warnings": [],
        "errors": [],
    }
    Attempt.objects.create(
        org=org,
        created_at=now,
        operation="REVERSE",
        channel=Channel.API,
        client=client,
        made_by=client.username,
        redemption_id_asked=redemption_id,
        identifier_type="ID",
        points_asked=points,
        http_status=200,
        reversal=reversal,
        reply=str(reply),
    )
    return reply


def _refill_lots(reversal: Reversal, redemption: Redemption) -> None:
    redemption.points_reversed += reversal.points
    redemption.save(update_fields=["points_reversed"])
    missing = reversal.points
    for draw in redemption.draws.select_for_update().order_by("-position"):
        returned = min(missing, draw.points - draw.points_reversed)
        if not returned:
            continue
        missing -= returned
        draw.points_reversed += returned
        draw.save(update_fields=["points_reversed"])
        lot = Lot.objects.select_for_update().get(pk=draw.lot_id)
        lot.points_remaining += returned
        lot.save(update_fields=["points_remaining"])
        ReversalLine.objects.create(
            org=reversal.org,
            reversal=reversal,
            draw=draw,
            points=returned,
            points_available=returned,
            points_expired=0,
        )
