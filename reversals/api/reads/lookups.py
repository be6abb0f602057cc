"""Queries for the read views of reversals. They take no locks."""

from collections.abc import Iterable
from typing import Any

from django.db.models import OuterRef, Q, QuerySet, Subquery, Sum

from loyalty.ledger import queries
from loyalty.ledger.canonical import canonical
from loyalty.ledger.identifiers import Identifier
from loyalty.ledger.queries import find_customer_id, with_merged
from loyalty.models import Draw, Lot
from reversals.api.reads.pages import PageRequest
from reversals.api.reads.records import LineRecord, PageRecord, ReversalRecord, Role
from reversals.models import Correction, Reversal, ReversalLine
from reversals.refusals import ReadError, Refused

_NEWEST_FIRST = ("-created_at", "-id")
_COLUMNS = (
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
    """Finds the org's reversal with this public id. Returns None if it does not exist."""
    if not queries.can_be_stored(public_id):
        return None
    public_id = canonical(public_id)
    named = _reversals(org_id).filter(public_id=public_id)
    return next(iter(_records(named.values_list(*_COLUMNS, *_POINTS))), None)


def lines_of(*, org_id: int, reversal_id: int) -> tuple[LineRecord, ...]:
    """Returns the lines of the reversal with this row id, in the order of reversal."""
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
    """Returns the reversals of the redemption with this row id, oldest first."""
    reversals = _reversals(org_id).filter(redemption_id=redemption_id).order_by("created_at", "id")
    return _records(reversals.values_list(*_COLUMNS, *_POINTS))


def page_of_reversals(*, org_id: int, request: PageRequest) -> PageRecord:
    """Returns one page of the org's reversals that match all filters, newest first.

    A filter with an unknown id matches no reversals. Raises 887 if the cursor is not the id of a reversal.
    """
    listed = _listed(org_id, request)
    wanted = request.limit + 1  # the extra one shows whether there is a next page
    if request.customer is None:
        found = _records(listed.values_list(*_COLUMNS, *_POINTS)[:wanted])
    else:
        found = _found_for(request.customer, listed, org_id=org_id, wanted=wanted)
    page = tuple(found[: request.limit])
    return PageRecord(page, page[-1].public_id if len(found) > len(page) else None)


def _listed(org_id: int, request: PageRequest) -> QuerySet[Reversal]:
    """Returns the reversals after the cursor that match all filters except the customer's."""
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
        raise Refused(ReadError.INVALID_REQUEST, "cursor: expected the nextCursor of the previous page.")
    # The first condition looks redundant, but it gives PostgreSQL a range of the index; an OR alone does not.
    return Q(created_at__lte=last.made_at) & (Q(created_at__lt=last.made_at) | Q(id__lt=last.row_id))


def _found_for(customer: Identifier, listed: QuerySet[Reversal], *, org_id: int, wanted: int) -> list[ReversalRecord]:
    """Returns reversals of the customer's redemptions, and reversals to the customer's lots of others' redemptions.

    Runs two statements, because each can use its index; one statement with an OR could use neither. Returns up to
    `wanted` rows of each, newest first.
    """
    customer_id = find_customer_id(org_id=org_id, identifier=customer)
    if customer_id is None:
        return []
    customer_ids = with_merged(org_id=org_id, customer_id=customer_id)
    own = listed.filter(customer_id__in=customer_ids).values_list(*_COLUMNS, *_POINTS)
    # Subqueries from lots to draws to lines, because for joins SQLite scans all reversals of the org.
    lots = Lot.objects.filter(org_id=org_id, customer_id=customer_id)
    draws = Draw.objects.filter(org_id=org_id, lot__in=lots)
    lines = ReversalLine.objects.filter(org_id=org_id, draw__in=draws)
    of_others = listed.exclude(customer_id__in=customer_ids).filter(lines__in=lines)
    to_own_lots = of_others.values_list(*_COLUMNS, *(Sum(f"lines__{points}") for points in _POINTS))
    found = _records(own[:wanted], Role.TRANSACTING) + _records(to_own_lots[:wanted], Role.SOURCE)
    return sorted(found, key=lambda record: (record.made_at, record.row_id), reverse=True)


def _reversals(org_id: int) -> QuerySet[Reversal]:
    """Returns the org's reversals, each with the time of its correction."""
    corrections = Correction.objects.filter(org_id=org_id, reversal_id=OuterRef("id"))
    return Reversal.objects.filter(org_id=org_id).annotate(corrected_at=Subquery(corrections.values("created_at")))


def _records(rows: Iterable[tuple[Any, ...]], role: Role | None = None) -> list[ReversalRecord]:
    return [ReversalRecord(role, *row) for row in rows]
