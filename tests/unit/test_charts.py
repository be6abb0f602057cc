"""Bar charts by day: axis, stacked parts, days that are left out, the period before."""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal

import pytest

from reversals.admin.charts import Chart, Part, chart

FIRST = date(2026, 11, 1)


def drawn(*values: int, before: Sequence[int] = (), expired: Sequence[int] = (), without: Sequence[int] = ()) -> Chart:
    """Draws one value a day, with expired points and the values before; `without` are positions of days."""
    days = [FIRST + timedelta(days=at) for at in range(len(values))]
    nothing = [0] * len(values)
    parts = [
        Part("available", "available", [Decimal(value) for value in values]),
        Part("expired", "expired", [Decimal(value) for value in expired or nothing]),
    ]
    return chart(
        "Points",
        days,
        parts,
        [Decimal(value) for value in before or nothing],
        addresses=["#"] * len(values),
        without={days[at] for at in without},
    )


@pytest.mark.parametrize(
    ("largest", "labels"),
    [
        (1, ["0", "1"]),
        (5, ["0", "1", "2", "3", "4", "5"]),
        (7, ["0", "2", "4", "6", "8"]),
        (1_234, ["0", "500", "1,000", "1,500"]),
        (
            999_999_999_999,
            ["0", "200,000,000,000", "400,000,000,000", "600,000,000,000", "800,000,000,000", "1,000,000,000,000"],
        ),
    ],
)
def test_axis_begins_at_0_and_has_separators(largest: int, labels: list[str]) -> None:
    ticks = drawn(largest, 0).ticks
    assert [label for label, _ in ticks] == labels
    assert (ticks[0][1], ticks[-1][1]) == ("0.00", "100.00")


def test_available_and_expired_points_are_stacked() -> None:
    [bar] = drawn(6, expired=[4]).bars
    assert bar.heights == [("available", "60.00"), ("expired", "40.00")]
    assert bar.facts == ["6 available", "4 expired", "0 before"]


def test_day_that_flattens_the_rest_can_be_left_out() -> None:
    flat = drawn(1, 100, 2)
    assert flat.flattening == FIRST + timedelta(days=1)
    readable = drawn(1, 100, 2, without=[1])
    assert readable.flattening is None
    assert readable.bars[1].is_left_out
    assert readable.bars[1].heights == []
    assert [bar.heights[0][1] for bar in readable.bars if bar.heights] == ["50.00", "100.00"]
    assert drawn(2, 7, 2).flattening is None
    assert drawn(0, 7, 0).flattening is None


def test_period_before_is_cut_off_where_it_would_flatten_this_one() -> None:
    assert [bar.previous for bar in drawn(10, 10, before=[5, 1_000]).bars] == ["25.00", "100.00"]
    assert [bar.previous for bar in drawn(0, 0, before=[5, 10]).bars] == ["50.00", "100.00"]


def test_chart_without_any_value_has_no_data() -> None:
    assert not drawn(0, 0).has_data
    assert drawn(0, 0, before=[0, 1]).has_data
    assert drawn(0, expired=[1]).has_data
