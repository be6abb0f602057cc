"""Tests cover_redemptions: redemptions that were imported before their points get the lots that they would have had."""

import json
from datetime import datetime, timedelta
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from loyalty.models import Covering, CoveringLine, Draw, Lot, Redemption
from reversals.assurance.sealing.checking import check_seals
from reversals.assurance.sealing.seals import seal_ledger
from reversals.assurance.verification import broken_laws
from reversals.privacy.exporting import export_customer
from tests.builders import (
    World,
    days_ago,
    make_customer,
    make_lot,
    make_program,
    points,
    redeem,
    set_value,
    staff_of,
)

pytestmark = pytest.mark.django_db


def cover(world: World, *options: str) -> dict[str, Any]:
    output = StringIO()
    call_command("cover_redemptions", str(world.org.id), "--json", *options, stdout=output)
    result: dict[str, Any] = json.loads(output.getvalue())
    return result


def draws_of(redemption: Redemption) -> list[tuple[str | None, Decimal]]:
    """The lot and the points of each draw, in the order of drawing."""
    draws = Draw.objects.filter(org_id=redemption.org_id, redemption=redemption).order_by("position")
    return list(draws.values_list("lot__lot_ref", "points"))


def remaining(*lots: Lot) -> list[Decimal]:
    return [Lot.objects.get(id=lot.id).points_remaining for lot in lots]


def lot(world: World, amount: object, *, age: float = 100, expires_at: datetime | None = None) -> Lot:
    return make_lot(world.asha, amount, program=world.program, awarded_at=days_ago(age), expires_at=expires_at)


def test_redemption_before_its_points_gets_the_lots_that_a_right_order_gives(world: World) -> None:
    redemption = redeem(world.asha, 12, program=world.program, at=days_ago(5))
    never, soon = lot(world, 10), lot(world, 5, expires_at=days_ago(1))
    too_late, expired = lot(world, 50, age=4), lot(world, 50, expires_at=days_ago(6))
    result = cover(world, "--reason", "points came later", "--by", "meera")
    assert result == {
        "org_id": world.org.id,
        "dry_run": False,
        "covered_redemptions": 1,
        "covered_points": "12",
        "uncovered_redemptions": 0,
        "uncovered_points": "0",
    }
    assert draws_of(redemption) == [(soon.lot_ref, 5), (never.lot_ref, 7)]
    assert remaining(never, soon, too_late, expired) == [3, 0, 50, 50]
    covering = Covering.objects.get(org=world.org)
    assert (covering.redemption_id, covering.points, covering.reason, covering.made_by) == (
        redemption.id,
        12,
        "points came later",
        "meera",
    )
    assert broken_laws(world.org.id) == []
    assert cover(world)["covered_redemptions"] == 0


def test_covering_is_on_the_pages_of_redemption_and_customer_and_in_the_export(world: World) -> None:
    redemption = redeem(world.asha, 12, program=world.program, at=days_ago(5))
    only = lot(world, 10)
    reader = staff_of(world, "Reversal operator")
    address = reverse("admin:loyalty_redemption_change", args=[redemption.id])
    assert "Coverings" not in reader.get(address).content.decode()
    cover(world, "--reason", "points came later", "--by", "meera")
    page = reader.get(address).content.decode()
    assert all(text in page for text in ("Coverings", only.lot_ref, "points came later", "no lot"))
    customer = reverse("admin:loyalty_customer_change", args=[world.asha.id])
    page = reader.get(customer, {"tab": "activity"}).content.decode()
    assert "10 points now drawn from lots: points came later" in page
    [exported] = export_customer(world.asha)["coverings"]
    assert (exported["lot_lot_ref"], exported["points"], exported["covering_made_by"]) == (only.lot_ref, "10", "meera")


def test_covered_points_are_reversed_to_their_lots(world: World) -> None:
    redemption = redeem(world.asha, 12, program=world.program, at=days_ago(5))
    lots = [lot(world, 5, age=age) for age in (100, 99, 98)]
    cover(world)
    reply = world.reverse(redemption, 8).json()
    assert reply["pointsReversed"] == 8.0
    assert remaining(*lots) == [1, 5, 5]
    assert world.reverse(redemption).json()["pointsReversed"] == 4.0
    assert broken_laws(world.org.id) == []


def test_draws_that_had_a_lot_stay_behind_the_covered_ones(world: World) -> None:
    first = lot(world, 4)
    redemption = redeem(world.asha, 12, program=world.program, at=days_ago(5))
    assert world.reverse(redemption, 1, key="key-1").status_code == 200
    second, third = lot(world, 3, age=60), lot(world, 2, age=50)
    assert cover(world)["uncovered_points"] == "3"
    assert draws_of(redemption) == [(None, 3), (second.lot_ref, 3), (third.lot_ref, 2), (first.lot_ref, 4)]
    fourth = lot(world, 10, age=40)
    assert cover(world)["covered_points"] == "3"
    assert draws_of(redemption) == [(fourth.lot_ref, 3), (second.lot_ref, 3), (third.lot_ref, 2), (first.lot_ref, 4)]
    assert broken_laws(world.org.id) == []
    assert world.reverse(redemption).json()["pointsReversed"] == 11.0
    assert remaining(first, second, third, fourth) == [4, 3, 2, 10]
    assert broken_laws(world.org.id) == []


def test_earlier_redemptions_are_covered_first_and_no_lot_goes_below_what_is_left(world: World) -> None:
    late = redeem(world.asha, 6, program=world.program, at=days_ago(2))
    early = redeem(world.asha, 6, program=world.program, at=days_ago(4))
    only = lot(world, 10)
    spent = redeem(world.asha, 3, program=world.program, at=days_ago(1))
    assert cover(world)["uncovered_points"] == "5"
    assert draws_of(early) == [(only.lot_ref, 6)]
    assert draws_of(late) == [(None, 5), (only.lot_ref, 1)]
    assert draws_of(spent) == [(only.lot_ref, 3)]
    assert remaining(only) == [0]
    assert broken_laws(world.org.id) == []


def test_points_reversed_after_the_redemption_do_not_cover_it(world: World) -> None:
    only = lot(world, 10)
    whole = redeem(world.asha, 10, program=world.program, at=days_ago(5))
    redemption = redeem(world.asha, 4, program=world.program, at=days_ago(4))
    assert world.reverse(whole, key="key-1").status_code == 200
    assert cover(world)["covered_redemptions"] == 0
    assert (draws_of(redemption), remaining(only)) == ([(None, 4)], [10])


def test_lots_of_other_customers_and_re_issued_points_do_not_change(world: World) -> None:
    redemption = redeem(world.asha, 4, program=world.program, at=days_ago(4))
    set_value(world.org, "Reversal_reissue_days", "30")
    assert world.reverse(redemption, 1).status_code == 200
    others = make_lot(make_customer(world.org), 10, program=world.program)
    own = lot(world, 10)
    result = cover(world)
    assert (result["covered_redemptions"], result["uncovered_points"]) == (0, "3")
    assert remaining(others, own) == [10, 10]


def test_dry_run_shows_the_same_and_changes_nothing(world: World) -> None:
    redemption = redeem(world.asha, 12, program=world.program, at=days_ago(5))
    lots = [lot(world, 5), lot(world, 5)]
    dry = cover(world, "--dry-run")
    assert (draws_of(redemption), remaining(*lots), Covering.objects.filter(org=world.org).count()) == (
        [(None, 12)],
        [5, 5],
        0,
    )
    assert dry | {"dry_run": False} == cover(world)
    assert dry["covered_points"] == "10"


def test_covering_breaks_no_seal_and_is_sealed(world: World, tmp_path: Path) -> None:
    redemption = redeem(world.asha, 12, program=world.program, at=days_ago(5))
    lots = [lot(world, 5, age=age) for age in (100, 99, 98)]
    seal_ledger(tmp_path / "anchor")
    cover(world)
    assert check_seals().problems == []
    seal_ledger(tmp_path / "anchor")
    assert world.reverse(redemption, 8).status_code == 200
    assert check_seals().problems == []
    line = CoveringLine.objects.filter(org=world.org, lot=lots[0]).get()
    Draw.objects.filter(id=line.draw_id).update(first_points=points(11))
    assert check_seals().problems != []


@pytest.mark.usefixtures("on_postgresql")
def test_busy_customer_does_not_end_the_run_at_the_lock_timeout_of_requests(world: World) -> None:
    redeem(world.asha, 5, program=world.program, at=days_ago(5))
    with CaptureQueriesContext(connection) as captured:
        cover(world)
    statements = [query["sql"] for query in captured]
    locking = next(number for number, sql in enumerate(statements) if "FOR NO KEY UPDATE" in sql)
    assert "SET LOCAL lock_timeout = '60s'" in statements[:locking]


@pytest.mark.parametrize("options", [("--reason", " "), ("--by", "x" * 151), ("--reason", "x" * 501)])
def test_covering_says_why_and_by_whom(world: World, options: tuple[str, ...]) -> None:
    with pytest.raises(CommandError, match=r"expected a text of 1 to"):
        cover(world, *options)


def test_redemption_of_another_program_may_be_covered(world: World) -> None:
    redemption = redeem(world.asha, 5, program=make_program(world.org), at=days_ago(1) - timedelta(seconds=1))
    own = lot(world, 5)
    cover(world)
    assert draws_of(redemption) == [(own.lot_ref, 5)]
