"""Reads fields of request bodies, query parameters and headers, and writes the envelope of failures."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Protocol

from loyalty.ledger.canonical import canonical
from loyalty.ledger.points import InvalidPoints, PointsNotPositive, PointsTooPrecise, read_points
from reversals.api.strict_json import NumberLiteral
from reversals.json_values import written_json
from reversals.refusals import ErrorCode, Refused

_PLAIN_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)

KEY_CHARACTERS = "A-Za-z0-9._:+/=~-"
LONGEST_KEY = 255
_KEY = re.compile(f'"([{KEY_CHARACTERS}]{{1,{LONGEST_KEY}}})"|([{KEY_CHARACTERS}]{{1,{LONGEST_KEY}}})', re.ASCII)


class Parameters(Protocol):
    """Query parameters, each of which may occur several times."""

    def getlist(self, key: str) -> list[str]: ...
    def __iter__(self) -> Iterator[str]: ...


def invalid(field: str, expected: str) -> Refused:
    """Builds the refusal (887) of a field with an invalid value."""
    return Refused(ErrorCode.INVALID_REQUEST, f"{field}: expected {expected}.")


def read_text(members: Mapping[str, Any], field: str, *, longest: int) -> str | None:
    """Reads a string, or a number as its text, as canonical text. Returns None if it is absent or null. Raises 887."""
    value = members.get(field)
    if value is None:
        return None
    text = canonical(value) if isinstance(value, str) else ""
    if not 1 <= len(text) <= longest:
        raise invalid(field, f"a string of 1 to {longest} characters")
    return text


def read_amount(members: Mapping[str, Any], field: str) -> Decimal | None:
    """Reads points from the literal as sent. Returns None if the field is absent or null. Raises 887, 878."""
    value = members.get(field)
    if value is None:
        return None
    if not isinstance(value, NumberLiteral) and not (isinstance(value, str) and _PLAIN_NUMBER.fullmatch(value)):
        raise invalid(field, 'a number, or digits in a string such as "250.0"')
    try:
        return read_points(value)
    except PointsTooPrecise as error:
        raise Refused(ErrorCode.POINTS_TOO_PRECISE, f"{field}: expected {error}.") from error
    except PointsNotPositive as error:
        raise Refused(ErrorCode.POINTS_NOT_POSITIVE, f"{field}: expected {error}.") from error
    except InvalidPoints as error:
        raise invalid(field, str(error)) from error


def read_parameter(parameters: Parameters, name: str) -> str | None:
    """Reads a query parameter. Returns None if it is absent. Raises 887 if it is repeated or empty."""
    values = parameters.getlist(name)
    if not values:
        return None
    if len(values) > 1 or not values[0]:
        raise invalid(name, "one non-empty value")
    return values[0]


def read_switch(parameters: Parameters, name: str) -> bool:
    """Reads a query parameter that is `true` or `false`; absent means false. Raises 887."""
    value = read_parameter(parameters, name)
    if value not in {"true", "false", None}:
        raise invalid(name, "true or false")
    return value == "true"


def means_dry_run(name: str) -> bool:
    """Returns whether a parameter is a spelling of `dryRun`.

    Unknown parameters are ignored, so a misspelt `dryRun` would turn a preview into a real movement.
    """
    return re.sub("[^a-z]", "", name.lower()) == "dryrun"


def idempotency_key_of(meta: Mapping[str, Any]) -> str:
    """Reads the request's key. Returns an empty string if there is no key. Raises 887.

    Some clients send X-Idempotency-Key instead of Idempotency-Key. Both are possible if they agree.
    """
    key = read_idempotency_key(meta.get("HTTP_IDEMPOTENCY_KEY"))
    other = read_idempotency_key(meta.get("HTTP_X_IDEMPOTENCY_KEY"), name="X-Idempotency-Key")
    if key and other and key != other:
        raise invalid("X-Idempotency-Key", "the same key as in the Idempotency-Key header, or only one of the two")
    return key or other


def read_idempotency_key(header: str | None, *, name: str = "Idempotency-Key") -> str:
    """Reads the key in the header `name`. Returns an empty string if there is no header. Raises 887.

    Two such headers arrive joined by a comma, and a comma is not allowed in a key.
    """
    if header is None:
        return ""
    key = _KEY.fullmatch(header)
    if key is None:
        raise invalid(name, "one header of 1 to 255 characters of A-Z a-z 0-9 . _ : + / = ~ -")
    return key[1] or key[2]


def by_member_and_expiry(member_id: int | None, expiry: str | None) -> tuple[int, bool, str]:
    """Returns the sort key of a breakup's rows: by member, then by expiry; rows without an expiry come last."""
    return member_id or 0, expiry is None, expiry or ""


def failure_body(code: int, message: str, reason: str) -> str:
    """Writes the envelope of a failure. It must not contain `orgId`, because clients recognise a success by it."""
    return written_json(
        {"errors": [{"status": False, "code": code, "message": message, "reason": reason}], "warnings": []}
    )
