"""JSON Schemas of requests and successful replies, and of the envelope of failures."""

from collections.abc import Collection
from typing import Any

from loyalty.ledger.identifiers import IdentifierType
from loyalty.ledger.points import DECIMALS, INTEGER_DIGITS
from reversals.api.reads.records import Role
from reversals.api.reversal_json import WARNING_CANNOT_SPEND, WARNING_EXPIRED, WARNING_REISSUED
from reversals.models import Channel

Schema = dict[str, Any]

# JSON Schema applies lengths and patterns only to strings. The server also checks the length of a number's text.
_NO_NUL = r"^[^\u0000]+$"


def ref(name: str) -> Schema:
    """Returns a reference to the component schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def exactly(properties: Schema, *, optional: Collection[str] = ()) -> Schema:
    """Returns the schema of an object with exactly these members; those in `optional` may be absent."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def or_null(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


def described(schema: Schema, description: str) -> Schema:
    return schema | {"description": description}


# Parts of replies

_POINTS = {"type": "number", "minimum": 0, "examples": [2.0]}
_COUNTING_NUMBER = {"type": "integer", "minimum": 1, "format": "int64"}
PUBLIC_ID = {"type": "string", "pattern": "^[A-Za-z0-9]{6}$", "examples": ["zwU7b0"]}
_TEXT = {"type": "string"}
_TIME = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$",
    "examples": ["2026-04-10T00:00:00Z"],
}
_EMPTY = {"type": "array", "maxItems": 0, "description": "Always empty in this reply."}

_WARNING = exactly(
    {
        "status": {"const": True},
        "code": {
            "enum": [WARNING_EXPIRED, WARNING_REISSUED, WARNING_CANNOT_SPEND],
            "description": f"`{WARNING_EXPIRED}`: points were reversed to lots that have expired."
            f" `{WARNING_REISSUED}`: points were re-issued in a new lot."
            f" `{WARNING_CANNOT_SPEND}`: points belong to a customer whose status does not allow spending.",
        },
        "message": described(_TEXT, "An explanation to show to staff."),
    }
)
_SUCCESS = {
    "warnings": described(
        array(_WARNING), "Notes about the points that staff or the customer should know. Usually empty."
    ),
    "errors": _EMPTY,
}
_READ = {"warnings": _EMPTY, "errors": _EMPTY}

_ORG_ID = described(_COUNTING_NUMBER, "The id of the org of the credentials.")
_CUSTOMER_ID = described(_COUNTING_NUMBER, "The id of the customer who redeemed the points.")
_REDEMPTION_ID = described(_TEXT, "The id of the redemption.")
_REVERSAL_ID = described(PUBLIC_ID, "The id of the reversal.")
_DRY_RUN = {"const": True, "description": "Present if this is a dry run: no points moved."}
_TO_BE_REVERSED = described(_POINTS, "The points requested, or all remaining points if no amount was requested.")
_AVAILABLE = described(_POINTS, "The points reversed that can be spent again.")
_EXPIRED = described(_POINTS, "The points reversed to lots that have expired. They cannot be spent.")
_POINTS_REVERSED = described(_POINTS, "The points reversed, available and expired together.")
_OF_REDEMPTION = {
    "points": described(_POINTS, "The points redeemed."),
    "pointsReversed": described(_POINTS, "The points reversed so far, by all reversals."),
    "pointsLeft": described(_POINTS, "The points remaining to reverse."),
}
_REDEEMED_AT = described(_TIME, "The time of the redemption, in UTC.")
_TRANSACTION_NUMBER = described(or_null(_TEXT), "The number of the purchase; null if the request had none.")
_EXTERNAL_NUMBER = described(or_null(_TEXT), "The caller's own number of the redemption; null if the request had none.")
_EXPIRES_AT = described(or_null(_TIME), "The time when the lot expires, in UTC; null if it never does.")

_DETAILS = exactly({"available": _AVAILABLE, "expired": _EXPIRED})
_REVERSED_POINTS = {"pointsReversed": _POINTS_REVERSED, "pointsReversedDetails": _DETAILS}
_CORRECTION = exactly(
    {
        "correctedAt": described(_TIME, "The time of the correction, in UTC."),
        "pointsCorrected": described(_POINTS, "The points drawn again."),
    }
) | {"description": "The correction of a mistaken reversal, which drew all of its points again; null if there is none."}
_ORIGIN = {
    "reversedAt": described(_TIME, "The time of the reversal, in UTC."),
    "channel": {
        "enum": Channel.values,
        "description": "How the reversal was made. `API`: by an API client. `ADMIN`: manually in the back office."
        " `BULK`: by a bulk run. `COMMAND`: by a command on the server.",
    },
    "madeBy": described(_TEXT, "The username of the API client or user who made the reversal."),
    "correction": or_null(_CORRECTION),
}
_POSITION = {"type": "integer", "minimum": 1, "description": "The position of the draw in the redemption."}
_LOT_REF = described(or_null(_TEXT), "The reference of the lot drawn from; null if the points came from no lot.")
_DRAWN_FROM = {
    "position": _POSITION,
    "lotRef": _LOT_REF,
    "programId": described(or_null(_COUNTING_NUMBER), "The program of the lot."),
    "memberId": described(or_null(_COUNTING_NUMBER), "The id of the customer who owns the lot."),
    "expiresAt": _EXPIRES_AT,
    "points": described(_POINTS, "The points drawn from the lot."),
}

# Parts of requests

_POSITIVE_DIGITS = (
    rf"0*([1-9][0-9]{{0,{INTEGER_DIGITS - 1}}}(\.[0-9]{{1,{DECIMALS}}}0*)?"
    r"|0\.([1-9][0-9]{0,2}|0[1-9][0-9]?|00[1-9])0*)"
)
_AMOUNT_NUMBER = {
    "type": "number",
    "exclusiveMinimum": 0,
    "maximum": 10**INTEGER_DIGITS - 1,
    "multipleOf": 10**-DECIMALS,
}
_AMOUNT_TEXT = {"type": "string", "pattern": f"^{_POSITIVE_DIGITS}$"}
_COMMIT = {
    "type": ["boolean", "null"],
    "default": True,
    "description": "If false, checks the request and returns what would happen. No points move.",
}


def _amount(description: str, *, is_optional: bool) -> Schema:
    kinds: list[Schema] = [_AMOUNT_NUMBER, _AMOUNT_TEXT]
    return {"description": description, "anyOf": [*kinds, {"type": "null"}] if is_optional else kinds}


def _name(description: str, *, longest: int, is_optional: bool = False) -> Schema:
    """Returns the schema of a string. The server also accepts a number, and reads its text."""
    kinds = ["string", "number", "null"] if is_optional else ["string", "number"]
    return {"type": kinds, "minLength": 1, "maxLength": longest, "pattern": _NO_NUL, "description": description}


def _in_any_case(word: str) -> str:
    return "".join(f"[{letter}{letter.lower()}]" for letter in word)


def _spellings(kind: str) -> str:
    return "_?".join(_in_any_case(word) for word in kind.split("_"))


_IDENTIFIER_TYPE = {
    "type": "string",
    "pattern": "^(" + "|".join(_spellings(kind) for kind in [*IdentifierType, "PHONE"]) + ")$",
    "examples": [*IdentifierType, "PHONE"],
    "description": "The type of the identifier. Case and underscores are ignored. `PHONE` means `MOBILE`.",
}
_IDENTIFIER_VALUE = {
    "type": ["string", "number"],
    "minLength": 1,
    "pattern": _NO_NUL,
    "description": "The identifier. A mobile number may have its country code or not. The case of an email is ignored.",
}

_REDEMPTION_TO_REVERSE = _name("The id of the redemption to reverse.", longest=64)
_REFERENCE = _name("The external reference number of the redemption to reverse.", longest=128)
_ABSENT = {"type": "null"}
_PROGRAM_ID = _name("The program of the redemption. Any other program is refused.", longest=64, is_optional=True)


def _reversal_of(naming: Schema, *, named_by: str) -> Schema:
    """Returns the schema of a request that names its redemption by the member `named_by`."""
    return {
        "type": "object",
        "required": [named_by, "identifier"],
        "properties": naming
        | {
            "pointsToBeReversed": _amount(
                "The points to reverse. If absent or null, all remaining points are reversed.", is_optional=True
            ),
            "identifier": ref("Identifier"),
            "programId": _PROGRAM_ID,
        },
    }


REQUESTS: dict[str, Schema] = {
    "Identifier": {
        "type": "object",
        "description": "Identifies the customer who made the redemption.",
        "required": ["type", "value"],
        "properties": {"type": _IDENTIFIER_TYPE, "value": _IDENTIFIER_VALUE},
    },
    "ReversalByRedemptionId": _reversal_of(
        {"redemptionId": _REDEMPTION_TO_REVERSE, "externalReferenceNumber": _ABSENT}, named_by="redemptionId"
    ),
    "ReversalByReference": _reversal_of(
        {"redemptionId": _ABSENT, "externalReferenceNumber": _REFERENCE}, named_by="externalReferenceNumber"
    ),
    "ReversalRequest": {
        "description": "Send exactly one of `redemptionId` and `externalReferenceNumber`. Unknown members are ignored.",
        "oneOf": [ref("ReversalByRedemptionId"), ref("ReversalByReference")],
    },
    "RedemptionRequest": {
        "type": "object",
        "description": "Unknown members are ignored.",
        "required": ["points"],
        "properties": {
            "points": _amount("The points to redeem.", is_optional=False),
            "programId": _name(
                "The program to redeem from. Required if the org has several programs.", longest=64, is_optional=True
            ),
            "transactionNumber": _name("The number of the purchase.", longest=128, is_optional=True),
            "externalReferenceNumber": _name(
                "Your own unique number of the redemption. If a request repeats a number and its content, the reply is"
                " the first redemption, and no points move.",
                longest=128,
                is_optional=True,
            ),
            "commit": _COMMIT,
        },
    },
}

# Replies

_REVERSED_IDENTIFIER = exactly({"type": _TEXT, "value": {"type": ["string", "number"]}})
_MEMBER_ID = described(_COUNTING_NUMBER, "The id of the customer who owns the points.")
_BATCH_EXPIRY = described(or_null(_TIME), "The time when these points expire, in UTC; null if they never do.")
_BREAKUP = exactly(
    {
        "memberId": _MEMBER_ID,
        "pointsRestored": described(_POINTS, "The points reversed to this member's lots of this expiry."),
        "pointsExpiredByReversal": described(_POINTS, "How many of these points have expired."),
        "expiryBatchDate": _BATCH_EXPIRY,
        "status": {
            "enum": ["REVERSED", "PARTIALLY_REVERSED"],
            "description": "`REVERSED` if none of these points remain to be reversed, else `PARTIALLY_REVERSED`.",
        },
    }
)
_EXPANDED_LINE = exactly(
    {
        "position": _POSITION,
        "lotRef": _LOT_REF,
        "memberId": _MEMBER_ID,
        "expiresAt": _EXPIRES_AT,
        "points": described(_POINTS, "The points reversed to this lot."),
        "available": _AVAILABLE,
        "expired": _EXPIRED,
        "reissued": described(_POINTS, "How many of the available points were re-issued in a new lot."),
    }
)
_EXPANDED_REDEMPTION = described(exactly(_OF_REDEMPTION), "The redemption after the reversal. Only with `expand`.")


def _reversed(identity: Schema) -> Schema:
    return exactly(
        {
            "orgId": _ORG_ID,
            "identifier": described(_REVERSED_IDENTIFIER, "The identifier as the request sent it."),
            "customerId": _CUSTOMER_ID,
            "redemptionId": _REDEMPTION_ID,
            **identity,
            "pointsToBeReversed": _TO_BE_REVERSED,
            **_REVERSED_POINTS,
            "crossMemberReversalBreakup": described(
                array(_BREAKUP),
                "The points of each member and expiry. Present if the redemption drew on lots of other members.",
            ),
            "lines": described(
                array(_EXPANDED_LINE),
                "The points reversed to each lot, in the order of reversal. Only with `expand`.",
            ),
            "redemption": _EXPANDED_REDEMPTION,
            **_SUCCESS,
        },
        optional=("crossMemberReversalBreakup", "lines", "redemption"),
    )


def _redeemed(identity: Schema, *, optional: Collection[str] = ()) -> Schema:
    breakup = exactly(
        {
            "memberId": _MEMBER_ID,
            "pointsRedeemed": described(_POINTS, "The points drawn from this member's lots of this expiry."),
            "expiryBatchDate": _BATCH_EXPIRY,
        },
    )
    return exactly(
        {
            "orgId": _ORG_ID,
            "customerId": _CUSTOMER_ID,
            **identity,
            "programId": described(_COUNTING_NUMBER, "The program of the redemption."),
            "pointsRedeemed": described(_POINTS, "The points redeemed."),
            "redeemedAt": _REDEEMED_AT,
            "transactionNumber": _TRANSACTION_NUMBER,
            "externalReferenceNumber": _EXTERNAL_NUMBER,
            "draws": described(array(exactly(_DRAWN_FROM)), "The points drawn from each lot, in the order of drawing."),
            "crossMemberRedemptionBreakup": described(
                array(breakup),
                "The points of each member and expiry. Present if the redemption drew on lots of other members.",
            ),
            "balance": described(_POINTS, "The customer's own points that can still be spent."),
            **_READ,
        },
        optional=("crossMemberRedemptionBreakup", *optional),
    )


_LINE = exactly(
    _DRAWN_FROM
    | {
        "points": described(_POINTS, "The points reversed to this lot."),
        "available": _AVAILABLE,
        "expired": _EXPIRED,
        "reissuedLotRef": described(or_null(_TEXT), "The new lot of re-issued points; null if none were re-issued."),
    }
)

REPLIES: dict[str, Schema] = {
    "Reversed": _reversed({"reversalId": _REVERSAL_ID}),
    "ReversedDryRun": _reversed({"dryRun": _DRY_RUN}),
    "Redeemed": _redeemed({"redemptionId": _REDEMPTION_ID}),
    # A dry run returns an id only if its reference number is that of an earlier redemption.
    "RedeemedDryRun": _redeemed({"redemptionId": _REDEMPTION_ID, "dryRun": _DRY_RUN}, optional=("redemptionId",)),
    "Redemption": exactly(
        {
            "orgId": _ORG_ID,
            "customerId": _CUSTOMER_ID,
            "redemptionId": _REDEMPTION_ID,
            "programId": described(_COUNTING_NUMBER, "The program of the redemption."),
            **_OF_REDEMPTION,
            "redeemedAt": _REDEEMED_AT,
            "transactionNumber": _TRANSACTION_NUMBER,
            "externalReferenceNumber": _EXTERNAL_NUMBER,
            "draws": described(
                array(exactly(_DRAWN_FROM | {"pointsReversed": described(_POINTS, "The points reversed so far.")})),
                "The points drawn from each lot, in the order of drawing.",
            ),
            "reversals": described(
                array(exactly({"reversalId": _REVERSAL_ID} | _REVERSED_POINTS | _ORIGIN)),
                "The reversals of the redemption, oldest first.",
            ),
            **_READ,
        }
    ),
    "Reversal": exactly(
        {
            "orgId": _ORG_ID,
            "customerId": _CUSTOMER_ID,
            "redemptionId": _REDEMPTION_ID,
            "reversalId": _REVERSAL_ID,
            "pointsToBeReversed": _TO_BE_REVERSED,
            **_REVERSED_POINTS,
            **_ORIGIN,
            "reason": described(or_null(_TEXT), "The reason that staff gave for a manual reversal; null if none."),
            "lines": described(array(_LINE), "The points reversed to each lot, in the order of reversal."),
            **_READ,
        }
    ),
    "ReversalList": exactly(
        {
            "orgId": _ORG_ID,
            "reversals": array(
                exactly(
                    {
                        "reversalId": _REVERSAL_ID,
                        "redemptionId": _REDEMPTION_ID,
                        "customerId": _CUSTOMER_ID,
                        "role": {
                            "enum": list(Role),
                            "description": "Only with the filter `customerId`. `TRANSACTING`: this customer redeemed"
                            " the points. `SOURCE`: another customer redeemed points of this customer; the points"
                            " shown are only those of this customer.",
                        },
                        **_REVERSED_POINTS,
                        **_ORIGIN,
                    },
                    optional=("role",),
                )
            ),
            "nextCursor": described(
                or_null(_TEXT), "Send this as `cursor` to get the next page; null on the last page."
            ),
            **_READ,
        }
    ),
    "Points": exactly(
        {
            "orgId": _ORG_ID,
            "customerId": described(_COUNTING_NUMBER, "The id of the customer."),
            "available": described(_POINTS, "The points in lots that have not expired."),
            "expired": described(_POINTS, "The points remaining in lots that have expired."),
            "byExpiry": described(
                array(exactly({"expiresAt": _BATCH_EXPIRY, "points": described(_POINTS, "The points.")})),
                "The available points by time of expiry, the soonest first.",
            ),
            "asOf": described(_TIME, "The time of this reading, in UTC."),
            **_READ,
        }
    ),
}


def failure(answers: Collection[tuple[int, str]]) -> Schema:
    """Returns the schema of the failure envelope, limited to these codes and messages."""
    error = exactly(
        {
            "status": {"const": False},
            "code": {"enum": list(dict.fromkeys(code for code, _ in answers))},
            "message": {"enum": list(dict.fromkeys(message for _, message in answers))},
            "reason": {
                "type": "string",
                "minLength": 1,
                "description": "Why the call was refused, and what to do next. The text may change: do not parse it.",
            },
        }
    )
    return exactly({"errors": array(error) | {"minItems": 1, "maxItems": 1}, "warnings": _EMPTY})
