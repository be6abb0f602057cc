"""Reads a RedemptionRequest from a request body, and renders the outcome as JSON."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from loyalty.ledger.canonical import canonical
from loyalty.ledger.snapshots import DrawRecord
from reversals.api.fields import (
    Parameters,
    by_member_and_expiry,
    failure_body,
    invalid,
    means_dry_run,
    read_amount,
    read_text,
)
from reversals.json_values import number, time_or_none, written_json
from reversals.movements.engine import Reply
from reversals.movements.redeem.movement import Redeemed
from reversals.movements.redeem.requests import RedemptionRequest
from reversals.refusals import Refused

ZERO = Decimal(0)


def read_commit(members: Mapping[str, Any], parameters: Parameters) -> bool:
    """Reads `commit`; false requests a dry run. Raises 887, also if the query string has a `dryRun`."""
    for name in parameters:
        if means_dry_run(name):
            raise invalid(name, '"commit": false in the body')
    commit = members.get("commit")
    if commit is None:
        return True
    if not isinstance(commit, bool):
        raise invalid("commit", "true or false")
    return commit


def read_request(members: Mapping[str, Any], *, customer_id: str) -> RedemptionRequest:
    """Reads the redemption that the body requests. Raises 887, 878."""
    program_id = read_text(members, "programId", longest=64)
    transaction_number = read_text(members, "transactionNumber", longest=128)
    external_reference_number = read_text(members, "externalReferenceNumber", longest=128)
    # Last, because 878 (too many decimals) comes after 887 in the order of refusals.
    points = read_amount(members, "points")
    if points is None:
        raise invalid("points", "a number of points to redeem")
    return RedemptionRequest(
        # The attempt stores the end of the id, and PostgreSQL cannot store a NUL character.
        customer_id=canonical(customer_id).replace("\0", "\N{REPLACEMENT CHARACTER}"),
        points_asked=points,
        program_id=program_id,
        transaction_number=transaction_number or "",
        external_reference_number=external_reference_number,
        reference_as_sent=None if external_reference_number is None else str(members["externalReferenceNumber"]),
    )


def reply(org_id: int, sent: Mapping[str, Any], outcome: Redeemed | Refused) -> Reply:
    """Renders the outcome as a reply. References in it are spelled as in the sent body."""
    if isinstance(outcome, Refused):
        error = outcome.error
        return Reply(error.status, failure_body(error.code, error.message, outcome.reason))
    return Reply(200, written_json(_redeemed(org_id, sent, outcome)))


def _redeemed(org_id: int, sent: Mapping[str, Any], redeemed: Redeemed) -> dict[str, object]:
    redemption = redeemed.redemption
    body: dict[str, object] = {
        "orgId": org_id,
        "customerId": redemption.customer_id,
        **({"redemptionId": redemption.public_id} if redemption.public_id else {}),
        **({"dryRun": True} if redeemed.is_dry_run else {}),
        "programId": redemption.program_id,
        "pointsRedeemed": number(redemption.points),
        "redeemedAt": time_or_none(redemption.redeemed_at),
        "transactionNumber": sent.get("transactionNumber") or redemption.transaction_number or None,
        "externalReferenceNumber": sent.get("externalReferenceNumber") or redemption.external_reference_number,
        "draws": [_draw(draw) for draw in redemption.draws],
    }
    if redemption.is_cross_member:
        body["crossMemberRedemptionBreakup"] = _breakup(redemption.draws)
    return body | {"balance": number(redeemed.balance), "warnings": [], "errors": []}


def _draw(draw: DrawRecord) -> dict[str, object]:
    return {
        "position": draw.position,
        "lotRef": draw.lot_ref,
        "programId": draw.program_id,
        "memberId": draw.member_id,
        "expiresAt": time_or_none(draw.lot_expires_at),
        "points": number(draw.points),
    }


def _breakup(draws: tuple[DrawRecord, ...]) -> list[dict[str, object]]:
    """Sums the points by member and expiry, in that order."""
    parts: dict[tuple[int | None, str | None], Decimal] = {}
    for draw in draws:
        part = draw.member_id, time_or_none(draw.lot_expires_at)
        parts[part] = parts.get(part, ZERO) + draw.points
    return [
        {"memberId": member, "pointsRedeemed": number(points), "expiryBatchDate": expiry}
        for (member, expiry), points in sorted(parts.items(), key=lambda part: by_member_and_expiry(*part[0]))
    ]
