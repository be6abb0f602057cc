"""Template filters for points: without trailing zeros, and optionally with thousands separators."""

from decimal import Decimal

from django import template

from loyalty.ledger.points import written

register = template.Library()
register.filter("written", written)


@register.filter
def grouped(points: Decimal) -> str:
    """Returns an amount of points with commas between the thousands."""
    whole, point, rest = written(Decimal(points)).partition(".")
    return f"{int(whole):,}{point}{rest}"
