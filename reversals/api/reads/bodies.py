"""Reads a PageRequest from query parameters, and renders records as JSON."""

import re
from collections.abc import Iterable
from datetime import datetime

from django.http import QueryDict

from loyalty.ledger.canonical import canonical
from loyalty.ledger.clock import in_utc
from loyalty.ledger.identifiers import Identifier, IdentifierType
from loyalty.ledger.snapshots import DrawRecord, PointsRecord, RedemptionRecord
from reversals.api.fields import invalid
from reversals.api.reads.pages import PageRequest
from reversals.api.reads.records import LineRecord, PageRecord, ReversalRecord
from reversals.json_values import number, time_or_none, written_json

PAGE_LIMIT = 50
LARGEST_LIMIT = 200

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:?\d\d)", re.ASCII)
_LIMIT = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)


def read_page_request(parameters: QueryDict) -> PageRequest:
    """Reads the requested page from the query parameters. Ignores unknown parameters. Raises 887."""
    customer_id = _read_one(parameters, "customerId")
    return PageRequest(
        redemption_id=_read_one(parameters, "redemptionId"),
        external_reference_number=_read_one(parameters, "externalReferenceNumber"),
        customer=None if customer_id is None else Identifier(IdentifierType.ID, canonical(customer_id)),
        since=_read_time(parameters, "from"),
        until=_read_time(parameters, "to"),
        limit=_read_limit(parameters),
        cursor=_read_one(parameters, "cursor"),
    )


def _read_one(parameters: QueryDict, name: str) -> str | None:
    values = parameters.getlist(name)
    if not values:
        return None
    if len(values) > 1 or not canonical(values[0]):
        raise invalid(name, "one non-empty value, or no such parameter")
    return values[0]


def _read_time(parameters: QueryDict, name: str) -> datetime | None:
    text = _read_one(parameters, name)
    if text is None:
        return None
    # The second example encodes its plus sign, because a bare plus sign arrives as a space.
    expected = invalid(name, "a time such as 2026-04-10T00:00:00Z or 2026-04-10T05:30:00%2B05:30")
    if _TIME.fullmatch(text) is None:
        raise expected
    try:
        return in_utc(datetime.fromisoformat(text))
    except ValueError as error:
        raise expected from error


def _read_limit(parameters: QueryDict) -> int:
    text = _read_one(parameters, "limit")
    if text is None:
        return PAGE_LIMIT
    if _LIMIT.fullmatch(text) is None or int(text) > LARGEST_LIMIT:
        raise invalid("limit", f"a whole number from 1 to {LARGEST_LIMIT}")
    return int(text)


def redemption_body(org_id: int, redemption: RedemptionRecord, reversals: Iterable[ReversalRecord]) -> str:
    """Renders the redemption with its draws and reversals."""
    return _body(
        org_id,
        {
            "customerId": redemption.customer_id,
            "redemptionId": redemption.public_id,
            "programId": redemption.program_id,
            "points": number(redemption.points),
            "pointsReversed": number(redemption.points_reversed),
            "pointsLeft": number(redemption.points_left),
            "redeemedAt": time_or_none(redemption.redeemed_at),
            "transactionNumber": redemption.transaction_number or None,
            "externalReferenceNumber": redemption.external_reference_number,
            "draws": [_draw(draw) for draw in redemption.draws],
            "reversals": [
                {"reversalId": reversal.public_id} | _reversed_points(reversal) | _origin(reversal)
                for reversal in reversals
            ],
        },
    )


def reversal_body(org_id: int, reversal: ReversalRecord, lines: Iterable[LineRecord]) -> str:
    """Renders the reversal with its lines. If no amount was requested, `pointsToBeReversed` is the amount reversed."""
    requested = reversal.points if reversal.points_asked is None else reversal.points_asked
    return _body(
        org_id,
        {
            "customerId": reversal.customer_id,
            "redemptionId": reversal.redemption_id,
            "reversalId": reversal.public_id,
            "pointsToBeReversed": number(requested),
            **_reversed_points(reversal),
            **_origin(reversal),
            "reason": reversal.reason or None,
            "lines": [_line(line) for line in lines],
        },
    )


def page_body(org_id: int, page: PageRecord) -> str:
    """Renders the reversals of the page and the cursor of the next page."""
    return _body(
        org_id,
        {"reversals": [_listed(reversal) for reversal in page.reversals], "nextCursor": page.next_cursor},
    )


def points_body(*, org_id: int, customer_id: int, points: PointsRecord, at: datetime) -> str:
    """Renders the customer's own points at the time `at`."""
    return _body(
        org_id,
        {
            "customerId": customer_id,
            "available": number(points.available),
            "expired": number(points.expired),
            "byExpiry": [
                {"expiresAt": time_or_none(part.expires_at), "points": number(part.points)} for part in points.by_expiry
            ],
            "asOf": time_or_none(at),
        },
    )


def _body(org_id: int, members: dict[str, object]) -> str:
    return written_json({"orgId": org_id, **members, "warnings": [], "errors": []})


def _reversed_points(reversal: ReversalRecord) -> dict[str, object]:
    return {
        "pointsReversed": number(reversal.points),
        "pointsReversedDetails": {
            "available": number(reversal.points_available),
            "expired": number(reversal.points_expired),
        },
    }


def _origin(reversal: ReversalRecord) -> dict[str, object]:
    return {
        "reversedAt": time_or_none(reversal.made_at),
        "channel": reversal.channel,
        "madeBy": reversal.made_by,
        "correction": _correction(reversal),
    }


def _correction(reversal: ReversalRecord) -> dict[str, object] | None:
    if reversal.corrected_at is None:
        return None
    return {"correctedAt": time_or_none(reversal.corrected_at), "pointsCorrected": number(reversal.points)}


def _listed(reversal: ReversalRecord) -> dict[str, object]:
    return {
        "reversalId": reversal.public_id,
        "redemptionId": reversal.redemption_id,
        "customerId": reversal.customer_id,
        **({} if reversal.role is None else {"role": reversal.role}),
        **_reversed_points(reversal),
        **_origin(reversal),
    }


def _draw(draw: DrawRecord) -> dict[str, object]:
    return {
        **_drawn_from(draw),
        "points": number(draw.points),
        "pointsReversed": number(draw.points_reversed),
    }


def _line(line: LineRecord) -> dict[str, object]:
    return {
        **_drawn_from(line),
        "points": number(line.points),
        "available": number(line.points_available),
        "expired": number(line.points_expired),
        "reissuedLotRef": line.reissued_lot_ref,
    }


def _drawn_from(drawn: DrawRecord | LineRecord) -> dict[str, object]:
    return {
        "position": drawn.position,
        "lotRef": drawn.lot_ref,
        "programId": drawn.program_id,
        "memberId": drawn.member_id,
        "expiresAt": time_or_none(drawn.lot_expires_at),
    }
