"""API clients in the back office: secrets (shown once, at most two live), revocation, and times of last use."""

import json
import re
import threading
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.sessions.models import Session
from django.db import OperationalError, connection, connections, transaction
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from loyalty.clients import last_used
from loyalty.clients.api_clients import add_secret
from loyalty.errors import InvalidOperation
from loyalty.models import ApiClient, ApiSecret, StaffChange
from reversals.movements.attempts import forget_addresses
from reversals.roles import ROLES
from tests.builders import World, make_world, redeemed, staff_of

CLIENTS = "/admin/loyalty/apiclient/"
REASON = {"reason": "A new till."}
DONE, SHOWN, REFUSED = 302, 200, 403


@pytest.fixture
def team(world: World) -> Client:
    return staff_of(world, "Back-end team")


def client_of(world: World) -> ApiClient:
    return ApiClient.objects.get(org=world.org, username=world.username)


def page_of(client: ApiClient, action: str = "change") -> str:
    return f"{CLIENTS}{client.pk}/{action}/"


def text_of(page: HttpResponse) -> str:
    return page.content.decode()


def shown_secret(page: HttpResponse) -> str:
    return re.search(r'id="secret">([\w-]{43})<', text_of(page)).group(1)


def shown_fingerprint(page: HttpResponse) -> str:
    return re.search(r'id="fingerprint">(\w+)<', text_of(page)).group(1)


def secrets_of(world: World) -> list[ApiSecret]:
    return list(ApiSecret.objects.filter(org=world.org).order_by("id"))


def revoke_page(secret: ApiSecret) -> str:
    return f"{CLIENTS}{secret.client_id}/secrets/{secret.pk}/revoke/"


def status(world: World, secret: str, username: str = World.username) -> int:
    return world.ask({}, user=username, password=secret).status_code


def changes(world: World) -> list[tuple[Any, ...]]:
    rows = StaffChange.objects.filter(org=world.org).order_by("id")
    return list(rows.values_list("subject", "subject_name", "action", "made_by", "reason", "before", "after"))


def everything_stored() -> str:
    """Returns all recorded changes and all sessions as one text."""
    sessions = [session.get_decoded() for session in Session.objects.all()]
    return json.dumps([*StaffChange.objects.values(), *sessions], default=str)


@pytest.mark.django_db
def test_new_client_gets_a_secret_that_is_shown_once(world: World, team: Client, caplog: Any) -> None:
    asked = {"org": world.org.id, "username": "till.2", "label": "Till 2, first floor"} | REASON
    page = team.post(f"{CLIENTS}add/", asked)
    secret, fingerprint = shown_secret(page), shown_fingerprint(page)
    assert f'data-copy="{secret}"' in text_of(page)
    assert page.status_code == 200
    assert "no-store" in page["Cache-Control"]
    assert status(world, secret, "till.2") == 400
    assert changes(world) == [
        (
            "loyalty.apiclient",
            "till.2",
            "added",
            "meera",
            "A new till.",
            {},
            {
                "username": "till.2",
                "active": True,
                "live secrets": 1,
                "fingerprint": fingerprint,
                "label": "Till 2, first floor",
            },
        )
    ]
    client = ApiClient.objects.get(username="till.2")
    pages = text_of(team.get(page_of(client))) + text_of(team.get(CLIENTS)) + str(page.headers)
    assert fingerprint in pages
    assert "Till 2, first floor" in pages
    assert re.fullmatch("[0-9a-f]{8}", fingerprint)
    digests = [digest for each in client.secrets.all() for digest in (each.digest, each.md5_digest)]
    for hidden in (secret, *digests):
        assert hidden not in pages + everything_stored() + caplog.text


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"username": World.username}, "already has an API client till.1."),
        ({"username": "a:b"}, "An API username must be printable and contain no colon"),
        ({"username": "x" * 151}, "at most 150 characters"),
        ({"username": "a\0b"}, "Null characters are not allowed."),
        ({"username": ""}, "This field is required."),
        ({"reason": " "}, "This field is required."),
        ({"org": "foreign"}, "Select a valid choice."),
        ({"org": "99999999999999999999"}, "Select a valid choice."),
    ],
)
def test_invalid_new_client_is_refused_with_the_reason(
    world: World, team: Client, values: dict[str, str], problem: str
) -> None:
    foreign = make_world().org.id
    asked = {"org": world.org.id, "username": "till.2"} | REASON | values
    asked["org"] = foreign if asked["org"] == "foreign" else asked["org"]
    page = team.post(f"{CLIENTS}add/", asked)
    assert page.status_code == SHOWN
    assert problem in text_of(page)
    assert not ApiClient.objects.filter(org=world.org).exclude(username=World.username).exists()
    assert changes(world) == []


@pytest.mark.django_db
def test_client_can_have_two_live_secrets_and_a_third_is_refused(world: World, team: Client) -> None:
    client = client_of(world)
    issued = team.post(page_of(client, "issue"), REASON)
    second, fingerprint = shown_secret(issued), shown_fingerprint(issued)
    assert [status(world, secret) for secret in (world.secret, second)] == [400, 400]
    assert "Issue another secret" not in text_of(team.get(page_of(client)))
    page = text_of(team.post(page_of(client, "issue"), REASON))
    assert "API client till.1 has 2 live secrets; revoke the one that is no longer used." in page
    assert len(secrets_of(world)) == 2
    assert [change[2:] for change in changes(world)] == [
        (
            "secret issued",
            "meera",
            "A new till.",
            {"live secrets": 1},
            {"live secrets": 2, "fingerprint": fingerprint},
        )
    ]
    with pytest.raises(InvalidOperation):
        add_secret(client)


@pytest.mark.django_db
def test_revoked_secret_is_refused_immediately_and_the_other_still_works(world: World, team: Client) -> None:
    second = shown_secret(team.post(page_of(client_of(world), "issue"), REASON))
    first = secrets_of(world)[0]
    assert team.get(revoke_page(first)).status_code == SHOWN
    assert "This field is required." in text_of(team.post(revoke_page(first), {"reason": " "}))
    assert status(world, world.secret) == 400
    assert team.post(revoke_page(first), {"reason": "Leaked."}).status_code == DONE
    assert [status(world, secret) for secret in (world.secret, second)] == [401, 400]
    kept = changes(world)[-1]
    assert (kept[2], kept[4], sorted(kept[5]), kept[6]) == (
        "secret revoked",
        "Leaked.",
        ["fingerprint", "issued", "label", "last used"],
        {},
    )
    assert "API client till.1 no longer has this secret." in text_of(
        team.post(revoke_page(first), {"reason": "Again."})
    )


@pytest.mark.django_db
def test_revoked_client_is_refused_until_it_is_reinstated(world: World, team: Client) -> None:
    client = client_of(world)
    assert team.post(page_of(client, "revoke"), {"reason": "Stolen till."}).status_code == DONE
    assert status(world, world.secret) == 401
    assert "API client till.1 is already revoked." in text_of(
        team.post(page_of(client, "revoke"), {"reason": "Again."})
    )
    assert team.post(page_of(client, "reinstate"), {"reason": "Found it."}).status_code == DONE
    assert status(world, world.secret) == 400
    assert [change[2:] for change in changes(world)] == [
        ("revoked", "meera", "Stolen till.", {"active": True}, {"active": False}),
        ("reinstated", "meera", "Found it.", {"active": False}, {"active": True}),
    ]


@pytest.mark.django_db
def test_opening_confirmation_pages_changes_nothing(world: World, team: Client) -> None:
    client, [secret] = client_of(world), secrets_of(world)
    for address in (*(page_of(client, each) for each in ("issue", "revoke", "reinstate")), revoke_page(secret)):
        assert team.get(address).status_code == SHOWN
    assert team.get(f"{CLIENTS}add/").status_code == SHOWN
    assert (len(secrets_of(world)), client_of(world).is_active, changes(world)) == (1, True, [])


@pytest.mark.django_db
@pytest.mark.parametrize("role", [*(name for name in ROLES if name != "Back-end team"), None])
def test_only_the_back_end_team_can_change_clients(world: World, role: str | None) -> None:
    staff = staff_of(world, *([role] if role else []))
    client, [secret] = client_of(world), secrets_of(world)
    may_look = role == "Auditor"
    for address in (CLIENTS, page_of(client)):
        assert staff.get(address).status_code == (SHOWN if may_look else REFUSED)
    new = {"org": world.org.id, "username": "till.2"} | REASON
    assert staff.post(f"{CLIENTS}add/", new).status_code == REFUSED
    for address in (*(page_of(client, each) for each in ("issue", "revoke", "reinstate")), revoke_page(secret)):
        assert staff.get(address).status_code == REFUSED
        assert staff.post(address, REASON).status_code == REFUSED
    assert status(world, world.secret) == 400
    assert (len(secrets_of(world)), ApiClient.objects.filter(org=world.org).count(), changes(world)) == (1, 1, [])


@pytest.mark.django_db
def test_clients_of_other_orgs_are_not_found(world: World, team: Client) -> None:
    foreign = make_world()
    client, [secret] = client_of(foreign), secrets_of(foreign)
    mixed = f"{CLIENTS}{client_of(world).pk}/secrets/{secret.pk}/revoke/"
    for address in (*(page_of(client, each) for each in ("issue", "revoke", "reinstate")), revoke_page(secret)):
        assert team.get(address).status_code == 404
        assert team.post(address, REASON).status_code == 404
    assert team.get(page_of(client)).status_code == DONE
    assert "no longer has this secret" in text_of(team.post(mixed, REASON))
    assert team.post(f"{CLIENTS}{client_of(world).pk}/secrets/{'9' * 30}/revoke/", REASON).status_code == SHOWN
    assert team.post(f"{CLIENTS}nonsense/issue/", REASON).status_code == 404
    assert str(foreign.org) not in text_of(team.get(CLIENTS, {"org": foreign.org.id}))
    assert (len(secrets_of(foreign)), client_of(foreign).is_active, changes(foreign)) == (1, True, [])


@pytest.mark.django_db
def test_list_of_clients_takes_a_constant_number_of_queries(world: World, team: Client) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert team.get(CLIENTS).status_code == SHOWN
        return len(captured)

    few = queries()
    for number in range(20):
        add_secret(ApiClient.objects.create(org=world.org, username=f"till.x{number}"))
    assert queries() == few


# Last use of a secret


@pytest.mark.django_db
def test_last_use_of_a_secret_is_stored_to_the_hour(world: World) -> None:
    [secret] = secrets_of(world)
    assert secret.last_used_at is None
    start = timezone.now()
    used = []
    for minutes in (0, 59, 61, 119):
        with time_machine.travel(start + timedelta(minutes=minutes), tick=False):
            status(world, world.secret)
        used.append(secrets_of(world)[0].last_used_at - start)
    assert used == [timedelta(0), timedelta(0), timedelta(minutes=61), timedelta(minutes=61)]


@pytest.mark.django_db
def test_wrong_secret_does_not_update_last_use(world: World) -> None:
    assert status(world, "wrong") == 401
    assert secrets_of(world)[0].last_used_at is None


@pytest.mark.django_db
def test_staff_see_when_a_secret_was_last_used(world: World, team: Client) -> None:
    assert "never" in text_of(team.get(page_of(client_of(world))))
    status(world, world.secret)
    used = f"{secrets_of(world)[0].last_used_at:%Y-%m-%d %H:%M} UTC"
    page = text_of(team.get(page_of(client_of(world))))
    assert used in page
    assert "127.0.0.1" in page
    forget_addresses(before=timezone.now() + timedelta(hours=1))
    assert "127.0.0.1" not in text_of(team.get(page_of(client_of(world))))
    assert used in text_of(team.get(CLIENTS))


@pytest.mark.usefixtures("committed")
def test_call_succeeds_if_the_last_use_of_its_secret_cannot_be_stored(monkeypatch: Any) -> None:
    world = make_world()
    redemption = redeemed(world, 10)

    def fail(*args: Any) -> None:
        raise OperationalError("attempt to write a readonly database")

    monkeypatch.setattr(last_used, "_store", fail)
    assert world.reverse(redemption, 2).status_code == 200
    assert secrets_of(world)[0].last_used_at is None


@pytest.mark.usefixtures("committed", "on_sqlite")
def test_on_sqlite_storing_last_use_does_not_wait_for_another_writer() -> None:
    world = make_world()
    redeemed(world, 10)
    with transaction.atomic():  # holds SQLite's only write lock
        code, seconds = _in_a_thread(world)
    assert code == 200
    assert seconds < 2
    assert secrets_of(world)[0].last_used_at is None
    assert _timed_read(world)[0] == 200
    assert secrets_of(world)[0].last_used_at is not None
    with connection.cursor() as cursor:
        assert cursor.execute("PRAGMA busy_timeout").fetchone() == (5000,)


@pytest.mark.usefixtures("committed", "on_postgresql")
def test_on_postgresql_storing_last_use_does_not_wait_for_a_locked_secret() -> None:
    world = make_world()
    with transaction.atomic():
        ApiSecret.objects.select_for_update().get(org=world.org)
        code, seconds = _in_a_thread(world)
    assert code == 200
    assert seconds < 1
    assert secrets_of(world)[0].last_used_at is None


def _timed_read(world: World) -> tuple[int, float]:
    started = timezone.now()
    code = world.read("/v2/points/reversals", limit="1").status_code
    return code, (timezone.now() - started).total_seconds()


def _in_a_thread(world: World) -> tuple[int, float]:
    """Calls `_timed_read` in a thread, on another connection."""
    answers = []

    def read() -> None:
        answers.append(_timed_read(world))
        connections.close_all()

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    return answers[0]


# The API and the tables of staff


@pytest.mark.django_db
def test_api_calls_query_no_table_of_staff_sign_in(world: World, team: Client) -> None:
    redemption = redeemed(world, 10)
    with CaptureQueriesContext(connection) as captured:
        assert world.reverse(redemption, 2, key="k").status_code == 200
        assert world.reverse(redemption, 99).status_code == 400
        assert status(world, "wrong") == 401
        assert world.redeem(world.asha, 1).status_code == 200
        assert world.read("/v2/points/reversals").status_code == 200
        # The same session cookie is sent by the API's documentation page in a signed-in browser.
        team.post("/v2/points/reverse", "{}", content_type="application/json")
    asked = " ".join(query["sql"] for query in captured)
    assert captured.captured_queries
    assert not re.findall(r"django_session|axes_\w+|otp_\w+|auth_\w+", asked)
