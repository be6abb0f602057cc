"""The limits of failed logins by client and address, and of calls by client."""

import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, connections
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from loyalty.clients import counters
from loyalty.clients.api_clients import add_secret
from loyalty.models import ApiClient, StaffChange, Tally
from reversals.models import Attempt
from tests.builders import World, basic, make_world, redeemed, staff_of

pytestmark = pytest.mark.django_db

START = datetime(2026, 3, 1, 12, 0, 10, tzinfo=UTC)
SECONDS_LEFT = 50
POINTS = "/v2/customers/1/points"
TOO_MANY = (
    b'{"errors":[{"status":false,"code":429,"message":"Too Many Requests",'
    b'"reason":"Too many calls, or too many with wrong credentials. Wait the seconds that Retry-After says."}],'
    b'"warnings":[]}'
)


@pytest.fixture(autouse=True)
def clock() -> Iterator[Any]:
    """Stops the clock within one minute."""
    with time_machine.travel(START, tick=False) as traveller:
        yield traveller


@pytest.fixture(autouse=True)
def _nothing_counted(db: None) -> None:
    """Deletes the counters that another test has committed. That test cannot: its own deletion is rolled back."""
    Tally.objects.all().delete()


@pytest.fixture
def three_failures(settings: Any) -> None:
    """Limits failed logins to 3 for a client and address, and to 30 for an address."""
    settings.API_FAILED_LOGINS_PER_MINUTE = 3


def call(username: str, password: str, *, address: str = "192.0.2.1") -> HttpResponse:
    return Client(headers={"Authorization": basic(username, password)}).get(POINTS, REMOTE_ADDR=address)


def statuses(username: str, password: str, *, times: int, **options: str) -> list[int]:
    return [call(username, password, **options).status_code for _ in range(times)]


def in_a_new_worker() -> None:
    cache.clear()


# Wrong credentials


def test_the_fourth_wrong_secret_in_a_minute_is_429(world: World, three_failures: None) -> None:
    assert statuses("till.1", "wrong", times=5) == [401, 401, 401, 429, 429]
    response = call("till.1", "wrong")
    assert (response.content, response["Retry-After"], response["Cache-Control"]) == (
        TOO_MANY,
        str(SECONDS_LEFT),
        "no-store",
    )
    assert "WWW-Authenticate" not in response


def test_failed_logins_are_counted_over_all_workers(world: World, three_failures: None) -> None:
    for expected in (401, 401, 401, 429):
        in_a_new_worker()
        assert call("till.1", "wrong").status_code == expected


def test_login_over_the_limit_does_not_query_the_database(world: World, three_failures: None) -> None:
    statuses("till.1", "wrong", times=4)
    with CaptureQueriesContext(connection) as captured:
        assert call("till.1", world.secret).status_code == 429
    assert len(captured) == 0


def test_failed_logins_are_allowed_again_in_the_next_minute(world: World, three_failures: None, clock: Any) -> None:
    statuses("till.1", "wrong", times=4)
    clock.shift(timedelta(seconds=SECONDS_LEFT))
    assert call("till.1", world.secret).status_code == 404
    assert call("till.1", "wrong").status_code == 401


def test_client_at_another_address_is_not_locked_out(world: World, three_failures: None) -> None:
    statuses("till.1", "wrong", times=4)
    assert call("till.1", world.secret, address="192.0.2.2").status_code == 404


def test_client_with_right_secret_at_the_guessers_address_is_not_locked_out(world: World, three_failures: None) -> None:
    assert call("till.1", world.secret).status_code == 404
    statuses("till.1", "wrong", times=4)
    assert call("till.1", "wrong").status_code == 429
    assert call("till.1", world.secret).status_code == 404


def test_revoked_client_counts_as_wrong_credentials(world: World, three_failures: None) -> None:
    call("till.1", world.secret)
    ApiClient.objects.filter(org=world.org).update(is_active=False)
    assert statuses("till.1", world.secret, times=4) == [401, 401, 401, 429]


def test_address_that_tries_many_usernames_is_429_for_every_username(world: World, three_failures: None) -> None:
    assert {call(f"name.{number}", "wrong").status_code for number in range(30)} == {401}
    assert call("another", "wrong").status_code == 429
    assert call("another", "wrong", address="192.0.2.2").status_code == 401


def test_ipv6_network_counts_as_one_address(three_failures: None) -> None:
    guesses = [call("till.1", "wrong", address=f"2001:db8::{number:x}").status_code for number in range(4)]
    assert guesses == [401, 401, 401, 429]
    assert call("till.1", "wrong", address="2001:db8:0:1::1").status_code == 401


def test_limit_of_failed_logins_adds_no_query_to_a_successful_login(world: World, settings: Any) -> None:
    call("till.1", world.secret)
    counts = []
    for limit in (0, 3):
        settings.API_FAILED_LOGINS_PER_MINUTE = limit
        with CaptureQueriesContext(connection) as captured:
            call("till.1", world.secret)
        counts.append(len(captured))
    assert counts == [2, 2]
    assert not Tally.objects.exists()


def test_zero_means_no_limit_of_failed_logins(settings: Any) -> None:
    settings.API_FAILED_LOGINS_PER_MINUTE = 0
    assert set(statuses("till.1", "wrong", times=30)) == {401}
    assert not Tally.objects.exists()


def test_stored_counters_contain_neither_client_nor_address(three_failures: None) -> None:
    call("till.1", "wrong")
    kept = list(Tally.objects.values_list("key", "count"))
    assert [count for _, count in kept] == [1, 1]
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key, _ in kept)


def test_failed_login_is_401_if_it_cannot_be_counted(
    world: World, three_failures: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(amounts: dict[str, int]) -> dict[str, int]:
        raise DatabaseError("read only")

    monkeypatch.setattr(counters, "_add", fail)
    assert set(statuses("till.1", "wrong", times=5)) == {401}
    assert "a rate limit could not be updated: read only" in caplog.text


def test_counters_older_than_a_day_are_deleted(three_failures: None, clock: Any) -> None:
    call("till.1", "wrong")
    clock.shift(timedelta(days=1))
    call("till.1", "wrong")
    assert Tally.objects.count() == 4
    clock.shift(timedelta(minutes=1))
    call("till.1", "wrong")
    assert set(Tally.objects.values_list("minute", flat=True)) == {
        counters.current_minute() - 1,
        counters.current_minute(),
    }


@pytest.mark.usefixtures("committed", "on_postgresql")
def test_concurrent_counts_are_exact() -> None:
    keys = [counters.key_of("concurrent", number, START) for number in range(4)]

    def count(number: int) -> None:
        counters.add(dict.fromkeys(keys if number % 2 else reversed(keys), 1))
        connections.close_all()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(count, range(80)))
    assert counters.add(dict.fromkeys(keys, 0)) == dict.fromkeys(keys, 80)


# Calls


def allow(world: World, calls: int | None) -> None:
    ApiClient.objects.filter(org=world.org).update(calls_per_minute=calls)


def test_call_over_the_limit_is_429(world: World) -> None:
    allow(world, 5)
    assert statuses("till.1", world.secret, times=7) == [404, 404, 404, 404, 404, 429, 429]
    response = call("till.1", world.secret)
    assert (response.content, response["Retry-After"]) == (TOO_MANY, str(SECONDS_LEFT))


def test_calls_are_counted_over_all_workers(world: World) -> None:
    allow(world, 3)
    for expected in (404, 404, 404, 429):
        in_a_new_worker()
        assert call("till.1", world.secret).status_code == expected


def test_call_over_the_limit_does_not_query_the_database(world: World) -> None:
    allow(world, 1)
    statuses("till.1", world.secret, times=2)
    with CaptureQueriesContext(connection) as captured:
        assert call("till.1", world.secret).status_code == 429
    assert len(captured) == 0


def test_shared_counter_is_updated_once_per_block_of_calls(world: World) -> None:
    allow(world, 100)
    call("till.1", world.secret)  # records the last use of the secret
    with CaptureQueriesContext(connection) as captured:
        assert set(statuses("till.1", world.secret, times=100)) == {404}
    assert (
        sum("loyalty_tally" in query["sql"] and "INSERT" in query["sql"] for query in captured.captured_queries) == 20
    )


def test_workers_together_exceed_the_limit_by_less_than_a_block_each(world: World, monkeypatch: Any) -> None:
    allow(world, 100)
    answered = 0
    for _worker in range(4):
        in_a_new_worker()
        answered += statuses("till.1", world.secret, times=104).count(404)
    assert 100 <= answered <= 100 + 4 * 5


def test_each_secret_of_the_client_is_refused(world: World) -> None:
    allow(world, 40)  # counted in blocks of two
    second = add_secret(ApiClient.objects.get(org=world.org))
    assert statuses("till.1", world.secret, times=43) == [*[404] * 41, 429, 429]
    assert statuses("till.1", second, times=3) == [429, 429, 429]


def test_another_client_is_not_limited(world: World) -> None:
    allow(world, 1)
    stranger = make_world()
    statuses("till.1", world.secret, times=2)
    assert statuses("till.1", stranger.secret, times=3) == [404, 404, 404]


def test_default_limit_applies_to_clients_without_their_own(world: World, settings: Any) -> None:
    settings.API_CALLS_PER_MINUTE = 2
    assert statuses("till.1", world.secret, times=3) == [404, 404, 429]
    in_a_new_worker()
    allow(world, 0)
    assert set(statuses("till.1", world.secret, times=5)) == {404}


def test_calls_are_allowed_again_in_the_next_minute(world: World, clock: Any) -> None:
    allow(world, 1)
    assert statuses("till.1", world.secret, times=2) == [404, 429]
    clock.shift(timedelta(seconds=SECONDS_LEFT))
    assert statuses("till.1", world.secret, times=2) == [404, 429]


def test_429_records_no_attempt_and_leaves_the_key_unused(world: World, clock: Any) -> None:
    allow(world, 1)
    redemption = redeemed(world, 10)
    call("till.1", world.secret)
    assert world.reverse(redemption, 2, key="key-1").status_code == 429
    assert not Attempt.objects.filter(org=world.org).exists()
    clock.shift(timedelta(seconds=SECONDS_LEFT))
    accepted = world.reverse(redemption, 2, key="key-1")
    assert (accepted.status_code, "Idempotent-Replayed" in accepted) == (200, False)


def test_call_proceeds_if_it_cannot_be_counted(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(amounts: dict[str, int]) -> dict[str, int]:
        raise DatabaseError("read only")

    allow(world, 1)
    monkeypatch.setattr(counters, "_add", fail)
    assert set(statuses("till.1", world.secret, times=3)) == {404}
    assert "a rate limit could not be updated: read only" in caplog.text


# Setting the limit of a client


def limit(world: World, *words: str) -> dict[str, Any]:
    output = io.StringIO()
    call_command("limit_api_client", str(world.org.id), *words, "--json", stdout=output)
    result: dict[str, Any] = json.loads(output.getvalue())
    return result


def test_command_limits_a_client_and_records_the_reason(world: World) -> None:
    assert limit(world, "till.1", "1", "--reason", "It looped.") == {
        "org_id": world.org.id,
        "username": "till.1",
        "calls_per_minute": 1,
    }
    assert statuses("till.1", world.secret, times=2) == [404, 429]
    in_a_new_worker()
    limit(world, "till.1", "--reason", "It is mended.")
    assert statuses("till.1", world.secret, times=2) == [404, 404]
    changes = StaffChange.objects.filter(org=world.org).order_by("id")
    assert list(changes.values_list("action", "reason", "before", "after")) == [
        ("calls limited", "It looped.", {"calls per minute": None}, {"calls per minute": 1}),
        ("calls limited", "It is mended.", {"calls per minute": 1}, {"calls per minute": None}),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("till.2", "5", "--reason", "why"), "has no API client till.2; create it with create_api_client"),
        (("till.1", "5", "--reason", " "), "a change of a limit needs a reason"),
        (("till.1", "--reason", "why"), "API client till.1 already has this limit"),
        (("till.1", "9999999999", "--reason", "why"), "calls_per_minute: Ensure this value is less than or equal to"),
    ],
)
def test_command_refuses_an_invalid_limit_with_the_reason(world: World, words: tuple[str, ...], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        limit(world, *words)
    assert ApiClient.objects.get(org=world.org).calls_per_minute is None


def test_page_of_a_client_shows_its_limit(world: World) -> None:
    staff = staff_of(world, "Back-end team")
    page = reverse("admin:loyalty_apiclient_change", args=[ApiClient.objects.get(org=world.org).pk])
    for calls, shown in ((None, "default"), (0, "no limit"), (7, "7")):
        allow(world, calls)
        text = " ".join(re.sub(r"<[^>]+>", " ", staff.get(page).content.decode()).split())
        assert f"Calls a minute {shown} Created" in text
