"""What an amount of points is: an exact decimal with at most 12 integer digits and 3 decimals."""

import re
from decimal import Decimal

DECIMALS = 3
INTEGER_DIGITS = 12

_NUMBER = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?", re.ASCII)
_ABSURD_EXPONENT = 10**6


class InvalidPoints(ValueError):
    """The text is no amount of points; the message is what was expected."""


class PointsNotPositive(InvalidPoints):
    """The amount is zero or less."""


class PointsTooPrecise(InvalidPoints):
    """The amount has more than 3 decimals by value."""


def read_points(literal: str) -> Decimal:
    """The positive amount that `literal`, a JSON number, stands for, judged digit by digit.

    No float and no unbounded Decimal is made of it, so that `1e-400` is a tiny amount and not zero, and
    `1e999999999` costs nothing. Raises, in this order: InvalidPoints (no number), PointsNotPositive,
    InvalidPoints (over 12 integer digits), PointsTooPrecise.
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
    """The positive amount that a person wrote: as `read_points`, but in plain digits. Raises InvalidPoints.

    In a form or a spreadsheet `1e3` is a mistake, and not a thousand.
    """
    if "e" in text.lower():
        raise InvalidPoints("a number")
    return read_points(text)


def _bounded(exponent: str | None) -> int:
    """The exponent as an integer, cut where its size no longer matters: int() refuses very long texts."""
    text = exponent or "0"
    magnitude = text.lstrip("+-").lstrip("0") or "0"
    value = _ABSURD_EXPONENT if len(magnitude) > 6 else int(magnitude)
    return -value if text.startswith("-") else value


def to_thousandths(points: Decimal | int) -> int:
    """Whole thousandths, as the database keeps points. Raises InvalidPoints on a finer amount."""
    scaled = Decimal(points).scaleb(DECIMALS)
    whole = int(scaled)
    if whole != scaled:
        raise PointsTooPrecise(f"at most {DECIMALS} decimals")
    return whole


def from_thousandths(thousandths: Decimal | int) -> Decimal:
    """The amount that the database's whole thousandths stand for."""
    return Decimal(thousandths).scaleb(-DECIMALS)


def written(points: Decimal) -> str:
    """The amount for a person to read: `2.5`, `350`."""
    text = f"{points:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
