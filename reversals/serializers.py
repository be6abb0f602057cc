"""Turns a request body into a ReversalRequest, and an outcome into a reply body; the only camelCase there is."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from loyalty import emf
from loyalty.emf import EmfSettings, InvalidSetting
from loyalty.identifiers import Identifier, identifier_type, identify
from loyalty.points import InvalidPoints, PointsNotPositive, PointsTooPrecise, read_points, written
from reversals.errors import ErrorCode, ReversalRefused
from reversals.requests import ReversalRequest
from reversals.service import Accepted, Reply
from reversals.strict_json import NumberLiteral, parse_object

WARNING_EXPIRED = 1001
WARNING_REISSUED = 1002

_PLAIN_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)
_KEY = re.compile(r'"([A-Za-z0-9._:+/=~-]{1,255})"|([A-Za-z0-9._:+/=~-]{1,255})', re.ASCII)

# A reply is kept without the customer's identifier: it is put here when the reply is sent, echoing what
# that very request sent.
_IDENTIFIER_SLOT = '"identifier":null'


@dataclass(frozen=True, slots=True)
class SentIdentifier:
    """The identifier as the client wrote it, to be echoed."""

    type: str
    value: str

    def into(self, body: str) -> str:
        """The reply body with the identifier in its slot, where it has one."""
        value = self.value if isinstance(self.value, NumberLiteral) else _json(self.value)
        return body.replace(_IDENTIFIER_SLOT, f'"identifier":{{"type":{_json(self.type)},"value":{value}}}', 1)


def read_idempotency_key(header: str | None) -> str:
    """The key in an Idempotency-Key header; empty without one. Refuses 887.

    Two such headers arrive joined by a comma, which no key may hold.
    """
    if header is None:
        return ""
    key = _KEY.fullmatch(header)
    if key is None:
        raise _invalid("Idempotency-Key", "one header of 1 to 255 characters of A-Z a-z 0-9 . _ : + / = ~ -")
    return key[1] or key[2]


def read_request(body: bytes, *, country: str) -> tuple[ReversalRequest, SentIdentifier]:
    """The reversal that the body asks for, and its identifier as sent.

    `country` is the org's default, for national mobile numbers. Refuses 887, 878.
    """
    members = parse_object(body)
    redemption_id = _text(members, "redemptionId", longest=64)
    external_reference_number = _text(members, "externalReferenceNumber", longest=128)
    if (redemption_id is None) == (external_reference_number is None):
        raise _invalid("redemptionId, externalReferenceNumber", "exactly one of the two")
    identifier, sent = _identifier(members, country=country)
    program_id = _text(members, "programId", longest=64)
    request = ReversalRequest(
        redemption_id=redemption_id,
        external_reference_number=external_reference_number,
        identifier=identifier,
        points_asked=_points(members),
        program_id=program_id,
    )
    return request, sent


def _invalid(field: str, expected: str) -> ReversalRefused:
    return ReversalRefused(ErrorCode.INVALID_REQUEST, f"{field}: expected {expected}.")


def _text(members: dict[str, Any], field: str, *, longest: int) -> str | None:
    """A string or a number's text; None where the field is absent or null."""
    value = members.get(field)
    if value is None:
        return None
    if not isinstance(value, str) or not 1 <= len(value) <= longest:
        raise _invalid(field, f"a string of 1 to {longest} characters")
    return str(value)


def _identifier(members: dict[str, Any], *, country: str) -> tuple[Identifier, SentIdentifier]:
    sent = members.get("identifier")
    if not isinstance(sent, dict):
        raise _invalid("identifier", "an object with type and value")
    kind, value = sent.get("type"), sent.get("value")
    if not isinstance(kind, str) or isinstance(kind, NumberLiteral):
        raise _invalid("identifier.type", "a string")
    if not isinstance(value, str) or not value:
        raise _invalid("identifier.value", "a string that is not empty, or a number")
    known_type = identifier_type(kind)
    if known_type is None:
        raise _invalid("identifier.type", "one of ID, MOBILE, PHONE, EMAIL, EXTERNAL_ID, CARD_NUMBER, CARD_EXTERNAL_ID")
    return identify(known_type, str(value), country=country), SentIdentifier(kind, value)


def _points(members: dict[str, Any]) -> Decimal | None:
    """The points asked, judged on the literal; None for all that is left."""
    field, value = "pointsToBeReversed", members.get("pointsToBeReversed")
    if value is None:
        return None
    if not isinstance(value, NumberLiteral) and not (isinstance(value, str) and _PLAIN_NUMBER.fullmatch(value)):
        raise _invalid(field, 'a number, or digits in a string such as "250.0"')
    try:
        return read_points(value)
    except PointsTooPrecise as error:
        raise ReversalRefused(ErrorCode.POINTS_TOO_PRECISE, f"{field}: expected {error}.") from error
    except PointsNotPositive as error:
        raise ReversalRefused(ErrorCode.POINTS_NOT_POSITIVE, f"{field}: expected {error}.") from error
    except InvalidPoints as error:
        raise ReversalRefused(ErrorCode.INVALID_REQUEST, f"{field}: expected {error}.") from error


def reply_in_dialect(org_id: int, settings: EmfSettings) -> Callable[[Accepted | ReversalRefused], Reply]:
    """The function that turns an outcome into its reply, in the dialect that the org has set."""

    def reply(outcome: Accepted | ReversalRefused) -> Reply:
        if isinstance(outcome, Accepted):
            return Reply(200, _accepted_body(org_id, outcome))
        return _refused_reply(outcome, engine=_speaks_engine(settings))

    return reply


def _speaks_engine(settings: EmfSettings) -> bool:
    try:
        return settings.get(emf.ERROR_DIALECT) == "engine"
    except InvalidSetting:
        return False


def _refused_reply(refusal: ReversalRefused, *, engine: bool) -> Reply:
    error = refusal.error
    has_engine_answer = error is ErrorCode.POINTS_NOT_POSITIVE or (error.row is not None and 4 <= error.row <= 16)
    if not (engine and has_engine_answer):
        return Reply(error.status, failure_body(error.code, error.message, refusal.reason))
    code, message = error.engine or (error.code, error.message)
    return Reply(200, failure_body(code, message, refusal.reason))


def failure_body(code: int, message: str, reason: str) -> str:
    """The envelope of every failure. It never holds `orgId`, by which clients recognise success."""
    return _json({"errors": [{"status": False, "code": code, "message": message, "reason": reason}], "warnings": []})


def _accepted_body(org_id: int, accepted: Accepted) -> str:
    redemption, plan = accepted.facts.redemption, accepted.plan
    return _json(
        {
            "orgId": org_id,
            "identifier": None,
            "customerId": redemption.customer.public_id,
            "redemptionId": redemption.public_id,
            "reversalId": accepted.reversal_id,
            "pointsToBeReversed": _number(accepted.facts.request.points_asked or plan.points),
            "pointsReversed": _number(plan.points),
            "pointsReversedDetails": {"available": _number(plan.available), "expired": _number(plan.expired)},
            "warnings": [{"status": True, "code": code, "message": message} for code, message in _warnings(accepted)],
            "errors": [],
        }
    )


def _warnings(accepted: Accepted) -> list[tuple[int, str]]:
    plan = accepted.plan
    warnings = []
    if plan.expired:
        warnings.append(
            (
                WARNING_EXPIRED,
                f"{written(plan.expired)} of the {written(plan.points)} points went back to lots that have expired"
                " and cannot be spent again.",
            )
        )
    if plan.reissued and plan.reissue_expires_at is not None:
        warnings.append(
            (
                WARNING_REISSUED,
                f"{written(plan.reissued)} points that had expired, or came from no lot, were issued anew"
                f" and expire on {plan.reissue_expires_at:%Y-%m-%dT%H:%M:%SZ}.",
            )
        )
    return warnings


def _number(points: Decimal) -> float:
    # At most 15 digits: as a float it prints those very digits, always with a decimal point.
    return float(points)


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
