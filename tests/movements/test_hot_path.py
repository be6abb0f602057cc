"""Counts the database round trips and commits of reversals and redemptions."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty.ledger.groups import set_group
from loyalty.models import ApiSecret, Redemption
from reversals.models import Delivery
from tests import builders
from tests.builders import World, make_customer, make_lot, make_webhook, redeemed

# A cluster takes more round trips: one for the key, and one for maintenance (tests/movements/test_one_task.py).
pytestmark = pytest.mark.usefixtures("committed", "on_postgresql", "not_on_cluster")


def make_world(**options: Any) -> World:
    """A world whose till has already called within the hour, because the first call of an hour records its time."""
    world = builders.make_world(**options)
    ApiSecret.objects.filter(org=world.org).update(last_used_at=timezone.now())
    return world


def statements(captured: CaptureQueriesContext) -> list[str]:
    """The first word of each statement sent."""
    return [query["sql"].split()[0] for query in captured.captured_queries]


@pytest.mark.parametrize("key", [None, "key-1"])
def test_reversal_takes_five_round_trips_and_one_commit_with_or_without_key(key: str | None) -> None:
    """Look-up of caller and key; BEGIN; locks; all writes together; COMMIT."""
    world = make_world()
    redemption = redeemed(world, 10)
    with CaptureQueriesContext(connection) as captured:
        assert world.reverse(redemption, 2, key=key).status_code == 200
    assert statements(captured) == ["SELECT", "BEGIN", "SELECT", "WITH", "COMMIT"]


def test_refusal_takes_as_many_round_trips_as_an_accepted_call() -> None:
    world = make_world()
    redemption = redeemed(world, 10)
    with CaptureQueriesContext(connection) as captured:
        assert world.reverse(redemption, 11, key="key-1").status_code == 400
    assert statements(captured) == ["SELECT", "BEGIN", "SELECT", "INSERT", "COMMIT"]


def test_first_call_of_an_hour_records_its_time_in_one_more_statement() -> None:
    world = builders.make_world()
    redemption = redeemed(world, 10)
    with CaptureQueriesContext(connection) as captured:
        assert world.reverse(redemption, 2).status_code == 200
    assert statements(captured) == ["SELECT", "UPDATE", "BEGIN", "SELECT", "WITH", "COMMIT"]
    with CaptureQueriesContext(connection) as captured:
        assert world.reverse(redemption, 3).status_code == 200
    assert "UPDATE" not in statements(captured)


@pytest.mark.parametrize("key", [None, "key-1"])
def test_redemption_takes_six_round_trips_and_one_commit_with_or_without_key(key: str | None) -> None:
    """Look-up of caller and key; BEGIN; customer; programs, lots and the rest; all writes together; COMMIT."""
    world = make_world()
    make_lot(world.asha, 10, program=world.program)
    with CaptureQueriesContext(connection) as captured:
        assert world.redeem(world.asha, 2, key=key).status_code == 200
    assert statements(captured) == ["SELECT", "BEGIN", "SELECT", "WITH", "WITH", "COMMIT"]


def test_cross_member_reversal_finds_the_lot_owners_in_a_first_try() -> None:
    world = make_world(settings={"Enable_cross_member_redemption": "yes"})
    ravi = make_customer(world.org)
    set_group(org=world.org, public_id=1, add=[world.asha.public_id, ravi.public_id])
    make_lot(ravi, 10, program=world.program)
    redemption_id = world.redeem(world.asha, 5).json()["redemptionId"]
    redemption = Redemption.objects.select_related("customer").get(org=world.org, public_id=redemption_id)
    with CaptureQueriesContext(connection) as captured:
        assert world.reverse(redemption, 2).status_code == 200
    first_try, second_try = ["BEGIN", "SELECT", "ROLLBACK"], ["BEGIN", "SELECT", "SELECT", "WITH", "COMMIT"]
    assert statements(captured) == ["SELECT", *first_try, *second_try]


def test_replay_takes_two_reads() -> None:
    """The first finds that the key is held, the second reads its holder."""
    world = make_world()
    redemption = redeemed(world, 10)
    world.reverse(redemption, 2, key="key-1")
    with CaptureQueriesContext(connection) as captured:
        assert world.reverse(redemption, 2, key="key-1").status_code == 200
    assert statements(captured) == ["SELECT", "SELECT"]


def test_event_adds_five_reads_and_no_separate_write() -> None:
    """Webhooks, programs, programs of the lots, the customer's points, and the customer's last pending event."""
    world = make_world()
    make_webhook(world.org)
    redemption = redeemed(world, 10)
    with CaptureQueriesContext(connection) as captured:
        assert world.reverse(redemption, 2).status_code == 200
    assert statements(captured) == ["SELECT", "BEGIN", "SELECT", *["SELECT"] * 5, "WITH", "COMMIT"]
    Delivery.objects.filter(org=world.org).delete()
