"""Reads reversals for those who ask what was reversed; nothing here locks or decides."""

from collections.abc import Iterable
from typing import Any

from django.db.models import OuterRef, Q, QuerySet, Subquery, Sum

from loyalty.ledger import queries
from loyalty.ledger.identifiers import Identifier
from loyalty.ledger.queries import find_customer_id
from loyalty.models import Draw, Lot
from reversals.api.reads.pages import PageRequest
from reversals.api.reads.records import LineRecord, PageRecord, ReversalRecord, Role
from reversals.models import Correction, Reversal, ReversalLine
from reversals.refusals import ReadError, Refused

_NEWEST_FIRST = ("-created_at", "-id")
_MAKING = (
    "id",
    "public_id",
    "redemption__public_id",
    "customer__public_id",
    "points_asked",
    "channel",
    "made_by",
    "reason",
    "created_at",
    "corrected_at",
)
_POINTS = ("points", "points_available", "points_expired")


def find_reversal(*, org_id: int, public_id: str) -> ReversalRecord | None:
    """The org's reversal with this public id; None if it does not exist."""
    if not queries.can_be_stored(public_id):
        return None
    named = _reversals(org_id).filter(public_id=public_id)
    return next(iter(_records(named.values_list(*_MAKING, *_POINTS))), None)


def lines_of(*, org_id: int, reversal_id: int) -> tuple[LineRecord, ...]:
    """The lines of the reversal with this row id, in the order of reversal."""
    rows = (
        ReversalLine.objects.filter(org_id=org_id, reversal_id=reversal_id)
        .order_by("-draw__position")
        .values_list(
            "draw__position",
            "draw__lot__lot_ref",
            "draw__lot__expires_at",
            "draw__lot__program__public_id",
            "draw__lot__customer__public_id",
            *_POINTS,
            "reissued_lot__lot_ref",
        )
    )
    return tuple(LineRecord(*row) for row in rows)


def reversals_of(*, org_id: int, redemption_id: int) -> list[ReversalRecord]:
    """The reversals of the redemption with this row id, oldest first."""
    reversals = _reversals(org_id).filter(redemption_id=redemption_id).order_by("created_at", "id")
    return _records(reversals.values_list(*_MAKING, *_POINTS))


def page_of_reversals(*, org_id: int, request: PageRequest) -> PageRecord:
    """One page of the org's reversals that every filter lets through, newest first.

    A filter that names nothing of the org lets nothing through. Refuses 887: the cursor is no reversal's id.
    """
    listed = _listed(org_id, request)
    wanted = request.limit + 1  # the one more says whether there is a next page
    if request.customer is None:
        found = _records(listed.values_list(*_MAKING, *_POINTS)[:wanted])
    else:
        found = _found_for(request.customer, listed, org_id=org_id, wanted=wanted)
    page = tuple(found[: request.limit])
    return PageRecord(page, page[-1].public_id if len(found) > len(page) else None)


def _listed(org_id: int, request: PageRequest) -> QuerySet[Reversal]:
    """The reversals after the cursor that the filters other than the customer's let through."""
    listed = _reversals(org_id).order_by(*_NEWEST_FIRST)
    if request.cursor is not None:
        listed = listed.filter(_after(org_id, request.cursor))
    if request.since is not None:
        listed = listed.filter(created_at__gte=request.since)
    if request.until is not None:
        listed = listed.filter(created_at__lt=request.until)
    if request.names_redemption:
        redemption_id = queries.find_redemption_id(
            org_id=org_id,
            public_id=request.redemption_id,
            external_reference_number=request.external_reference_number,
        )
        listed = listed.none() if redemption_id is None else listed.filter(redemption_id=redemption_id)
    return listed


def _after(org_id: int, cursor: str) -> Q:
    last = find_reversal(org_id=org_id, public_id=cursor)
    if last is None:
        raise Refused(ReadError.INVALID_REQUEST, "cursor: expected what the page before gave for the next.")
    # The first condition alone is a range of the index, which an "or" is not.
    return Q(created_at__lte=last.made_at) & (Q(created_at__lt=last.made_at) | Q(id__lt=last.row_id))


def _found_for(customer: Identifier, listed: QuerySet[Reversal], *, org_id: int, wanted: int) -> list[ReversalRecord]:
    """The first of two lists in one order: what the customer redeemed, and what others redeemed of theirs.

    Each list is a statement that walks an index of its own; one statement with an "or" would walk none.
    """
    customer_id = find_customer_id(org_id=org_id, identifier=customer)
    if customer_id is None:
        return []
    own = listed.filter(customer_id=customer_id).values_list(*_MAKING, *_POINTS)
    # From lots to draws to lines by subqueries: of joins SQLite makes a walk through all reversals of the org.
    lots = Lot.objects.filter(org_id=org_id, customer_id=customer_id)
    draws = Draw.objects.filter(org_id=org_id, lot__in=lots)
    lines = ReversalLine.objects.filter(org_id=org_id, draw__in=draws)
    of_others = listed.exclude(customer_id=customer_id).filter(lines__in=lines)
    given_back = of_others.values_list(*_MAKING, *(Sum(f"lines__{points}") for points in _POINTS))
    found = _records(own[:wanted], Role.TRANSACTING) + _records(given_back[:wanted], Role.SOURCE)
    return sorted(found, key=lambda record: (record.made_at, record.row_id), reverse=True)


def _reversals(org_id: int) -> QuerySet[Reversal]:
    """The org's reversals, each with the time of its correction."""
    corrections = Correction.objects.filter(org_id=org_id, reversal_id=OuterRef("id"))
    return Reversal.objects.filter(org_id=org_id).annotate(corrected_at=Subquery(corrections.values("created_at")))


def _records(rows: Iterable[tuple[Any, ...]], role: Role | None = None) -> list[ReversalRecord]:
    return [ReversalRecord(role, *row) for row in rows]
