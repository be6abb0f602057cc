"""Template filters for points: without trailing zeros, and optionally with thousands separators."""

from django import template

from loyalty.ledger.points import grouped, written

register = template.Library()
register.filter("written", written)
register.filter("grouped", grouped)
