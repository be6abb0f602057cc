"""Builds the JSON bodies of events as the published API defines them, from plain values, without Django."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from loyalty.ledger.identifiers import Identifier, IdentifierType
from reversals.json_values import number, written_json

# The published API's names of the identifiers that an event may contain.
_INSTORE = {
    IdentifierType.MOBILE: "mobile",
    IdentifierType.EMAIL: "email",
    IdentifierType.EXTERNAL_ID: "externalId",
}
_POINTS_TO_CURRENCY = 1


@dataclass(frozen=True, slots=True)
class Occasion:
    """The common part of all events: customer, program and caller. All ids are public ids."""

    customer_id: int
    identifier: Identifier | None
    program_id: int
    program_name: str
    program_is_default: bool
    made_by: str
    by_api_client: bool


@dataclass(frozen=True, slots=True)
class ProgramPoints:
    """The points that moved in one program, and `points_after`, which the customer can spend there afterwards.

    `points` were drawn, or reversed and available. `expired` were reversed to expired lots.
    """

    program_id: int
    points: Decimal
    points_after: Decimal
    expired: Decimal = Decimal(0)


def reversed_data(
    *, occasion: Occasion, redemption_id: str, reversal_id: str, programs: Sequence[ProgramPoints]
) -> dict[str, Any]:
    """Builds the data of `redeemedPointsReversed`, with an entry for each program that points were reversed to."""
    available = sum((program.points for program in programs), Decimal(0))
    expired = sum((program.expired for program in programs), Decimal(0))
    return {
        **_about(occasion, activity="PointsRedemptionReversal", identifiers={"redemptionId": redemption_id}),
        "reversalId": reversal_id,
        **_reversed_points(available, expired),
        "redemptionSummaryId": None,
        "redemptionReversalToEarningPrograms": [
            {
                "programId": program.program_id,
                **_reversed_points(program.points, program.expired),
                "programCurrentPoints": number(program.points_after),
            }
            for program in programs
        ],
    }


def redeemed_data(
    *,
    occasion: Occasion,
    redemption_id: str,
    transaction_number: str,
    is_group_redemption: bool,
    programs: Sequence[ProgramPoints],
) -> dict[str, Any]:
    """Builds the data of `pointsRedeemed`, with an entry for each program that points were drawn from."""
    points = sum((program.points for program in programs), Decimal(0))
    return {
        **_about(
            occasion,
            activity="PointsRedemption",
            # There is no bill when points are redeemed. The published API sends -1 in this case.
            identifiers={"billId": "-1", "redemptionId": redemption_id},
        ),
        "redemptionId": redemption_id,
        "totalPointsRedeemed": number(points),
        "redemptionSummaryId": None,
        "redeemedPointsCurrencyValue": number(points * _POINTS_TO_CURRENCY),
        "redemptionNotes": "",
        "redemptionBillNumber": transaction_number,
        "isGroupRedemption": is_group_redemption,
        "redemptionFromEarningPrograms": [
            {
                "programId": program.program_id,
                "pointsRedeemed": number(program.points),
                "programCurrentPoints": number(program.points_after),
            }
            for program in programs
        ],
    }


def merged_data(*, merged_customer_id: int, customer_id: int, lots: int, redemptions: int) -> dict[str, Any]:
    """The data block of `customersMerged`: the merged customer, the customer who has everything now, and how much."""
    return {
        "mergedCustomerId": merged_customer_id,
        "customerId": customer_id,
        "lotsMoved": lots,
        "redemptionsMoved": redemptions,
    }


def body(
    *,
    number: int,
    event_id: str,
    name: str,
    org_id: int,
    request_id: str,
    created_at: datetime,
    data: dict[str, Any],
) -> bytes:
    """Builds the body of the event: the data in the flat envelope. The bytes are the same on every try.

    `number` gives the order of a customer's events. It fills the numeric row ids of the published format.
    """
    envelope = {
        "eventName": name,
        "eventId": event_id,
        "eventLogId": number,
        "orgId": org_id,
        "refId": f"{org_id}_{request_id}",
        "apiRequestId": request_id,
        "createdAt": int(created_at.timestamp() * 1000),
        "data": data | {"redemptionSummaryId": number},
        "loyaltyEventId": number,
    }
    return written_json(envelope).encode()


def _about(occasion: Occasion, *, activity: str, identifiers: dict[str, str]) -> dict[str, Any]:
    return {
        "customerIdentifiers": {"customerId": occasion.customer_id, "instore": _instore(occasion.identifier)},
        "entityInformation": {"entityType": "USER", "entityId": occasion.customer_id},
        "triggeringActivity": {
            "name": activity,
            "identifiers": [{"key": key, "value": value} for key, value in identifiers.items()],
            "enteredBy": _entered_by(occasion),
            "additionalAttributes": [],
        },
        "loyaltyProgramDetails": {
            "id": occasion.program_id,
            "name": occasion.program_name,
            "isDefault": occasion.program_is_default,
            "pointsToCurrencyRatio": float(_POINTS_TO_CURRENCY),
            "tiers": [],
        },
        "loyaltyProgramId": occasion.program_id,
    }


def _instore(identifier: Identifier | None) -> dict[str, str]:
    if identifier is None or identifier.type not in _INSTORE:
        return {}
    return {_INSTORE[identifier.type]: identifier.value}


def _entered_by(occasion: Occasion) -> dict[str, Any]:
    if occasion.by_api_client:
        return {"till": {"code": occasion.made_by, "name": occasion.made_by}}
    return {"id": occasion.made_by}


def _reversed_points(available: Decimal, expired: Decimal) -> dict[str, Any]:
    return {
        "redeemedPointsReversed": number(available + expired),
        "redeemedPointsReversedDetails": {"available": number(available), "expired": number(expired)},
    }
