"""Changes of a client, its org and its settings apply from the next call on."""

from typing import Any

import pytest
from django.http import HttpResponse

from loyalty.ledger.groups import set_group
from loyalty.models import ApiClient, ApiSecret, EmfSetting, Lot, Org, Program
from tests.builders import ADDRESS, ON, World, make_customer, make_lot, make_world, redeemed, request_for

pytestmark = pytest.mark.usefixtures("committed")


def outcome(response: HttpResponse) -> tuple[int, int | None]:
    """Returns the HTTP status and the code of the refusal, if any."""
    errors = response.json()["errors"]
    return response.status_code, errors[0]["code"] if errors else None


def partly_reversed(world: World) -> Any:
    """Returns a redemption with one reversal, so that the client has called before."""
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
    "the limit is reached": (lambda world: set_emf(world, "Reversal_limit_count", "1"), (400, 903)),
    "the dialect changes": (
        lambda world: (set_emf(world, "Reversal_error_dialect", "engine"), set_emf(world, ON, "no")),
        (200, 4101),
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_applies_to_the_next_reversal(change: str) -> None:
    world = make_world()
    redemption = partly_reversed(world)
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
def test_change_applies_to_the_next_redemption(change: str) -> None:
    world = make_world()
    assert world.redeem(world.asha, 1).status_code == 400  # the customer has no points
    make, expected = REDEMPTION_CHANGES[change]
    make(world)
    assert outcome(world.redeem(world.asha, 2)) == expected


def test_cross_member_setting_applies_to_the_next_redemption() -> None:
    world = make_world()
    ravi = make_customer(world.org)
    set_group(org=world.org, public_id=1, add=[world.asha.public_id, ravi.public_id])
    make_lot(ravi, 10, program=world.program)
    assert outcome(world.redeem(world.asha, 2)) == (400, 818)
    set_emf(world, "Enable_cross_member_redemption", "yes")
    assert outcome(world.redeem(world.asha, 2)) == (200, None)
    set_emf(world, "Enable_cross_member_redemption", "no")
    assert outcome(world.redeem(world.asha, 3)) == (400, 818)


def test_switching_reversals_on_applies_to_the_next_reversal() -> None:
    world = make_world()
    redemption = partly_reversed(world)
    set_emf(world, ON, "no")
    assert outcome(world.reverse(redemption, 2)) == (400, 818)
    set_emf(world, ON, "yes")
    assert outcome(world.reverse(redemption, 2)) == (200, None)


CALLS = {
    "a malformed body": {"body": b"{"},
    "an empty body": {"body": {}},
    "not JSON": {"body": b"x", "content_type": "text/plain"},
    "an unknown redemption": {"body": {"redemptionId": "none", "identifier": {"type": "ID", "value": "1"}}},
    "a dry run": {"address": f"{ADDRESS}?dryRun=true"},
    "another method": {"method": "put"},
}


@pytest.mark.parametrize("request_kind", CALLS)
def test_every_call_of_a_revoked_client_is_401_without_an_attempt(request_kind: str) -> None:
    world = make_world()
    options = {"body": request_for(partly_reversed(world), 2)} | CALLS[request_kind]
    ApiSecret.objects.filter(org=world.org).delete()
    before = len(world.attempts())
    if options.pop("method", None):
        assert world.till().put(ADDRESS).status_code == 401
    else:
        assert world.ask(**options).status_code == 401
    assert len(world.attempts()) == before


def test_revoked_client_gets_no_replay_of_a_used_key() -> None:
    world = make_world()
    redemption = partly_reversed(world)
    assert world.reverse(redemption, 2, key="key-1").status_code == 200
    ApiSecret.objects.filter(org=world.org).delete()
    response = world.reverse(redemption, 2, key="key-1")
    assert response.status_code == 401
    assert "Idempotent-Replayed" not in response.headers


REDEMPTIONS = {
    "points to redeem": {},
    "a dry run": {"commit": False},
    "no points": {"points": "none"},
    "more points than available": {"points": 1_000},
    "a repeated reference number": {"externalReferenceNumber": "bill-1"},
    "a repeated reference number with other points": {"externalReferenceNumber": "bill-1", "points": 3},
}


@pytest.mark.parametrize("request_kind", REDEMPTIONS)
def test_every_redemption_of_a_revoked_client_is_401_and_writes_nothing(request_kind: str) -> None:
    world = make_world()
    lot = make_lot(world.asha, 100, program=world.program)
    assert world.redeem(world.asha, 2, externalReferenceNumber="bill-1").status_code == 200
    ApiSecret.objects.filter(org=world.org).delete()
    response = world.redeem(world.asha, 2, **REDEMPTIONS[request_kind])
    assert response.status_code == 401
    assert len(world.attempts()) == 1
    assert Lot.objects.get(id=lot.id).points_remaining == 98


def test_redemption_of_another_org_is_not_found() -> None:
    here, there = make_world(), make_world()
    partly_reversed(here)
    theirs = partly_reversed(there)
    assert outcome(here.reverse(theirs, 2)) == (400, 804)
    assert there.reverse(theirs, 2).status_code == 200
