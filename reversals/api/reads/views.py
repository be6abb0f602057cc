"""The read views: redemptions, reversals and points."""

from typing import cast

from django.http import HttpResponse
from rest_framework.request import Request

from loyalty.clients.callers import Caller
from loyalty.ledger import queries
from loyalty.ledger.canonical import canonical
from loyalty.ledger.clock import database_now
from loyalty.ledger.identifiers import Identifier, IdentifierType
from loyalty.ledger.queries import find_customer_id
from reversals.api.call import ApiView, check_v2, parameters_of
from reversals.api.errors import answer
from reversals.api.openapi import operations
from reversals.api.reads import bodies, lookups
from reversals.refusals import ReadError, Refused

METHODS = ("get", "head")


class ReadRedemption(ApiView):
    """`GET /v2/points/redemptions/{redemptionId}`."""

    http_method_names = METHODS
    ladder = ReadError

    @operations.read_redemption
    def get(self, request: Request, redemption_id: str) -> HttpResponse:
        org_id = _org_of(request)
        with queries.one_snapshot():
            redemption = queries.find_redemption(org_id=org_id, public_id=redemption_id)
            if redemption is None:
                raise _not_found()
            reversals = lookups.reversals_of(org_id=org_id, redemption_id=redemption.row_id)
        return answer(200, bodies.redemption_body(org_id, redemption, reversals))


class ReadReversal(ApiView):
    """`GET /v2/points/reversals/{reversalId}`."""

    http_method_names = METHODS
    ladder = ReadError

    @operations.read_reversal
    def get(self, request: Request, reversal_id: str) -> HttpResponse:
        org_id = _org_of(request)
        reversal = lookups.find_reversal(org_id=org_id, public_id=reversal_id)
        if reversal is None:
            raise _not_found()
        lines = lookups.lines_of(org_id=org_id, reversal_id=reversal.row_id)
        return answer(200, bodies.reversal_body(org_id, reversal, lines))


class ListReversals(ApiView):
    """`GET /v2/points/reversals`."""

    http_method_names = METHODS
    ladder = ReadError

    @operations.list_reversals
    def get(self, request: Request) -> HttpResponse:
        org_id = _org_of(request)
        page_request = bodies.read_page_request(parameters_of(request))
        page = lookups.page_of_reversals(org_id=org_id, request=page_request)
        return answer(200, bodies.page_body(org_id, page))


class ReadPoints(ApiView):
    """`GET /v2/customers/{customerId}/points`."""

    http_method_names = METHODS
    ladder = ReadError

    @operations.read_points
    def get(self, request: Request, customer_id: str) -> HttpResponse:
        org_id = _org_of(request)
        public_id = canonical(customer_id)
        row_id = find_customer_id(org_id=org_id, identifier=Identifier(IdentifierType.ID, public_id))
        if row_id is None:
            raise _not_found()
        now = database_now()
        points = queries.points_of(org_id=org_id, customer_id=row_id, at=now)
        return answer(200, bodies.points_body(org_id=org_id, customer_id=int(public_id), points=points, at=now))


def _org_of(request: Request) -> int:
    """Returns the id of the caller's org. Raises 403 if its V2 API is off."""
    caller = cast(Caller, request.user)
    check_v2(caller)
    return caller.org.id


def _not_found() -> Refused:
    """Builds the refusal of an id. It is the same for unknown ids, ids of other orgs and invalid ids."""
    return Refused(
        ReadError.NOT_FOUND,
        "The org has nothing with this id. Check the id, and that the credentials are those of the right org.",
    )
