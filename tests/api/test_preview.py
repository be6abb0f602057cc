"""The query parameters `dryRun` and `expand` of a reversal."""

import pytest
import time_machine
from django.utils import timezone

from loyalty.models import Lot
from reversals.models import Attempt
from tests.builders import ADDRESS, ON, World, days_ago, in_days, make_lot, redeem, redeemed, set_value

pytestmark = pytest.mark.django_db

DRY = f"{ADDRESS}?dryRun=true"
EXPANDED = f"{ADDRESS}?expand=lines,redemption"


def test_dry_run_has_the_same_body_without_reversal_id_and_writes_only_an_attempt(world: World) -> None:
    redemption = redeemed(world, 10)
    before = world.written()
    dry = world.reverse(redemption, 4, address=DRY)
    assert (dry.status_code, world.written()) == (200, before)
    real = world.reverse(redemption, 4).json()
    real.pop("reversalId")
    assert dry.json() == real | {"dryRun": True}
    assert [attempt.is_dry_run for attempt in world.attempts()] == [True, False]
    assert world.attempts()[0].reversal is None


def test_dry_run_false_reverses_the_points(world: World) -> None:
    assert "reversalId" in world.reverse(redeemed(world, 10), 4, address=f"{ADDRESS}?dryRun=false").json()


@pytest.mark.parametrize(("points", "code"), [(11, 817), (-1, 887), (1.0001, 878)])
def test_dry_run_is_refused_like_a_real_reversal(world: World, points: float, code: int) -> None:
    redemption = redeemed(world, 10)
    dry, real = (world.reverse(redemption, points, address=address) for address in (DRY, ADDRESS))
    assert (dry.status_code, dry.json()) == (real.status_code, real.json())
    assert dry.json()["errors"][0]["code"] == code


def test_dry_run_is_refused_while_reversals_are_off(world: World) -> None:
    set_value(world.org, ON, "no")
    assert world.reverse(redeemed(world, 10), address=DRY).json()["errors"][0]["code"] == 818


def test_dry_run_leaves_its_key_unused(world: World) -> None:
    redemption = redeemed(world, 10)
    for amount in (4, 5, 99):
        assert "Idempotent-Replayed" not in world.reverse(redemption, amount, key="key-1", address=DRY)
    real = world.reverse(redemption, 3, key="key-1")
    assert (real.status_code, real.json()["pointsReversed"]) == (200, 3.0)
    after = world.reverse(redemption, 3, key="key-1", address=DRY).json()
    assert (after["dryRun"], after["pointsReversed"]) == (True, 3.0)


def test_dry_run_does_not_make_the_next_reversal_a_duplicate(world: World) -> None:
    redemption = redeemed(world, 10)
    assert world.reverse(redemption, 4, address=DRY).status_code == 200
    assert world.reverse(redemption, 4).status_code == 200
    assert world.reverse(redemption, 4, address=DRY).json()["errors"][0]["code"] == 902


def test_expand_adds_the_points_of_each_lot_and_the_remaining_points(world: World) -> None:
    first = make_lot(world.asha, 6, program=world.program, expires_at=in_days(1))
    last = make_lot(world.asha, 4, program=world.program, expires_at=in_days(2))
    redemption = redeem(world.asha, 10, program=world.program)
    Lot.objects.filter(id=first.id).update(expires_at=(expired_at := days_ago(0.5)))
    body = world.reverse(redemption, 7, address=EXPANDED).json()
    assert body["lines"] == [
        {
            "position": 2,
            "lotRef": last.lot_ref,
            "memberId": world.asha.public_id,
            "expiresAt": f"{last.expires_at:%Y-%m-%dT%H:%M:%SZ}",
            "points": 4.0,
            "available": 4.0,
            "expired": 0.0,
            "reissued": 0.0,
        },
        {
            "position": 1,
            "lotRef": first.lot_ref,
            "memberId": world.asha.public_id,
            "expiresAt": f"{expired_at:%Y-%m-%dT%H:%M:%SZ}",
            "points": 3.0,
            "available": 0.0,
            "expired": 3.0,
            "reissued": 0.0,
        },
    ]
    assert body["redemption"] == {"points": 10.0, "pointsReversed": 7.0, "pointsLeft": 3.0}


@pytest.mark.parametrize(
    ("query", "added"),
    [("", set()), ("?expand=lines", {"lines"}), ("?expand=redemption", {"redemption"}), ("?other=1", set())],
)
def test_reply_has_the_published_keys_and_the_expanded_parts(world: World, query: str, added: set[str]) -> None:
    published = {
        "orgId",
        "identifier",
        "customerId",
        "redemptionId",
        "reversalId",
        "pointsToBeReversed",
        "pointsReversed",
        "pointsReversedDetails",
        "warnings",
        "errors",
    }
    assert set(world.reverse(redeemed(world, 10), 4, address=ADDRESS + query).json()) == published | added


def test_line_without_a_lot_has_no_lot_ref_and_is_reissued(world: World) -> None:
    set_value(world.org, "Reversal_reissue_days", "30")
    redemption = redeem(world.asha, 5, program=world.program)
    body = world.reverse(redemption, address=f"{DRY}&expand=lines").json()
    assert [(line["lotRef"], line["expiresAt"], line["reissued"]) for line in body["lines"]] == [(None, None, 5.0)]
    assert not Lot.objects.filter(org=world.org).exists()


def test_replay_is_the_stored_reply_whatever_it_expands(world: World) -> None:
    redemption = redeemed(world, 10)
    first = world.reverse(redemption, 4, key="key-1", address=EXPANDED)
    again = world.reverse(redemption, 4, key="key-1")
    assert again.content == first.content
    assert "lines" in again.json()


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("dryRun=yes", "dryRun"),
        ("dryRun=", "dryRun"),
        ("dryRun=True", "dryRun"),
        ("dryRun=true&dryRun=false", "dryRun"),
        ("dryrun=true", "dryrun"),
        ("dry_run=true", "dry_run"),
        ("expand=all", "expand"),
        ("expand=", "expand"),
        ("expand=lines,", "expand"),
        ("expand=lines&expand=redemption", "expand"),
    ],
)
def test_invalid_option_is_887_and_nothing_is_reversed(world: World, query: str, field: str) -> None:
    before = world.written()
    redemption = redeemed(world, 10)
    response = world.reverse(redemption, 4, address=f"{ADDRESS}?{query}")
    refusal = response.json()["errors"][0]
    assert (response.status_code, refusal["code"], refusal["reason"].partition(":")[0]) == (400, 887, field)
    assert world.written() == before


def test_dry_runs_do_not_count_towards_the_limits(world: World) -> None:
    set_value(world.org, "Reversal_limit_count", "1")
    with time_machine.travel(timezone.now()):
        redemption = redeemed(world, 10)
        for _ in range(3):
            assert world.reverse(redemption, 1, address=DRY).status_code == 200
    assert Attempt.objects.filter(org=world.org, is_dry_run=True).count() == 3
    assert world.reverse(redemption, 1).status_code == 200
