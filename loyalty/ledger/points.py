"""Parses and formats amounts of points: exact decimals with at most 12 integer digits and 3 decimals."""

import re
from decimal import Decimal

DECIMALS = 3
INTEGER_DIGITS = 12

_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?", re.ASCII)
_ABSURD_EXPONENT = 10**6


class InvalidPoints(ValueError):
    """The text is not an amount of points. The message states what was expected."""


class PointsNotPositive(InvalidPoints):
    """The amount is zero or less."""


class PointsTooPrecise(InvalidPoints):
    """The amount has more than 3 decimals by value."""


def read_points(literal: str) -> Decimal:
    """Parses a JSON number as a positive amount of points, digit by digit.

    Does not create a float or an unbounded Decimal, so `1e-400` is a tiny amount and not zero, and `1e999999999` takes
    no time. Raises, in this order: InvalidPoints (not a number), PointsNotPositive, InvalidPoints (more than 12 integer
    digits), PointsTooPrecise.
    """
    number = _NUMBER.fullmatch(literal)
    if number is None:
        raise InvalidPoints("a number")
    sign, whole, fraction, exponent = number.groups()
    digits = (whole + (fraction or "")).lstrip("0")
    if not digits or sign:
        raise PointsNotPositive("more than 0")
    significant = digits.rstrip("0")
    power = _bounded(exponent) - len(fraction or "") + len(digits) - len(significant)
    if len(significant) + power > INTEGER_DIGITS:
        raise InvalidPoints(f"at most {INTEGER_DIGITS} digits before the decimal point")
    if power < -DECIMALS:
        raise PointsTooPrecise(f"at most {DECIMALS} decimals")
    return from_thousandths(int(significant) * 10 ** (power + DECIMALS))


def read_written_points(text: str) -> Decimal:
    """Parses an amount that a user entered: like `read_points`, but without an exponent. Raises InvalidPoints.

    In a form or a spreadsheet, `1e3` is a mistake and does not mean 1,000.
    """
    if "e" in text.lower():
        raise InvalidPoints("a number")
    return read_points(text)


def _bounded(exponent: str | None) -> int:
    """Returns the exponent as an integer, limited in size, because int() refuses very long texts."""
    text = exponent or "0"
    magnitude = text.lstrip("+-").lstrip("0") or "0"
    value = _ABSURD_EXPONENT if len(magnitude) > 6 else int(magnitude)
    return -value if text.startswith("-") else value


def to_thousandths(points: Decimal | int) -> int:
    """Returns whole thousandths, as the database stores points. Raises PointsTooPrecise for a finer amount."""
    scaled = Decimal(points).scaleb(DECIMALS)
    whole = int(scaled)
    if whole != scaled:
        raise PointsTooPrecise(f"at most {DECIMALS} decimals")
    return whole


def from_thousandths(thousandths: Decimal | int) -> Decimal:
    """Converts the database's whole thousandths to points."""
    return Decimal(thousandths).scaleb(-DECIMALS)


def written(points: Decimal) -> str:
    """Formats the amount for display: `2.5`, `350`."""
    text = f"{points:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def grouped(points: Decimal | int) -> str:
    """Formats the amount for staff, with commas between the thousands: `1,234.5`."""
    text = f"{Decimal(points):,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
