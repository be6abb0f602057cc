"""Bar charts by day, drawn with HTML and CSS: the height of each bar, the axis, and what hovering over a day shows."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from math import ceil

from django.utils.html import format_html, format_html_join
from django.utils.safestring import mark_safe

from loyalty.ledger.points import grouped

TICKS_AT_MOST = 5
NAMED_DAYS = 6
MINOR = mark_safe(' class="minor"')
# A day with this many times the next smaller value flattens the rest.
FLATTENS_FROM = 4


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a bar, such as the expired points. Parts are stacked, the first at the bottom."""

    name: str
    color: str
    values: Sequence[Decimal]


@dataclass(frozen=True, slots=True)
class Bar:
    """One day. Heights are percentages of the chart. `is_left_out`: the user clicked the day away.

    Only some days have their `name` below them, and on a narrow screen every second of those.
    """

    day: date
    name: str
    is_minor: bool
    heights: list[tuple[str, str]]
    previous: str
    facts: list[str]
    address: str
    is_left_out: bool

    def html(self) -> str:
        """Returns the day as a link of full height that shows its numbers on hovering. A template would take longer."""
        parts = format_html_join("", '<i class="{}" style="height: {}%"></i>', self.heights)
        before = format_html('<b style="bottom: {}%"></b>', self.previous) if self.previous else ""
        facts = format_html_join("", "<br>{}", ((fact,) for fact in self.facts))
        note = mark_safe("<br>left out of the chart") if self.is_left_out else ""
        label = format_html("<small{}>{}</small>", MINOR if self.is_minor else "", self.name) if self.name else ""
        return format_html(
            '<a href="{}" tabindex="-1" class="day{}">{}{}<span class="tip"><strong>{}</strong>{}{}</span>{}</a>',
            self.address,
            " left-out" if self.is_left_out else "",
            parts,
            before,
            f"{self.day:%a %-d %b %Y}",
            facts,
            note,
            label,
        )


@dataclass(frozen=True, slots=True)
class Chart:
    """A bar chart. `ticks` are labels with their height. `flattening` is a day to offer to leave out."""

    title: str
    parts: Sequence[Part]
    bars: list[Bar]
    ticks: list[tuple[str, str]]
    flattening: date | None

    @property
    def has_data(self) -> bool:
        return any(value for part in self.parts for value in part.values) or any(bar.previous for bar in self.bars)


def chart(
    title: str,
    days: Sequence[date],
    parts: Sequence[Part],
    previous: Sequence[Decimal],
    *,
    addresses: Sequence[str],
    without: Collection[date] = (),
) -> Chart:
    """Draws the parts of each day, stacked, over the values of the period before."""
    totals = [sum((part.values[at] for part in parts), Decimal(0)) for at in range(len(days))]
    shown = sorted(total for day, total in zip(days, totals, strict=True) if day not in without)
    top, ticks = _axis(shown[-1] if shown else Decimal(0), max(previous, default=Decimal(0)))
    step = -(-len(days) // NAMED_DAYS)
    bars = [
        Bar(
            day=day,
            name="" if at % step else f"{day:%d %b}",
            is_minor=bool(at % (2 * step)),
            heights=[
                (part.color, _height(part.values[at], top)) for part in parts if part.values[at] and day not in without
            ],
            previous=_height(previous[at], top) if previous[at] else "",
            facts=[*(f"{grouped(part.values[at])} {part.name}" for part in parts), f"{grouped(previous[at])} before"],
            address=addresses[at],
            is_left_out=day in without,
        )
        for at, day in enumerate(days)
    ]
    flattens = len(shown) > 1 and shown[-2] > 0 and shown[-1] >= FLATTENS_FROM * shown[-2]
    return Chart(title, parts, bars, ticks, days[totals.index(shown[-1])] if flattens else None)


def _axis(largest: Decimal, largest_before: Decimal) -> tuple[Decimal, list[tuple[str, str]]]:
    """Returns the value at the top of the chart, and the labels from 0 up. A larger period before is cut off."""
    reached = max(largest, min(largest_before, 2 * largest) if largest else largest_before)
    if not reached:
        return Decimal(1), []
    step = Decimal(10) ** (reached / TICKS_AT_MOST).adjusted()
    step = next(step * factor for factor in (1, 2, 5, 10) if step * factor * TICKS_AT_MOST >= reached)
    step = max(step, Decimal(1))
    count = ceil(reached / step)
    top = step * count
    return top, [(grouped(step * number), _height(step * number, top)) for number in range(count + 1)]


def _height(value: Decimal, top: Decimal) -> str:
    """Returns the height in percent, with a point, whatever the language."""
    return f"{min(float(value / top), 1.0) * 100:.2f}"
