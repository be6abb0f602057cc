"""What staff change about a client, its org and its settings counts from the next call on."""

from typing import Any

import pytest
from django.http import HttpResponse

from loyalty.ledger.groups import set_group
from loyalty.models import ApiClient, ApiSecret, EmfSetting, Lot, Org, Program
from tests.builders import ADDRESS, ON, World, make_customer, make_lot, make_world, redeemed, request_for

pytestmark = pytest.mark.usefixtures("committed")


def outcome(response: HttpResponse) -> tuple[int, int | None]:
    """The HTTP status, and the code of the refusal."""
    errors = response.json()["errors"]
    return response.status_code, errors[0]["code"] if errors else None


def known(world: World) -> Any:
    """A redemption of a world whose till has called before."""
    redemption = redeemed(world, 100)
    assert world.reverse(redemption, 1).status_code == 200
    return redemption


def set_emf(world: World, key: str, value: str, program: Program | None = None) -> None:
    EmfSetting.objects.update_or_create(org=world.org, program=program, key=key, defaults={"value": value})


CHANGES = {
    "the secret is revoked": (lambda world: ApiSecret.objects.filter(org=world.org).delete(), (401, 401)),
    "the client is revoked": (
        lambda world: ApiClient.objects.filter(org=world.org).update(is_active=False),
        (401, 401),
    ),
    "the client is renamed": (
        lambda world: ApiClient.objects.filter(org=world.org).update(username="till.2"),
        (401, 401),
    ),
    "the org is not active": (lambda world: Org.objects.filter(pk=world.org.pk).update(is_active=False), (401, 401)),
    "the org has no V2 API": (lambda world: Org.objects.filter(pk=world.org.pk).update(v2_enabled=False), (403, 403)),
    "the switch is off": (lambda world: set_emf(world, ON, "no"), (400, 818)),
    "the program's switch is off": (lambda world: set_emf(world, ON, "no", world.program), (400, 818)),
    "reversals are paused": (lambda world: set_emf(world, "Reversal_paused", "yes"), (503, 898)),
    "a setting is broken": (lambda world: set_emf(world, "Reversal_limit_days", "many"), (500, 888)),
    "a setting is removed": (lambda world: EmfSetting.objects.filter(org=world.org).delete(), (400, 818)),
    "the limit is spent": (lambda world: set_emf(world, "Reversal_limit_count", "1"), (400, 903)),
    "the dialect changes": (
        lambda world: (set_emf(world, "Reversal_error_dialect", "engine"), set_emf(world, ON, "no")),
        (200, 4101),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_counts_at_once(change: str) -> None:
    world = make_world()
    redemption = known(world)
    make, expected = CHANGES[change]
    make(world)
    assert outcome(world.reverse(redemption, 2)) == expected


REDEMPTION_CHANGES = {
    **{change: CHANGES[change] for change in CHANGES if CHANGES[change][1][0] in {401, 403}},
    "a setting is broken": (lambda world: set_emf(world, "Enable_cross_member_redemption", "perhaps"), (500, 888)),
    "a program is not active": (
        lambda world: Program.objects.filter(org=world.org).update(is_active=False),
        (400, 885),
    ),
    "there is no program": (lambda world: Program.objects.filter(org=world.org).delete(), (400, 885)),
}


@pytest.mark.parametrize("change", REDEMPTION_CHANGES)
def test_a_change_counts_at_once_for_a_redemption(change: str) -> None:
    world = make_world()
    assert world.redeem(world.asha, 1).status_code == 400  # it has no points
    make, expected = REDEMPTION_CHANGES[change]
    make(world)
    assert outcome(world.redeem(world.asha, 2)) == expected


def test_a_group_is_drawn_on_from_the_first_redemption_after_the_switch() -> None:
    world = make_world()
    ravi = make_customer(world.org)
    set_group(org=world.org, public_id=1, add=[world.asha.public_id, ravi.public_id])
    make_lot(ravi, 10, program=world.program)
    assert outcome(world.redeem(world.asha, 2)) == (400, 818)
    set_emf(world, "Enable_cross_member_redemption", "yes")
    assert outcome(world.redeem(world.asha, 2)) == (200, None)
    set_emf(world, "Enable_cross_member_redemption", "no")
    assert outcome(world.redeem(world.asha, 2)) == (400, 818)


def test_a_change_that_allows_counts_at_once() -> None:
    world = make_world()
    redemption = known(world)
    set_emf(world, ON, "no")
    assert outcome(world.reverse(redemption, 2)) == (400, 818)
    set_emf(world, ON, "yes")
    assert outcome(world.reverse(redemption, 2)) == (200, None)


CALLS = {
    "a malformed body": {"body": b"{"},
    "a body that lacks something": {"body": {}},
    "no JSON": {"body": b"x", "content_type": "text/plain"},
    "a redemption that is none": {"body": {"redemptionId": "none", "identifier": {"type": "ID", "value": "1"}}},
    "a dry run": {"address": f"{ADDRESS}?dryRun=true"},
    "another method": {"method": "put"},
}


@pytest.mark.parametrize("asked", CALLS)
def test_whatever_a_revoked_client_asks_is_401_and_leaves_no_attempt(asked: str) -> None:
    world = make_world()
    options = {"body": request_for(known(world), 2)} | CALLS[asked]
    ApiSecret.objects.filter(org=world.org).delete()
    before = len(world.attempts())
    if options.pop("method", None):
        assert world.till().put(ADDRESS).status_code == 401
    else:
        assert world.ask(**options).status_code == 401
    assert len(world.attempts()) == before


def test_a_repeated_key_tells_a_revoked_client_nothing() -> None:
    world = make_world()
    redemption = known(world)
    assert world.reverse(redemption, 2, key="key-1").status_code == 200
    ApiSecret.objects.filter(org=world.org).delete()
    response = world.reverse(redemption, 2, key="key-1")
    assert response.status_code == 401
    assert "Idempotent-Replayed" not in response.headers


REDEMPTIONS = {
    "points to redeem": {},
    "a dry run": {"commit": False},
    "no points": {"points": "none"},
    "more points than there are": {"points": 1_000},
    "a reference number that is known": {"externalReferenceNumber": "bill-1"},
    "a reference number that is known, for other points": {"externalReferenceNumber": "bill-1", "points": 3},
}


@pytest.mark.parametrize("asked", REDEMPTIONS)
def test_whatever_a_revoked_client_redeems_is_401_and_writes_nothing(asked: str) -> None:
    world = make_world()
    lot = make_lot(world.asha, 100, program=world.program)
    assert world.redeem(world.asha, 2, externalReferenceNumber="bill-1").status_code == 200
    ApiSecret.objects.filter(org=world.org).delete()
    response = world.redeem(world.asha, 2, **REDEMPTIONS[asked])
    assert response.status_code == 401
    assert len(world.attempts()) == 1
    assert Lot.objects.get(id=lot.id).points_remaining == 98


def test_two_orgs_are_not_taken_for_each_other() -> None:
    here, there = make_world(), make_world()
    known(here)
    theirs = known(there)
    assert outcome(here.reverse(theirs, 2)) == (400, 804)
    assert there.reverse(theirs, 2).status_code == 200
