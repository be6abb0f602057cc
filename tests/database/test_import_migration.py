"""Tests the migration that records one import for the rows that existed before imports were recorded."""

from importlib import import_module
from types import SimpleNamespace

import pytest
from django.db import connection

from loyalty.models import LedgerImport, Lot, Redemption
from reversals.assurance.verification import broken_laws
from tests.builders import World, days_ago, make_customer, make_lot, make_world, points, redeem, redeemed

pytestmark = pytest.mark.django_db

migration = import_module("reversals.migrations.0016_earlier_imports")


def migrate_from_before() -> None:
    """Removes the references to imports, which earlier versions did not have, and migrates."""
    before = set(LedgerImport.objects.values_list("id", flat=True))
    Lot.objects.update(ledger_import=None)
    Redemption.objects.update(ledger_import=None)
    migration.record_earlier_imports(None, SimpleNamespace(connection=connection))
    # No row refers to the imports of the builders any more. The earlier version had no such imports.
    assert before.isdisjoint(Lot.objects.exclude(ledger_import=None).values_list("ledger_import_id", flat=True))


@pytest.fixture
def world(db: None) -> World:
    """Creates two lots and two redemptions from files, a redemption through the API, and a re-issued lot."""
    world = make_world(settings={"Reversal_reissue_days": "30"})
    make_lot(world.asha, 6, program=world.program, expires_at=days_ago(1))
    expired = redeem(world.asha, 4, program=world.program, at=days_ago(2))
    assert world.reverse(expired, 3).status_code == 200
    redeemed(world, 10)
    assert world.redeem(world.asha, 2).status_code == 200
    return world


def test_only_rows_from_files_get_the_recorded_import(world: World) -> None:
    migrate_from_before()
    recorded = LedgerImport.objects.get(org=world.org, made_by=migration.MADE_BY)
    assert (recorded.lots_added, recorded.points_awarded) == (2, points(16))
    assert (recorded.redemptions_added, recorded.points_redeemed) == (2, points(14))
    lots = Lot.objects.filter(org=world.org).order_by("id").values_list("is_reissue", "ledger_import")
    assert list(lots) == [(False, recorded.id), (True, None), (False, recorded.id)]
    redemptions = Redemption.objects.filter(org=world.org).order_by("id").values_list("ledger_import", flat=True)
    assert list(redemptions) == [recorded.id, recorded.id, None]
    broken = [row for row in broken_laws(world.org.id) if row.row == str(recorded.id)]
    assert broken == []


def test_each_org_with_rows_gets_its_own_import(world: World) -> None:
    other, empty = make_world(), make_world()
    make_lot(make_customer(other.org), 1, program=other.program)
    migrate_from_before()
    recorded = LedgerImport.objects.filter(made_by=migration.MADE_BY, org__in=[world.org, other.org, empty.org])
    assert sorted(recorded.values_list("org_id", "lots_added")) == [(world.org.id, 2), (other.org.id, 1)]
