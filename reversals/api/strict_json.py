"""Parses JSON strictly: keeps number literals, and rejects ambiguous or unsafe input."""

import json
import re
from collections import Counter
from typing import Any

from reversals.refusals import ErrorCode, Refused

DEEPEST = 16
# Some Windows programs begin each text with it.
_BYTE_ORDER_MARK = "\ufeff"

# Matches a string, even an unclosed one, or a bracket. It never backtracks, so a hostile body costs one pass.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.?)*+"?|[\[\]{}]', re.DOTALL)


class NumberLiteral(str):
    """A JSON number as it was written."""

    __slots__ = ()


def parse_object(body: bytes) -> dict[str, Any]:
    """Parses the JSON object in `body`: numbers as NumberLiteral, all other values as Python's json does.

    Raises 887 if the body is not UTF-8, not JSON or not an object, repeats a key, is nested deeper than 16 levels,
    contains NaN or Infinity, or has a string with a NUL character or an unpaired surrogate.
    """
    try:
        text = body.decode("utf-8").lstrip(_BYTE_ORDER_MARK)
    except UnicodeDecodeError as error:
        raise _invalid(f"the body is not UTF-8 (byte {error.start})") from error
    if "\0" in text:
        raise _invalid("the body contains a NUL character, as text in UTF-16 does")
    if _is_too_deep(text):
        raise _invalid(f"the body is nested deeper than {DEEPEST} levels")
    try:
        value = json.loads(
            text,
            parse_int=NumberLiteral,
            parse_float=NumberLiteral,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object_without_duplicates,
        )
    except json.JSONDecodeError as error:
        raise _invalid(_why_not_json(error)) from error
    if not isinstance(value, dict):
        raise _invalid("the body is not a JSON object")
    if "\\u" in text:
        _check_strings(value)
    return value


def _why_not_json(error: json.JSONDecodeError) -> str:
    """Says where the text is not JSON. The error's own words are Python's, and differ between its versions."""
    place = f"at line {error.lineno} column {error.colno}"
    if not error.doc.strip():
        return "the body is empty"
    if error.msg.startswith("Unterminated"):
        return f"the body is not JSON: the string {place} is not closed"
    if error.pos >= len(error.doc):
        return "the body is not JSON: it ends too early"
    return f"the body is not JSON: unexpected {error.doc[error.pos]!r} {place}"


def _invalid(what: str) -> Refused:
    return Refused(ErrorCode.INVALID_REQUEST, f"Send one JSON object in UTF-8: {what}.")


def _refuse_constant(constant: str) -> None:
    raise _invalid(f"{constant} is not a JSON number")


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _invalid(f"the key {twice[:64]!r} appears twice")
    return members


def _is_too_deep(text: str) -> bool:
    # Checked before parsing, because the parser recurses and a hostile body must not choose the depth.
    if text.count("{") + text.count("[") <= DEEPEST:
        return False
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        if match[0] in "[{":
            depth += 1
            if depth > DEEPEST:
                return True
        elif match[0] in "]}":
            depth -= 1
    return False


def _check_strings(value: Any) -> None:
    """Raises 887 for characters that escapes can produce but that UTF-8 or PostgreSQL cannot store."""
    if isinstance(value, dict):
        for key, member in value.items():
            _check_strings(key)
            _check_strings(member)
    elif isinstance(value, list):
        for member in value:
            _check_strings(member)
    elif isinstance(value, str):
        if "\0" in value:
            raise _invalid("a string contains a NUL character")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise _invalid("a string contains an unpaired surrogate") from error
