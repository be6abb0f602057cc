"""The examples of requests and successful replies in the document."""

from typing import Any

Example = dict[str, Any]


def _example(summary: str, value: object) -> Example:
    return {"summary": summary, "value": value}


def _reversal_of(redemption_id: str, *, identifier: tuple[str, str], **points: object) -> dict[str, object]:
    kind, value = identifier
    return {"redemptionId": redemption_id, **points, "identifier": {"type": kind, "value": value}}


REVERSAL_REQUESTS = {
    "published": _example(
        "Some of the points",
        _reversal_of("gWpna6", pointsToBeReversed=2, identifier=("ID", "564847023")),
    ),
    "by_reference": _example(
        "By external reference number",
        {
            "externalReferenceNumber": "ORD-2024-98765",
            "pointsToBeReversed": 2,
            "identifier": {"type": "ID", "value": "564847023"},
        },
    ),
    "by_mobile": _example(
        "By mobile number",
        _reversal_of("54ZNkA", pointsToBeReversed=10, identifier=("mobile", "919740000000")),
    ),
    "airline": _example(
        "Points with decimals, from an airline",
        _reversal_of("gWpna6", pointsToBeReversed=250.5, identifier=("externalId", "FF-0001")),
    ),
    "till": _example(
        "From a till, by mobile number with country code",
        _reversal_of("gWpna6", pointsToBeReversed=120, identifier=("mobile", "84912345678")),
    ),
    "order_service": _example(
        "Points as a string, from an order service",
        _reversal_of("gWpna6", pointsToBeReversed="250.0", identifier=("externalId", "HH-00001")),
    ),
    "all_that_is_left": _example(
        "All remaining points, by email",
        _reversal_of("gWpna6", identifier=("EMAIL", "asha@example.com")),
    ),
}

_PUBLISHED_REPLY = {
    "orgId": 100737,
    "identifier": {"type": "ID", "value": "564847023"},
    "customerId": 564847023,
    "redemptionId": "gWpna6",
    "reversalId": "zwU7b0",
    "pointsToBeReversed": 2.0,
    "pointsReversed": 2.0,
    "pointsReversedDetails": {"available": 2.0, "expired": 0.0},
    "warnings": [],
    "errors": [],
}
_PARTLY_EXPIRED = {
    "pointsToBeReversed": 350.0,
    "pointsReversed": 350.0,
    "pointsReversedDetails": {"available": 330.0, "expired": 20.0},
    "warnings": [
        {
            "status": True,
            "code": 1001,
            "message": "20 of the 350 points were reversed to lots that have expired and cannot be spent again.",
        }
    ],
}
_BREAKUP = [
    {
        "memberId": 564847023,
        "pointsRestored": 100.0,
        "pointsExpiredByReversal": 0.0,
        "expiryBatchDate": "2026-10-31T23:59:59Z",
        "status": "REVERSED",
    },
    {
        "memberId": 564847024,
        "pointsRestored": 230.0,
        "pointsExpiredByReversal": 0.0,
        "expiryBatchDate": "2026-12-31T23:59:59Z",
        "status": "REVERSED",
    },
    {
        "memberId": 564847024,
        "pointsRestored": 20.0,
        "pointsExpiredByReversal": 20.0,
        "expiryBatchDate": "2026-04-10T00:00:00Z",
        "status": "REVERSED",
    },
]
_EXPANDED = {
    "lines": [
        {
            "position": 1,
            "lotRef": "LOT-1",
            "memberId": 564847023,
            "expiresAt": "2026-12-31T23:59:59Z",
            "points": 2.0,
            "available": 2.0,
            "expired": 0.0,
            "reissued": 0.0,
        }
    ],
    "redemption": {"points": 10.0, "pointsReversed": 2.0, "pointsLeft": 8.0},
}
_DRY_RUN = {("dryRun" if name == "reversalId" else name): value for name, value in _PUBLISHED_REPLY.items()}

REVERSAL_REPLIES = {
    "published": _example("Points reversed", _PUBLISHED_REPLY),
    "partly_expired": _example("Some points reversed to expired lots", _PUBLISHED_REPLY | _PARTLY_EXPIRED),
    "cross_member": _example(
        "Points of several members",
        _PUBLISHED_REPLY | _PARTLY_EXPIRED | {"crossMemberReversalBreakup": _BREAKUP},
    ),
    "expanded": _example("With expand=lines,redemption", _PUBLISHED_REPLY | _EXPANDED),
    "dry_run": _example("A dry run, with dryRun=true", _DRY_RUN | {"dryRun": True}),
}

REDEMPTION_REQUESTS = {
    "redemption": _example("A redemption", {"points": 350, "transactionNumber": "TXN-882291"}),
    "retried": _example(
        "Safe to retry by its external reference number",
        {"points": 350, "transactionNumber": "TXN-882291", "externalReferenceNumber": "TXN-882291"},
    ),
    "dry_run": _example("A dry run", {"points": "350.0", "commit": False}),
}

_DRAW = {
    "position": 1,
    "lotRef": "LOT-1",
    "programId": 973,
    "memberId": 564847023,
    "expiresAt": "2026-12-31T23:59:59Z",
    "points": 350.0,
}
_REDEEMED = {
    "orgId": 100737,
    "customerId": 564847023,
    "redemptionId": "gWpna6",
    "programId": 973,
    "pointsRedeemed": 350.0,
    "redeemedAt": "2026-03-01T10:00:00Z",
    "transactionNumber": "TXN-882291",
    "externalReferenceNumber": None,
    "draws": [_DRAW],
    "balance": 1990.0,
    "warnings": [],
    "errors": [],
}
_REDEEMED_DRY_RUN = {("dryRun" if name == "redemptionId" else name): value for name, value in _REDEEMED.items()}
_OF_GROUP = [
    {"memberId": 564847023, "pointsRedeemed": 350.0, "expiryBatchDate": "2026-12-31T23:59:59Z"},
]

REDEMPTION_REPLIES = {
    "redeemed": _example("A redemption", _REDEEMED),
    "cross_member": _example("With a breakup by member", _REDEEMED | {"crossMemberRedemptionBreakup": _OF_GROUP}),
    "dry_run": _example("A dry run", _REDEEMED_DRY_RUN | {"dryRun": True}),
}

_REVERSED_POINTS = {"pointsReversed": 2.0, "pointsReversedDetails": {"available": 2.0, "expired": 0.0}}
_ORIGIN = {"reversedAt": "2026-03-02T09:30:00Z", "channel": "API", "madeBy": "till.1", "correction": None}
_NO_MESSAGES: dict[str, list[object]] = {"warnings": [], "errors": []}

REDEMPTION = {
    "redemption": _example(
        "A redemption of which 2 points were reversed",
        {
            "orgId": 100737,
            "customerId": 564847023,
            "redemptionId": "gWpna6",
            "programId": 973,
            "points": 350.0,
            "pointsReversed": 2.0,
            "pointsLeft": 348.0,
            "redeemedAt": "2026-03-01T10:00:00Z",
            "transactionNumber": "TXN-882291",
            "externalReferenceNumber": None,
            "draws": [_DRAW | {"pointsReversed": 2.0}],
            "reversals": [{"reversalId": "zwU7b0"} | _REVERSED_POINTS | _ORIGIN],
            **_NO_MESSAGES,
        },
    )
}
REVERSAL = {
    "reversal": _example(
        "A reversal",
        {
            "orgId": 100737,
            "customerId": 564847023,
            "redemptionId": "gWpna6",
            "reversalId": "zwU7b0",
            "pointsToBeReversed": 2.0,
            **_REVERSED_POINTS,
            **_ORIGIN,
            "reason": None,
            "lines": [_DRAW | {"points": 2.0, "available": 2.0, "expired": 0.0, "reissuedLotRef": None}],
            **_NO_MESSAGES,
        },
    )
}
_LISTED = {"reversalId": "zwU7b0", "redemptionId": "gWpna6", "customerId": 564847023} | _REVERSED_POINTS | _ORIGIN
REVERSAL_LIST = {
    "list": _example(
        "Reversals of a redemption",
        {"orgId": 100737, "reversals": [_LISTED], "nextCursor": None, **_NO_MESSAGES},
    ),
    "of_customer": _example(
        "Reversals of a customer, with more to come",
        {
            "orgId": 100737,
            "reversals": [_LISTED | {"role": "TRANSACTING"}],
            "nextCursor": "zwU7b0",
            **_NO_MESSAGES,
        },
    ),
}
POINTS = {
    "points": _example(
        "The points of a customer",
        {
            "orgId": 100737,
            "customerId": 564847023,
            "available": 1990.0,
            "expired": 20.0,
            "byExpiry": [
                {"expiresAt": "2026-12-31T23:59:59Z", "points": 1500.0},
                {"expiresAt": None, "points": 490.0},
            ],
            "asOf": "2026-03-02T09:30:00Z",
            **_NO_MESSAGES,
        },
    )
}
