"""What a worker remembers of who called lately, and that it never counts for more than the database says now."""

import threading
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection, connections, transaction
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty import callers
from loyalty.groups import set_group
from loyalty.models import ApiClient, ApiSecret, Customer, EmfSetting, Lot, Org, Program
from loyalty.selectors import find_caller
from loyalty.service import add_secret
from tests.builders import ADDRESS, ON, World, make_customer, make_lot, make_world, redeemed, request_for
from tests.test_hot_path import statements

pytestmark = pytest.mark.usefixtures("committed")


def outcome(response: HttpResponse) -> tuple[int, int | None]:
    """The HTTP status, and the code of the refusal."""
    errors = response.json()["errors"]
    return response.status_code, errors[0]["code"] if errors else None


def known(world: World) -> Any:
    """A redemption of a world whose till this worker remembers."""
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
    assert world.redeem(world.asha, 1).status_code == 400  # it has no points, and is remembered all the same
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


def test_the_call_after_a_change_is_remembered_again(on_postgresql: None) -> None:
    world = make_world()
    redemption = known(world)
    set_emf(world, "Reversal_window_days", "90")
    for amount, sent in ((2, ["BEGIN", "SELECT", "ROLLBACK", "SELECT"]), (3, [])):
        with CaptureQueriesContext(connection) as captured:
            assert world.reverse(redemption, amount).status_code == 200
        assert statements(captured) == [*sent, "BEGIN", "SELECT", "SELECT", "WITH", "COMMIT"]


def test_a_redemption_after_a_change_begins_anew(on_postgresql: None) -> None:
    world = make_world()
    make_lot(world.asha, 100, program=world.program)
    assert world.redeem(world.asha, 1).status_code == 200
    set_emf(world, "Reversal_window_days", "90")
    for sent in (["BEGIN", "SELECT", "WITH", "ROLLBACK", "SELECT"], []):
        with CaptureQueriesContext(connection) as captured:
            assert world.redeem(world.asha, 2).status_code == 200
        assert statements(captured) == [*sent, "BEGIN", "SELECT", "WITH", "WITH", "COMMIT"]


UNPROVEN = {
    "a malformed body": {"body": b"{"},
    "a body that lacks something": {"body": {}},
    "no JSON": {"body": b"x", "content_type": "text/plain"},
    "a redemption that is none": {"body": {"redemptionId": "none", "identifier": {"type": "ID", "value": "1"}}},
    "a dry run": {"address": f"{ADDRESS}?dryRun=true"},
    "another method": {"method": "put"},
}


@pytest.mark.parametrize("asked", UNPROVEN)
def test_whatever_a_revoked_client_asks_is_401_and_leaves_no_attempt(asked: str) -> None:
    world = make_world()
    options = {"body": request_for(known(world), 2)} | UNPROVEN[asked]
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


def test_a_refusal_is_proven_before_it_is_recorded(on_postgresql: None) -> None:
    world = make_world()
    known(world)
    with CaptureQueriesContext(connection) as captured:
        assert outcome(world.ask({})) == (400, 887)
    assert statements(captured) == ["SELECT", "INSERT"]


def test_a_secret_is_remembered_by_itself() -> None:
    world = make_world()
    redemption = known(world)
    second = add_secret(ApiClient.objects.get(org=world.org))
    assert world.reverse(redemption, 2, password=second).status_code == 200
    ApiSecret.objects.filter(org=world.org).order_by("id").first().delete()
    assert world.reverse(redemption, 3).status_code == 401
    assert world.reverse(redemption, 3, password=second).status_code == 200


def test_two_orgs_are_not_taken_for_each_other() -> None:
    here, there = make_world(), make_world()
    known(here)
    theirs = known(there)
    assert outcome(here.reverse(theirs, 2)) == (400, 804)
    assert there.reverse(theirs, 2).status_code == 200


@pytest.fixture
def looked_up(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The username of each look-up of a caller."""
    names: list[str] = []

    def find(*, username: str, digest: str) -> Any:
        names.append(username)
        return find_caller(username=username, digest=digest)

    for room in ("loyalty.callers", "reversals.authentication"):
        monkeypatch.setattr(f"{room}.find_caller", find)
    return names


def test_who_is_remembered_is_not_looked_up(looked_up: list[str]) -> None:
    world = make_world()
    redemption = known(world)
    assert looked_up == ["till.1"]
    assert world.reverse(redemption, 2).status_code == 200
    assert world.reverse(redemption, 3, key="key-1").status_code == 200
    assert looked_up == ["till.1"]


def test_a_refusal_and_a_repeat_look_once_who_asks(looked_up: list[str]) -> None:
    world = make_world()
    redemption = known(world)
    assert world.reverse(redemption, 2, key="key-1").status_code == 200
    looked_up.clear()
    assert outcome(world.ask({})) == (400, 887)
    assert world.reverse(redemption, 2, key="key-1")["Idempotent-Replayed"] == "true"
    assert looked_up == ["till.1", "till.1"]
    assert world.reverse(redemption, 3).status_code == 200
    assert looked_up == ["till.1", "till.1"]


def test_a_change_costs_one_look_up(looked_up: list[str]) -> None:
    world = make_world()
    redemption = known(world)
    set_emf(world, "Reversal_window_days", "90")
    looked_up.clear()
    for amount in (2, 3):
        assert world.reverse(redemption, amount).status_code == 200
    assert looked_up == ["till.1"]


def test_who_comes_from_elsewhere_is_looked_up(looked_up: list[str]) -> None:
    world = make_world()
    redemption = known(world)
    assert world.reverse(redemption, 2, REMOTE_ADDR="192.0.2.7").status_code == 200
    assert looked_up == ["till.1", "till.1"]


@pytest.mark.parametrize("call", ["PUT", "POST without a length"])
def test_a_call_that_cannot_begin_anew_is_looked_up(looked_up: list[str], call: str) -> None:
    world = make_world()
    known(world)
    looked_up.clear()
    if call == "PUT":
        assert world.till().put(ADDRESS, "{}", content_type="application/json").status_code == 405
    else:
        assert world.ask(request_for(redeemed(world), 2), CONTENT_LENGTH="").status_code == 400
    assert looked_up[0] == "till.1"


@pytest.mark.parametrize(("seconds", "look_ups"), [(59, 1), (60, 1), (61, 2)])
def test_it_is_remembered_for_a_minute(looked_up: list[str], seconds: int, look_ups: int) -> None:
    world = make_world()
    redemption = redeemed(world, 100)
    start = timezone.now()
    for after, amount in ((0, 1), (seconds, 2)):
        with time_machine.travel(start + timedelta(seconds=after), tick=False):
            assert world.reverse(redemption, amount).status_code == 200
    assert len(looked_up) == look_ups


def test_who_is_remembered_gets_its_limit_and_not_one_call_more(looked_up: list[str]) -> None:
    world = make_world()
    ApiClient.objects.filter(org=world.org).update(calls_per_minute=2)
    redemption = redeemed(world, 100)
    with time_machine.travel(timezone.now().replace(second=10), tick=False):
        assert [world.reverse(redemption, amount).status_code for amount in (1, 2, 3, 4)] == [200, 200, 429, 429]
        callers._remembered.clear()
        assert world.reverse(redemption, 5).status_code == 429
    assert looked_up == ["till.1"]  # once the limit is spent, the credentials are refused unseen


def test_two_who_learn_of_one_change_are_both_told() -> None:
    world = make_world()
    known(world)
    [(name, memory)] = callers._remembered.items()
    for _ in range(2):
        with pytest.raises(callers.Unproven):
            callers.Belief(memory.login, memory.caller, name, proven=False).compare("another state")
    assert callers._remembered == {}


def test_as_many_are_remembered_as_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callers, "MOST_REMEMBERED", 2)
    counts = []
    for world in (make_world(), make_world(), make_world()):
        known(world)
        counts.append(len(callers._remembered))
    assert counts == [1, 2, 1]


def test_what_is_remembered_holds_no_secret() -> None:
    world = make_world()
    known(world)
    held = repr(callers._remembered)
    assert world.username in held
    assert world.secret not in held
    assert world.till().defaults["HTTP_AUTHORIZATION"].partition(" ")[2] not in held


def test_who_waits_in_vain_for_a_lock_waits_once(on_postgresql: None) -> None:
    world = make_world()
    redemption = known(world)
    captured = []

    def ask() -> None:
        with CaptureQueriesContext(connection) as queries:
            assert outcome(world.reverse(redemption, 2)) == (503, 896)
        captured.append(statements(queries))
        connections.close_all()

    with transaction.atomic():
        Customer.objects.select_for_update().get(id=world.asha.id)
        asking = threading.Thread(target=ask)
        asking.start()
        asking.join(timeout=60)
    assert captured[0] == ["BEGIN", "SELECT", "ROLLBACK", "SELECT", "INSERT"]
