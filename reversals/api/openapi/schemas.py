"""The shapes of requests and replies, as JSON Schema; the ladders' failures stand in `responses.py`."""

from collections.abc import Collection
from typing import Any

from loyalty.ledger.identifiers import IdentifierType
from loyalty.ledger.points import DECIMALS, INTEGER_DIGITS
from reversals.api.reads.records import Role
from reversals.api.reversal_json import WARNING_CANNOT_SPEND, WARNING_EXPIRED, WARNING_REISSUED
from reversals.models import Channel

Schema = dict[str, Any]

# A length is judged on the text, also of a JSON number, whose text no schema can measure.
_NO_NUL = r"^[^\u0000]+$"


def ref(name: str) -> Schema:
    """The component schema of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


def exactly(properties: Schema, *, optional: Collection[str] = ()) -> Schema:
    """An object with these members and no others; all are always there but for the optional ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "additionalProperties": False, "properties": properties}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def or_null(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


# What replies are made of

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
_NOTHING = {"type": "array", "maxItems": 0}

_WARNING = exactly(
    {
        "status": {"const": True},
        "code": {"enum": [WARNING_EXPIRED, WARNING_REISSUED, WARNING_CANNOT_SPEND]},
        "message": _TEXT,
    }
)
_SUCCESS = {"warnings": array(_WARNING), "errors": _NOTHING}
_READ = {"warnings": _NOTHING, "errors": _NOTHING}

_DETAILS = exactly({"available": _POINTS, "expired": _POINTS}) | {
    "description": "`available` can be spent again; `expired` went back to lots that have expired."
}
_GIVEN_BACK = {"pointsReversed": _POINTS, "pointsReversedDetails": _DETAILS}
_CORRECTION = exactly({"correctedAt": _TIME, "pointsCorrected": _POINTS}) | {
    "description": "That the reversal was wrong and its points were drawn again; null: it stands."
}
_MAKING = {
    "reversedAt": _TIME,
    "channel": {"enum": Channel.values},
    "madeBy": _TEXT,
    "correction": or_null(_CORRECTION),
}
_DRAWN_FROM = {
    "position": {"type": "integer", "minimum": 1},
    "lotRef": or_null(_TEXT),
    "programId": or_null(_COUNTING_NUMBER),
    "memberId": or_null(_COUNTING_NUMBER),
    "expiresAt": or_null(_TIME),
    "points": _POINTS,
}

# What requests are made of

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
_COMMIT = {"type": ["boolean", "null"], "default": True, "description": "False asks what would happen; nothing moves."}


def _amount(description: str, *, is_optional: bool) -> Schema:
    kinds: list[Schema] = [_AMOUNT_NUMBER, _AMOUNT_TEXT]
    return {"description": description, "anyOf": [*kinds, {"type": "null"}] if is_optional else kinds}


def _name(description: str, *, longest: int, is_optional: bool = False) -> Schema:
    """A string, or a number that is taken as its text."""
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
    "description": "In any case, with or without underscores. `PHONE` is `MOBILE`.",
}
_IDENTIFIER_VALUE = {
    "type": ["string", "number"],
    "minLength": 1,
    "pattern": _NO_NUL,
    "description": "A mobile number may be national or carry its country code; of an e-mail the case is ignored.",
}

_REDEMPTION_ID = _name("The redemption to reverse.", longest=64)
_REFERENCE = _name("The external reference number of the redemption to reverse.", longest=128)
_ABSENT = {"type": "null"}
_PROGRAM_ID = _name("The program; another than the redemption's is refused.", longest=64, is_optional=True)


def _reversal_of(naming: Schema, *, named_by: str) -> Schema:
    return {
        "type": "object",
        "required": [named_by, "identifier"],
        "properties": naming
        | {
            "pointsToBeReversed": _amount("Left out or null: all that is left.", is_optional=True),
            "identifier": ref("Identifier"),
            "programId": _PROGRAM_ID,
        },
    }


REQUESTS: dict[str, Schema] = {
    "Identifier": {
        "type": "object",
        "required": ["type", "value"],
        "properties": {"type": _IDENTIFIER_TYPE, "value": _IDENTIFIER_VALUE},
    },
    "ReversalByRedemptionId": _reversal_of(
        {"redemptionId": _REDEMPTION_ID, "externalReferenceNumber": _ABSENT}, named_by="redemptionId"
    ),
    "ReversalByReference": _reversal_of(
        {"redemptionId": _ABSENT, "externalReferenceNumber": _REFERENCE}, named_by="externalReferenceNumber"
    ),
    "ReversalRequest": {
        "description": "Unknown members are ignored.",
        "oneOf": [ref("ReversalByRedemptionId"), ref("ReversalByReference")],
    },
    "RedemptionRequest": {
        "type": "object",
        "description": "Unknown members are ignored.",
        "required": ["points"],
        "properties": {
            "points": _amount("The points to redeem.", is_optional=False),
            "programId": _name("Needed where the org has several programs.", longest=64, is_optional=True),
            "transactionNumber": _name("The purchase's number.", longest=128, is_optional=True),
            "externalReferenceNumber": _name(
                "The caller's own number. The same number with the same content is answered with the first redemption.",
                longest=128,
                is_optional=True,
            ),
            "commit": _COMMIT,
        },
    },
}

# Replies

_REVERSED_IDENTIFIER = exactly({"type": _TEXT, "value": {"type": ["string", "number"]}})
_BREAKUP = exactly(
    {
        "memberId": _COUNTING_NUMBER,
        "pointsRestored": _POINTS,
        "pointsExpiredByReversal": _POINTS,
        "expiryBatchDate": or_null(_TIME),
        "status": {"enum": ["REVERSED", "PARTIALLY_REVERSED"]},
    }
)
_EXPANDED_LINE = exactly(
    {
        "position": _DRAWN_FROM["position"],
        "lotRef": or_null(_TEXT),
        "memberId": _COUNTING_NUMBER,
        "expiresAt": or_null(_TIME),
        "points": _POINTS,
        "available": _POINTS,
        "expired": _POINTS,
        "reissued": _POINTS,
    }
)
_EXPANDED_REDEMPTION = exactly({"points": _POINTS, "pointsReversed": _POINTS, "pointsLeft": _POINTS})


def _reversed(identity: Schema) -> Schema:
    return exactly(
        {
            "orgId": _COUNTING_NUMBER,
            "identifier": _REVERSED_IDENTIFIER,
            "customerId": _COUNTING_NUMBER,
            "redemptionId": _TEXT,
            **identity,
            "pointsToBeReversed": _POINTS,
            **_GIVEN_BACK,
            "crossMemberReversalBreakup": array(_BREAKUP),
            "lines": array(_EXPANDED_LINE),
            "redemption": _EXPANDED_REDEMPTION,
            **_SUCCESS,
        },
        optional=("crossMemberReversalBreakup", "lines", "redemption"),
    )


def _redeemed(identity: Schema, *, optional: Collection[str] = ()) -> Schema:
    breakup = exactly(
        {"memberId": _COUNTING_NUMBER, "pointsRedeemed": _POINTS, "expiryBatchDate": or_null(_TIME)},
    )
    return exactly(
        {
            "orgId": _COUNTING_NUMBER,
            "customerId": _COUNTING_NUMBER,
            **identity,
            "programId": _COUNTING_NUMBER,
            "pointsRedeemed": _POINTS,
            "redeemedAt": _TIME,
            "transactionNumber": or_null(_TEXT),
            "externalReferenceNumber": or_null(_TEXT),
            "draws": array(exactly(_DRAWN_FROM)),
            "crossMemberRedemptionBreakup": array(breakup),
            "balance": _POINTS,
            "warnings": _NOTHING,
            "errors": _NOTHING,
        },
        optional=("crossMemberRedemptionBreakup", *optional),
    )


REPLIES: dict[str, Schema] = {
    "Reversed": _reversed({"reversalId": PUBLIC_ID}),
    "ReversedDryRun": _reversed({"dryRun": {"const": True}}),
    "Redeemed": _redeemed({"redemptionId": _TEXT}),
    # A dry run has an id where its reference number names an earlier redemption.
    "RedeemedDryRun": _redeemed({"redemptionId": _TEXT, "dryRun": {"const": True}}, optional=("redemptionId",)),
    "Redemption": exactly(
        {
            "orgId": _COUNTING_NUMBER,
            "customerId": _COUNTING_NUMBER,
            "redemptionId": _TEXT,
            "programId": _COUNTING_NUMBER,
            "points": _POINTS,
            "pointsReversed": _POINTS,
            "pointsLeft": _POINTS,
            "redeemedAt": _TIME,
            "transactionNumber": or_null(_TEXT),
            "externalReferenceNumber": or_null(_TEXT),
            "draws": array(exactly(_DRAWN_FROM | {"pointsReversed": _POINTS})),
            "reversals": array(exactly({"reversalId": PUBLIC_ID} | _GIVEN_BACK | _MAKING)),
            **_READ,
        }
    ),
    "Reversal": exactly(
        {
            "orgId": _COUNTING_NUMBER,
            "customerId": _COUNTING_NUMBER,
            "redemptionId": _TEXT,
            "reversalId": PUBLIC_ID,
            "pointsToBeReversed": _POINTS,
            **_GIVEN_BACK,
            **_MAKING,
            "reason": or_null(_TEXT),
            "lines": array(
                exactly(_DRAWN_FROM | {"available": _POINTS, "expired": _POINTS, "reissuedLotRef": or_null(_TEXT)})
            ),
            **_READ,
        }
    ),
    "ReversalList": exactly(
        {
            "orgId": _COUNTING_NUMBER,
            "reversals": array(
                exactly(
                    {
                        "reversalId": PUBLIC_ID,
                        "redemptionId": _TEXT,
                        "customerId": _COUNTING_NUMBER,
                        "role": {
                            "enum": list(Role),
                            "description": "What the customer asked for was to the reversal; only with `customerId`.",
                        },
                        **_GIVEN_BACK,
                        **_MAKING,
                    },
                    optional=("role",),
                )
            ),
            "nextCursor": or_null(_TEXT),
            **_READ,
        }
    ),
    "Points": exactly(
        {
            "orgId": _COUNTING_NUMBER,
            "customerId": _COUNTING_NUMBER,
            "available": _POINTS,
            "expired": _POINTS,
            "byExpiry": array(exactly({"expiresAt": or_null(_TIME), "points": _POINTS})),
            "asOf": _TIME,
            **_READ,
        }
    ),
}


def failure(answers: Collection[tuple[int, str]]) -> Schema:
    """The envelope of a failure that has one of these codes and messages."""
    error = exactly(
        {
            "status": {"const": False},
            "code": {"enum": list(dict.fromkeys(code for code, _ in answers))},
            "message": {"enum": list(dict.fromkeys(message for _, message in answers))},
            "reason": {"type": "string", "minLength": 1, "description": "What exactly was wrong, and what to do."},
        }
    )
    return exactly({"errors": array(error) | {"minItems": 1, "maxItems": 1}, "warnings": _NOTHING})
