"""The parser of request bodies, without a database."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reversals.api.strict_json import NumberLiteral, parse_object
from reversals.refusals import ErrorCode, Refused

plain = st.recursive(
    st.none() | st.booleans() | st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5), plain, max_size=4))
def test_a_valid_object_is_parsed_to_the_same_value(value: dict[str, object]) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False)):
        if "\\u0000" not in text:
            assert parse_object(text.encode()) == value


@pytest.mark.parametrize("marks", [1, 2])
def test_a_byte_order_mark_before_the_object_is_skipped(marks: int) -> None:
    assert parse_object(b"\xef\xbb\xbf" * marks + b'{"a":"b"}') == {"a": "b"}


def test_numbers_keep_their_literal_text() -> None:
    value = parse_object(b'{"a":1e-400,"b":-0,"c":2.0000000000000000001,"d":"1"}')
    assert value == {"a": "1e-400", "b": "-0", "c": "2.0000000000000000001", "d": "1"}
    assert [isinstance(value[key], NumberLiteral) for key in "abcd"] == [True, True, True, False]


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


def test_nesting_deeper_than_sixteen_is_refused() -> None:
    assert parse_object(nested(16))
    with pytest.raises(Refused):
        parse_object(nested(17))


def test_sibling_arrays_do_not_add_up_to_deeper_nesting() -> None:
    deep = b"[" * 15 + b"]" * 15
    assert parse_object(b'{"a":' + deep + b',"b":' + deep + b"}")
    with pytest.raises(Refused):
        parse_object(b'{"a":' + deep + b',"b":[' + deep + b"]}")


def test_a_closing_bracket_reduces_the_depth_by_one_level_only() -> None:
    with pytest.raises(Refused):
        parse_object(b'{"a":[[],' + b"[" * 15 + b"]" * 15 + b"]}")


def test_brackets_in_strings_do_not_count_as_nesting() -> None:
    assert parse_object(b'{"a":"' + b"[" * 100 + b'\\"{{{"}')


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"1",
        b'"text"',
        b"{",
        b'{"a":1}x',
        b'{"a":1,}',
        b"{'a':1}",
        b'{"a":01}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":"\\u0000"}',
        b'{"\\u0000":1}',
        b'{"a":["\\ud800"]}',
        b'{"a":"\x00"}',
        b'{"a":"\xff"}',
        b"{}\xef\xbb\xbf",
        '{"a":1}'.encode("utf-16"),
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"{" + b'"' * 5_001,
    ],
    ids=range(25),
)
def test_an_invalid_body_is_refused_with_887(body: bytes) -> None:
    with pytest.raises(Refused) as raised:
        parse_object(body)
    assert raised.value.error is ErrorCode.INVALID_REQUEST
    assert raised.value.reason.startswith("Send one JSON object in UTF-8: ")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b'{"a":"\xff"}', "the body is not UTF-8 (byte 6)"),
        (nested(17), "the body is nested deeper than 16 levels"),
        (b'{"a":1}x', "the body is not JSON: unexpected 'x' at line 1 column 8"),
        (b'{"a":1', "the body is not JSON: it ends too early"),
        (b'{"a":"b', "the body is not JSON: the string at line 1 column 6 is not closed"),
        (b'{"a":"\n"}', "the body is not JSON: unexpected '\\n' at line 1 column 7"),
        (b"\xef\xbb\xbf{'a':1}", 'the body is not JSON: unexpected "\'" at line 1 column 2'),
        (b"", "the body is empty"),
        (b"\xef\xbb\xbf \r\n", "the body is empty"),
        ("{}".encode("utf-16"), "the body is not UTF-8 (byte 0)"),
        ("{}".encode("utf-16-le"), "the body contains a NUL character, as text in UTF-16 does"),
        (b"[]", "the body is not a JSON object"),
        (b'{"a":NaN}', "NaN is not a JSON number"),
        (b'{"b":1,"a":1,"a":1}', "the key 'a' appears twice"),
        (b'{"' + b"a" * 70 + b'":1,"' + b"a" * 70 + b'":1}', f"the key '{'a' * 64}' appears twice"),
        (b'{"a":"\\u0000"}', "a string contains a NUL character"),
        (b'{"a":["\\ud800"]}', "a string contains an unpaired surrogate"),
    ],
    ids=range(17),
)
def test_the_reason_names_the_problem_of_an_invalid_body(body: bytes, what: str) -> None:
    with pytest.raises(Refused) as raised:
        parse_object(body)
    assert raised.value.reason == f"Send one JSON object in UTF-8: {what}."


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 17 + b'"' + b'\\"' * 32_000,
        b"[" * 17 + b'"' + b"\\" * 64_001,
        b'{"' + b'","'.join([b"a"] * 16_000),
        b"{" + b",".join(b'"%d":1' % number for number in range(8_000)) + b',"0":1}',
    ],
    ids=range(4),
)
def test_a_hostile_body_is_refused_in_linear_time(body: bytes) -> None:
    start = time.thread_time()
    with pytest.raises(Refused):
        parse_object(body)
    assert time.thread_time() - start < 1


def test_an_escaped_backslash_before_u0000_is_not_a_nul() -> None:
    assert parse_object(b'{"a":"\\\\u0000"}') == {"a": "\\u0000"}


@given(st.binary(max_size=200))
def test_any_body_is_parsed_or_refused_with_887(body: bytes) -> None:
    try:
        assert isinstance(parse_object(body), dict)
    except Refused as refusal:
        assert refusal.error is ErrorCode.INVALID_REQUEST
