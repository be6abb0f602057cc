"""Tests the migration that moves points, which earlier re-issues counted in two lots, out of the original lot."""

from importlib import import_module
from types import SimpleNamespace

import pytest
from django.db import connection

from loyalty.models import Lot
from reversals.assurance.verification import broken_laws
from tests.builders import World, correct, days_ago, in_days, make_lot, make_world, redeem, redeemed

pytestmark = pytest.mark.django_db

migration = import_module("reversals.migrations.0015_points_reissued")
EDITOR = SimpleNamespace(connection=connection)


def lots(world: World) -> list[tuple[str, int, int, bool]]:
    """Returns name, thousandths remaining and re-issued, and the re-issue flag of each lot, in order of creation."""
    return [
        (lot.lot_ref, int(lot.points_remaining * 1000), int(lot.points_reissued * 1000), lot.is_reissue)
        for lot in Lot.objects.filter(org=world.org).order_by("id")
    ]


@pytest.fixture
def world(db: None) -> World:
    """Creates re-issues: 6 points of an expired lot, 4 of another that were corrected since, and 7 without a lot."""
    world = make_world(settings={"Reversal_reissue_days": "30"})
    for points in (6, 4):
        make_lot(world.asha, points, program=world.program, expires_at=days_ago(1))
        redemption = redeem(world.asha, points, program=world.program, at=days_ago(2))
        assert world.reverse(redemption).status_code == 200
    assert correct(redemption.reversals.get()).error is None
    assert world.reverse(redeem(world.asha, 7, program=world.program, at=days_ago(3))).status_code == 200
    assert world.reverse(redeemed(world), 1).status_code == 200
    return world


def as_before(world: World) -> None:
    """Changes the ledger to what the version before the migration wrote."""
    migration.put_replaced_points_back(None, EDITOR)
    Lot.objects.filter(org=world.org).update(is_reissue=False)


def test_reissued_points_are_moved_out_of_their_original_lots(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    after = lots(world)
    assert [lot[1:] for lot in after] == [
        (0, 6000, False),
        (6000, 0, True),
        (0, 0, False),
        (0, 4000, True),
        (7000, 0, True),
        (1000, 0, False),
    ]
    as_before(world)
    assert [lot[1:] for lot in lots(world)][:4] == [(6000, 0, False), (6000, 0, False), (0, 0, False), (0, 0, False)]
    migration.move_replaced_points(None, EDITOR)
    assert lots(world) == after
    assert broken_laws(world.org.id) == []
    assert capsys.readouterr().err == ""


def test_lot_with_points_spent_twice_is_reported_and_keeps_its_balance(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Draws 2 points that a re-issue had replaced, as the import of a late file did."""
    as_before(world)
    lot = Lot.objects.filter(org=world.org).order_by("id")[0]
    Lot.objects.filter(id=lot.id).update(expires_at=in_days(1))
    redeem(world.asha, 2, program=world.program)
    Lot.objects.filter(id=lot.id).update(expires_at=lot.expires_at)
    migration.move_replaced_points(None, EDITOR)
    lot.refresh_from_db()
    assert (lot.points_remaining, lot.points_reissued) == (0, 4)
    assert capsys.readouterr().err == (
        f"Lot {lot.lot_ref} of org {world.org.id}: 6 of its points were re-issued, but only 4 are left in it. The"
        " others were spent twice; which of the two redemptions should not have had them cannot be decided here.\n"
    )
    assert [(row.law, row.row) for row in broken_laws(world.org.id)] == [
        (
            "lot.reissued = points that re-issues and corrections moved out of the lot, minus points moved back",
            lot.lot_ref,
        ),
        ("live + spent + expired + replaced = awarded + re-issued, in each program", str(world.program.public_id)),
    ]
