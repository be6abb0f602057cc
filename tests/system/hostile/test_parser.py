"""Parsers of bodies, amounts, identifiers and headers, compared with oracles and limited in time."""

import json
import re
import string
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
from django.test import RequestFactory
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from loyalty.ledger.canonical import canonical
from loyalty.ledger.identifiers import IdentifierType, identify
from loyalty.ledger.points import InvalidPoints, PointsNotPositive, PointsTooPrecise, read_points
from reversals.api.authentication import ApiClientAuthentication
from reversals.api.fields import read_idempotency_key
from reversals.api.strict_json import parse_object
from reversals.refusals import ErrorCode, Refused
from tests.builders import World
from tests.system.hostile.requests import basic

PIECES = ["{", "}", "[", "]", '"', ",", ":", "\\", " ", "\n", "null", "true", "a", "é", "💩", "\0", "\x1f", "\ufeff"]
PIECES += ["\\u0000", "\\ud83d", "\\udca9", "\\u0041", "\\n", '"a":', '"b":', '"a"', "{}", "[]", "NaN", "Infinity"]
PIECES += ["0", "-", "1", "01", ".", "e", "1e400", "-0", "1.5", "9" * 30]
KEYS = ['"a"', '"b"', '"\\u0061"', '"é"', '""', '"\\\\"']
VALUES = ["null", "true", "0", "-0", "1e400", "1.5", "9" * 30, '""', '"é"', '"]"', '"{\\""', '"\\ud83d\\udca9"']
DOUBTFUL = ["NaN", '"\\u0000"', '"\\ud83d"', '"\x1f"', "01"]


def object_texts(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """JSON objects as text, some with a key twice."""
    members = st.lists(st.tuples(st.sampled_from(KEYS), values), max_size=3)
    return members.map(lambda pairs: "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}")


def array_texts(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(values, max_size=3).map(lambda each: "[" + ",".join(each) + "]")


# A busy machine may be slow.
patient = settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))


def with_piece(text: str, piece: str, place: int) -> str:
    return text[:place] + piece + text[place:]


def within(text: str, depth: int) -> str:
    return '{"a":' * depth + text + "}" * depth


leaves = st.sampled_from(VALUES + DOUBTFUL)
objects = object_texts(st.recursive(leaves, lambda inner: object_texts(inner) | array_texts(inner)))
nested = st.builds(within, leaves | objects, st.integers(0, 18))
distorted = st.builds(with_piece, objects, st.sampled_from(PIECES), st.integers(0, 40))
assembled = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
bodies = (objects | nested | distorted | assembled).map(str.encode) | st.binary(max_size=60)


def parsed(body: bytes) -> dict[str, Any] | None:
    """The parsed body, or None if the parser refuses it. Any other exception fails the test."""
    try:
        value = parse_object(body)
    except Refused as refusal:
        assert refusal.error is ErrorCode.INVALID_REQUEST
        return None
    assert type(value) is dict
    return value


def oracle(body: bytes) -> dict[str, Any] | None:
    """The body as parsed by Python's json, or None if that fails or if the project treats the body as doubtful."""
    try:
        value = json.loads(
            body.decode(), parse_int=str, parse_float=str, parse_constant=no_constant, object_pairs_hook=distinct
        )
        is_doubtful = type(value) is not dict or depth(value) > 16 or b"\0" in "".join(texts(value)).encode()
    except ValueError:
        return None
    return None if is_doubtful else dict(value)


def no_constant(constant: str) -> None:
    raise ValueError(constant)


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError(pairs)
    return dict(pairs)


def members_of(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def depth(value: Any) -> int:
    return int(isinstance(value, dict | list)) + max(map(depth, members_of(value)), default=0)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    if isinstance(value, dict):
        yield from value
    for member in members_of(value):
        yield from texts(member)


def check_against_oracle(body: bytes) -> None:
    assert parsed(body) == oracle(body)


def check_cut_anywhere(body: bytes) -> None:
    if parsed(body) is not None:
        assert all(parsed(body[:cut]) is None for cut in range(len(body)))


@patient
@example(b'{"a":{"b":[1,{"c":"}"}]}} ')
@example(b'{"a":"\\u0000"}')
@example(b'{"a":["\\ud83d"]}')
@example(b'{"a":1,"\\u0061":2}')
@example(b'{"a":NaN}')
@example(within("{}", 15).encode())
@example(within("{}", 16).encode())
@given(bodies)
def test_body_is_parsed_as_by_pythons_json_or_refused(body: bytes) -> None:
    check_against_oracle(body)


@patient
@given(objects.map(str.encode))
def test_truncated_body_is_never_accepted(body: bytes) -> None:
    """So a truncated chunked body is refused, although the server passes it on like a complete one."""
    check_cut_anywhere(body)


@pytest.mark.deep
@pytest.mark.parametrize(
    ("kind", "check"), [(bodies, check_against_oracle), (objects.map(str.encode), check_cut_anywhere)]
)
def test_parser_properties_hold_for_ten_thousand_bodies(
    kind: st.SearchStrategy[bytes], check: Callable[[bytes], None]
) -> None:
    settings(patient, max_examples=10_000)(given(kind)(check))()


@patient
@given(st.from_regex(r"-?[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_amount_equals_its_exact_fraction_or_is_refused(literal: str) -> None:
    amount = Fraction(literal)
    if amount <= 0:
        assert refusal_of(literal) is PointsNotPositive
    elif amount >= 10**12:
        assert refusal_of(literal) is InvalidPoints
    elif (amount * 1000).denominator > 1:
        assert refusal_of(literal) is PointsTooPrecise
    else:
        assert Fraction(read_points(literal)) == amount


def refusal_of(literal: str) -> type[InvalidPoints]:
    with pytest.raises(InvalidPoints) as raised:
        read_points(literal)
    return raised.type


@patient
@given(st.sampled_from(IdentifierType), st.text() | st.text("0123456789+-(). ٣"), st.sampled_from(["IN", "US", "VN"]))
def test_any_text_is_an_identifier_in_its_canonical_form(kind: IdentifierType, text: str, country: str) -> None:
    value = identify(kind, text, country=country).value
    if kind is IdentifierType.MOBILE:
        assert value in {canonical(text), "".join(re.findall("[0-9]", value))}
    elif kind is not IdentifierType.EMAIL:
        assert value == canonical(text)
    assert value == value.strip()


@patient
@given(st.text() | st.from_regex(r'"?[A-Za-z0-9._:+/=~-]{0,260}"?', fullmatch=True))
def test_idempotency_key_is_header_without_quotes_or_refused(header: str) -> None:
    try:
        key = read_idempotency_key(header)
    except Refused as refusal:
        assert refusal.error is ErrorCode.INVALID_REQUEST
    else:
        assert header in {key, f'"{key}"'}
        assert 1 <= len(key) <= 255
        assert set(key) <= set(string.ascii_letters + string.digits + "._:+/=~-")


@pytest.mark.django_db
@patient
@given(st.text() | st.binary().map(basic) | st.text().map(str.encode).map(basic))
def test_credentials_that_were_not_issued_are_refused(world: World, header: str) -> None:
    request = Request(RequestFactory().post("/", HTTP_AUTHORIZATION=header))
    with pytest.raises(AuthenticationFailed):
        ApiClientAuthentication().authenticate(request)


MEGABYTE = 1_000_000
LARGE = {
    "digits": b'{"a":' + b"9" * MEGABYTE + b"}",
    "decimals": b'{"a":0.' + b"9" * MEGABYTE + b"}",
    "digits of an exponent": b'{"a":1e' + b"9" * MEGABYTE + b"}",
    "opening brackets": b"[" * MEGABYTE,
    "closing brackets": b"{" + b"]" * MEGABYTE,
    "brackets in pairs": b'{"a":[' + b"[]," * (MEGABYTE // 3) + b"[]]}",
    "opening brackets outside and inside a string": b"[" * 17 + b'"' + b"[" * MEGABYTE,
    "unclosed objects": b'{"a":' * (MEGABYTE // 5),
    "quotes": b"{" + b'"' * MEGABYTE,
    "backslashes": b'{"a":"' + b"\\" * MEGABYTE,
    "escaped quotes": b"[" * 17 + b'"' + b'\\"' * (MEGABYTE // 2),
    "escapes": b'{"a":"' + b"\\u0041" * (MEGABYTE // 6) + b'"}',
    "halves of surrogate pairs": b'{"a":"' + b"\\ud800" * (MEGABYTE // 6) + b'"}',
    "one key many times": b"{" + b'"a":1,' * (MEGABYTE // 6) + b'"a":1}',
    "many keys, the last one twice": b"{" + b"".join(b'"%06d":1,' % n for n in range(90_000)) + b'"000000":1}',
    "keys with equal hashes": b"{" + b"".join(b'"%d":1,' % (n * (2**61 - 1)) for n in range(40_000)) + b'"a":1}',
    "commas": b'{"a":[' + b"," * MEGABYTE + b"]}",
    "white space": b"{" + b" " * MEGABYTE + b"}",
    "minus signs": b'{"a":' + b"-" * MEGABYTE + b"}",
    "incomplete literals": b'{"a":' + b"tru" * (MEGABYTE // 3) + b"}",
    "a character of four bytes": b'{"a":"' + "💩".encode() * (MEGABYTE // 4) + b'"}',
}


def check_cost(call: Callable[[], object]) -> None:
    """Checks that the call is fast: a linear pass over a megabyte takes 1 to 2 seconds, a quadratic one minutes."""
    start = time.process_time()
    with suppress(InvalidPoints, Refused):
        call()
    assert time.process_time() - start < 10


@pytest.mark.parametrize("body", LARGE.values(), ids=LARGE)
def test_megabyte_of_body_is_parsed_in_linear_time(body: bytes) -> None:
    check_cost(lambda: parse_object(body))


@pytest.mark.parametrize("text", ["9", "0.", "1e", "1.0e", "+", "- (", '"', "a", " "])
def test_megabyte_in_field_or_header_is_read_in_linear_time(text: str) -> None:
    long = (text * MEGABYTE)[:MEGABYTE]
    check_cost(lambda: read_points(long))
    check_cost(lambda: read_points(text + "0" * MEGABYTE))
    check_cost(lambda: read_idempotency_key(long))
    check_cost(lambda: identify(IdentifierType.MOBILE, long, country="IN"))
