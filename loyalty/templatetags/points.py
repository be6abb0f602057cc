"""Points in templates, written as everywhere else: without needless zeros."""

from django import template

from loyalty.points import written

register = template.Library()
register.filter("written", written)
