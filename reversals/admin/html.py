"""Formats the values in the facts and tables of pages: links, times, counts and points."""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.db import models
from django.db.models import QuerySet
from django.template.defaultfilters import pluralize
from django.utils.html import format_html, format_html_join

from loyalty.admin.links import link
from loyalty.admin.statuses import EXPIRED, badge
from loyalty.ledger.points import grouped, written


class Amount(str):
    """The text of an amount, or the header of a column of amounts: aligned to the right."""

    is_amount = True


def amount(points: Decimal) -> Amount:
    """An amount of points for a table, with commas between the thousands: "1,234.5"."""
    return Amount(grouped(points))


def link_or_none(row: models.Model | None) -> str:
    return "none" if row is None else link(row)


def links(rows: Any) -> list[str]:
    return [link(row) for row in rows]


def moment(time: datetime | None, *, none: str = "never") -> str:
    """A time in UTC to the second."""
    return none if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def until(expires_at: datetime | None, now: datetime) -> str:
    """When a lot expires. A lot that has expired by `now` gets a label."""
    text = moment(expires_at)
    return format_html("{} {}", text, badge(EXPIRED)) if expires_at is not None and expires_at <= now else text


def written_or(points: Decimal | None, none: str) -> str:
    return none if points is None else written(points)


def counted(count: int, noun: str) -> str:
    """The count with its noun: "1 row", "5,000 rows"."""
    return f"{count:,} {noun}{pluralize(count)}"


def in_points(points: Decimal) -> str:
    """The amount with its unit: "1 point", "1,012.5 points"."""
    return f"{grouped(points)} point{pluralize(points)}"


COUNTED_UP_TO = 1_000


def counted_up_to(rows: QuerySet[Any]) -> str:
    """The number of rows, or "more than 1,000", so that counting never reads more rows than that."""
    return in_count(rows.order_by()[: COUNTED_UP_TO + 1].count())


def in_count(count: int) -> str:
    """A count that stopped after 1,000, in words."""
    return f"{count:,}" if count <= COUNTED_UP_TO else f"more than {COUNTED_UP_TO:,}"


def copyable(value: object, name: str) -> str:
    """A value with a button that copies it. Without a script there is no button."""
    return format_html(
        '<span class="copyable"><span>{}</span> <button type="button" class="copy" data-copy="{}" aria-label="Copy {}"'
        " hidden>Copy</button></span>",
        value,
        value,
        name,
    )


def bars(most: Decimal, **points: Decimal) -> str:
    """A bar of one or more parts. `most` points fill the whole width. The table beside it has the numbers."""
    parts, start = [], Decimal(0)
    for name, each in points.items():
        width = 100 * each / most if most else Decimal(0)
        parts.append((name, f"{start:.2f}", f"{width:.2f}"))
        start += width
    shapes = format_html_join("", '<rect class="{}" x="{}%" width="{}%" height="100%"/>', parts)
    return format_html('<svg class="bars" aria-hidden="true" focusable="false">{}</svg>', shapes)
