"""Parsing and formatting of amounts of points, without a database."""

from decimal import Decimal

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from loyalty.fields import PointsField
from loyalty.ledger.points import (
    InvalidPoints,
    PointsNotPositive,
    PointsTooPrecise,
    from_thousandths,
    read_points,
    read_written_points,
    to_thousandths,
    written,
)

amounts = st.integers(min_value=1, max_value=10**15 - 1)


@pytest.mark.parametrize(
    ("literal", "amount"),
    [
        ("2", "2"),
        ("2.50", "2.5"),
        ("1.5000", "1.5"),
        ("1e2", "100"),
        ("25E-1", "2.5"),
        ("0.001", "0.001"),
        ("1000000e-9", "0.001"),
        ("999999999999.999", "999999999999.999"),
        ("0.1e12", "100000000000"),
        ("0001", "1"),
        ("1e0000001", "10"),
        pytest.param("0." + "0" * 100_000 + "1e100001", "1", id="a long fraction and its exponent"),
    ],
)
def test_an_amount_is_parsed_exactly(literal: str, amount: str) -> None:
    assert read_points(literal) == Decimal(amount)


@pytest.mark.parametrize("literal", ["0", "-0", "0.000", "-1", "-0.0001", "0e9999999999999999", "-1e-400"])
def test_an_amount_of_zero_or_less_is_not_positive(literal: str) -> None:
    with pytest.raises(PointsNotPositive):
        read_points(literal)


@pytest.mark.parametrize(
    "literal", ["1.0001", "2.0000000000000000001", "1e-4", "1e-400", "1e-99999999999999999999", "0." + "0" * 5000 + "1"]
)
def test_more_than_three_decimals_by_value_is_too_precise(literal: str) -> None:
    with pytest.raises(PointsTooPrecise):
        read_points(literal)


@pytest.mark.parametrize(
    "literal", ["1000000000000", "1e12", "1e400", f"1e{10**21 - 1}", "1e" + "9" * 5000, "9" * 5000, "1e12.0"]
)
def test_more_than_twelve_integer_digits_are_refused(literal: str) -> None:
    with pytest.raises(InvalidPoints) as raised:
        read_points(literal)
    assert type(raised.value) is InvalidPoints


@pytest.mark.parametrize("literal", ["", " 1", "1 ", "+1", "1.", ".5", "NaN", "Infinity", "1_000", "٣", "0x1", "1,5"])
def test_a_text_that_is_not_a_number_is_refused(literal: str) -> None:
    with pytest.raises(InvalidPoints) as raised:
        read_points(literal)
    assert type(raised.value) is InvalidPoints


@pytest.mark.parametrize(
    ("literal", "expected"),
    [
        ("two", "a number"),
        ("0", "more than 0"),
        ("1e12", "at most 12 digits before the decimal point"),
        ("0.0001", "at most 3 decimals"),
    ],
)
def test_the_error_states_what_was_expected(literal: str, expected: str) -> None:
    with pytest.raises(InvalidPoints) as raised:
        read_points(literal)
    assert str(raised.value) == expected


def test_to_thousandths_refuses_more_than_three_decimals() -> None:
    with pytest.raises(PointsTooPrecise) as raised:
        to_thousandths(Decimal("0.0001"))
    assert str(raised.value) == "at most 3 decimals"


def test_an_amount_entered_by_a_user_has_no_exponent() -> None:
    assert read_written_points("2.5") == Decimal("2.5")
    for text in ("1e3", "1E3"):
        with pytest.raises(InvalidPoints) as raised:
            read_written_points(text)
        assert str(raised.value) == "a number"


@pytest.mark.parametrize(("amount", "text"), [("350", "350"), ("2.500", "2.5"), ("7.000", "7"), ("1E+2", "100")])
def test_an_amount_is_written_without_trailing_zeros(amount: str, text: str) -> None:
    assert written(Decimal(amount)) == text


@given(amounts)
def test_parsing_a_written_amount_returns_the_same_amount(thousandths: int) -> None:
    amount = from_thousandths(thousandths)
    assert read_points(written(amount)) == amount
    assert to_thousandths(amount) == thousandths


@given(amounts)
def test_a_float_of_an_amount_prints_the_exact_digits(thousandths: int) -> None:
    amount = from_thousandths(thousandths)
    text = repr(float(amount))
    assert Decimal(text) == amount
    assert "." in text
    assert "e" not in text


@pytest.mark.parametrize("value", [0.1, "0.0001", "many", object(), "NaN", "Infinity"])
def test_the_points_field_refuses_values_that_it_cannot_store_exactly(value: object) -> None:
    with pytest.raises(ValidationError):
        PointsField().get_prep_value(value)


def test_the_points_field_stores_whole_thousandths() -> None:
    field = PointsField()
    assert [field.get_prep_value(value) for value in (None, 2, "0.1", Decimal("2.500"))] == [None, 2000, 100, 2500]
    assert field.from_db_value(2500, None, None) == Decimal("2.5")
    assert field.from_db_value(None, None, None) is None
