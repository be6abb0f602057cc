"""Formats the values in the facts and tables of pages: links, times, counts and points."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import models
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.utils.html import format_html

from loyalty.ledger.points import written


def page_of(row: models.Model) -> str:
    """The address of the row's page."""
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def link(row: models.Model, text: object = None) -> str:
    """A link to the row's page, with the row's name or `text` as its text."""
    return format_html('<a class="text-link" href="{}">{}</a>', page_of(row), row if text is None else text)


def link_or_none(row: models.Model | None) -> str:
    return "none" if row is None else link(row)


def links(rows: Any) -> list[str]:
    return [link(row) for row in rows]


def moment(time: datetime | None, *, none: str = "never") -> str:
    """A time in UTC to the second."""
    return none if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def written_or(points: Decimal | None, none: str) -> str:
    return none if points is None else written(points)


def counted(count: int, noun: str) -> str:
    """The count with its noun: "1 row", "5,000 rows"."""
    return f"{count:,} {noun}{pluralize(count)}"


def in_points(points: Decimal) -> str:
    """The amount with its unit: "1 point", "12.5 points"."""
    return f"{written(points)} point{pluralize(points)}"
