"""Points in templates, written as everywhere else: without needless zeros."""

from decimal import Decimal

from django import template

from loyalty.ledger.points import written

register = template.Library()
register.filter("written", written)


@register.filter
def grouped(points: Decimal) -> str:
    """A large amount, its thousands apart."""
    whole, point, rest = written(Decimal(points)).partition(".")
    return f"{int(whole):,}{point}{rest}"
