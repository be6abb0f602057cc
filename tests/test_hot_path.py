"""What one reversal costs the database: round trips and commits, counted."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.builders import make_world, redeemed

pytestmark = pytest.mark.usefixtures("committed", "on_postgresql")


def statements(captured: CaptureQueriesContext) -> list[str]:
    """The first word of each statement sent."""
    return [query["sql"].split()[0] for query in captured.captured_queries]


def test_an_accepted_reversal_takes_three_statements_in_one_transaction() -> None:
    world = make_world()
    redemption = redeemed(world, 10)
    with CaptureQueriesContext(connection) as captured:
        assert world.reverse(redemption, 2).status_code == 200
    assert statements(captured) == ["SELECT", "BEGIN", "SELECT", "WITH", "COMMIT"]


def test_a_key_adds_its_look_up_and_its_row() -> None:
    world = make_world()
    redemption = redeemed(world, 10)
    with CaptureQueriesContext(connection) as captured:
        assert world.reverse(redemption, 2, key="key-1").status_code == 200
    assert statements(captured) == ["SELECT", "SELECT", "BEGIN", "INSERT", "SELECT", "WITH", "COMMIT"]


def test_a_replay_takes_two_reads() -> None:
    world = make_world()
    redemption = redeemed(world, 10)
    world.reverse(redemption, 2, key="key-1")
    with CaptureQueriesContext(connection) as captured:
        assert world.reverse(redemption, 2, key="key-1").status_code == 200
    assert statements(captured) == ["SELECT", "SELECT"]
