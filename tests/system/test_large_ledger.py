"""Times the verification, the sealing and the check of seals of a ledger of 50,000 reversals."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

from loyalty.fields import new_row_id
from loyalty.importing.bulk import analyze
from reversals.assurance.sealing.checking import check_seals
from reversals.assurance.sealing.seals import ENTRIES_AT_ONCE, seal_ledger
from reversals.assurance.verification import broken_laws, rows_checked
from reversals.models import Reversal
from tests.builders import World

pytestmark = pytest.mark.deep

REVERSALS = 50_000
ENTRIES = 4 * REVERSALS  # two lots, a redemption and a reversal each
SECONDS_OF_A_MINUTE = 60

# Each redemption drew one point from a lot and two from another, and all three were reversed. {n} is 1, 2, 3 and so on;
# {base} is a row id above all existing ones.
INSERTS = (
    "loyalty_customer (id, org_id, public_id, status, reversals_locked, reversals_lock_reason)"
    " SELECT {base} + n, {org}, {base} + n, 'ACTIVE', FALSE, '' FROM numbers WHERE n <= {count} / 50",
    "loyalty_ledgerimport (id, org_id, imported_at, made_by, lots_added, points_awarded, redemptions_added,"
    " points_redeemed) SELECT {base} + n, {org}, '2026-04-01 00:00:00', 'meera', 2 * {count}, 3000 * {count}, {count},"
    " 3000 * {count} FROM numbers WHERE n = 1",
    *(
        "loyalty_lot (id, org_id, program_id, customer_id, lot_ref, points_awarded, points_remaining, awarded_at,"
        " ledger_import_id)"
        f" SELECT {{base}} + n + {place} * {{count}}, {{org}}, {{program}}, {{base}} + 1 + n % ({{count}} / 50),"
        f" 'L-{place}-' || n, {place}000, {place}000, '2026-01-01 00:00:00', {{base}} + 1 FROM numbers"
        for place in (1, 2)
    ),
    "loyalty_redemption (id, org_id, program_id, customer_id, public_id, points, points_reversed, redeemed_at,"
    " transaction_number, ledger_import_id) SELECT {base} + n, {org}, {program}, {base} + 1 + n % ({count} / 50),"
    " 'R-' || n, 3000, 3000, '2026-02-01 00:00:00', '', {base} + 1 FROM numbers",
    *(
        "loyalty_draw (id, org_id, redemption_id, lot_id, position, points, points_reversed)"
        f" SELECT {{base}} + n + {place} * {{count}}, {{org}}, {{base}} + n, {{base}} + n + {place} * {{count}},"
        f" {place}, {place}000, {place}000 FROM numbers"
        for place in (1, 2)
    ),
    "reversals_reversal (id, org_id, redemption_id, customer_id, public_id, points, points_available, points_expired,"
    " has_key, channel, made_by, reason, created_at)"
    " SELECT {base} + n, {org}, {base} + n, {base} + 1 + n % ({count} / 50), substr('00000' || n, length('' || n)),"
    " 3000, 3000, 0, FALSE, 'COMMAND', 'meera', 'returned', '2026-03-01 00:00:00' FROM numbers",
    *(
        "reversals_reversalline (id, org_id, reversal_id, draw_id, points, points_available, points_expired)"
        f" SELECT {{base}} + n + {place} * {{count}}, {{org}}, {{base}} + n, {{base}} + n + {place} * {{count}},"
        f" {place}000, {place}000, 0 FROM numbers"
        for place in (1, 2)
    ),
)


@pytest.fixture
def large(world: World) -> World:
    """The world with 50,000 redemptions, each from two lots and fully reversed."""
    names = {"base": new_row_id(), "org": world.org.id, "program": world.program.id, "count": REVERSALS}
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL statement_timeout = 0")
        for insert in INSERTS:
            numbers = "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count})"
            cursor.execute(f"{numbers} INSERT INTO {insert}".format(**names))
        analyze(cursor, *(insert.split()[0] for insert in INSERTS))
    assert Reversal.objects.filter(org=world.org).count() == REVERSALS
    return world


def seconds_of(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def test_fifty_thousand_reversals_are_verified_and_sealed_within_a_minute(large: World, tmp_path: Path) -> None:
    anchor = tmp_path / "ledger.anchor"
    seconds = {
        "laws": seconds_of(assert_laws_hold),
        "sealing": seconds_of(lambda: seal_ledger(anchor)),
        "sealing nothing": seconds_of(lambda: seal_ledger(anchor)),
        "checking the seals": seconds_of(lambda: assert_seals_hold(anchor)),
    }
    rows = sum(rows_checked(large.org.id).values())
    print(connection.vendor, {name: f"{value:.2f} s, {rows / value:,.0f} rows/s" for name, value in seconds.items()})
    assert max(seconds.values()) < SECONDS_OF_A_MINUTE


def assert_laws_hold() -> None:
    assert broken_laws() == []


def assert_seals_hold(anchor: Path) -> None:
    checked = check_seals(anchor)
    assert (checked.seals >= ENTRIES / ENTRIES_AT_ONCE, checked.problems) == (True, [])
