"""The pages for errors of the back office, the end of a session, and the answer of `/`."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import reverse
from django.utils import timezone

from reversals.admin import home
from reversals.api.index import ADDRESSES
from tests.builders import World, redeemed, staff_of

pytestmark = pytest.mark.django_db


def check_page(response: HttpResponse, status: int, title: str, link: str) -> str:
    text = response.content.decode()
    assert response.status_code == status
    assert f"<h1>{title}</h1>" in text
    assert f'href="{link}"' in text
    assert f"request {response['X-CAP-REQUEST-ID']}" in text
    return text


@pytest.mark.parametrize(
    "path", ["/admin/nothing/", "/admin/loyalty/redemption/1/reverse/", "/admin/reversals/nothing/1/change/"]
)
def test_an_unknown_page_says_how_to_find_a_row(world: World, path: str) -> None:
    text = check_page(staff_of(world, "Reversal operator").get(path), 404, "This page does not exist", "/admin/")
    assert "press / and enter its id" in text


def test_a_page_without_permission_names_the_user_and_whom_to_ask(world: World) -> None:
    address = reverse("admin:loyalty_redemption_reverse", args=[redeemed(world).pk])
    text = check_page(staff_of(world, "Support").post(address), 403, "You do not have permission", "/admin/")
    assert "You are signed in as meera" in text
    assert "ask a superuser" in text


def test_an_unexpected_error_says_that_nothing_is_reversed_twice(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise ZeroDivisionError("a secret detail")

    monkeypatch.setattr(home, "_parts", fail)
    client = staff_of(world, "Support")
    client.raise_request_exception = False
    text = check_page(client.get("/admin/"), 500, "Something went wrong", "/admin/")
    assert "reloading does not reverse the points twice" in text
    assert "secret detail" not in text


def test_an_unknown_host_gets_the_page(world: World) -> None:
    response = staff_of(world, "Support").get("/admin/", headers={"host": "elsewhere.example"})
    check_page(response, 400, "The request cannot be read", "/admin/")


@pytest.mark.parametrize(
    ("after", "why"),
    [
        (timedelta(minutes=31), "You were signed out after 30 minutes without activity."),
        (timedelta(hours=12, minutes=1), "You were signed out after 12 hours."),
    ],
)
@override_settings(STAFF_IDLE_LIMIT=timedelta(minutes=30))
def test_an_ended_session_says_why_and_what_was_lost(world: World, after: timedelta, why: str) -> None:
    address = reverse("admin:loyalty_redemption_reverse", args=[redeemed(world).pk])
    client, began = staff_of(world, "Reversal operator"), timezone.now()
    with time_machine.travel(began, tick=False):
        client.get("/admin/")
    if after > timedelta(hours=1):
        for minutes in range(25, int(after.total_seconds() / 60), 25):
            with time_machine.travel(began + timedelta(minutes=minutes), tick=False):
                client.get("/admin/jsi18n/")
    with time_machine.travel(began + after, tick=False):
        said = client.post(address, {"step": "confirm"}, follow=True).content.decode()
    assert f"{why} What you last sent was not saved. Sign in to continue." in said


def test_the_root_leads_a_browser_to_the_back_office(client: Client) -> None:
    response = client.get("/", headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (response.status_code, response["Location"]) == (302, "/admin/")


def test_a_call_sent_to_the_root_is_answered_404_in_the_envelope(client: Client) -> None:
    response = Client(enforce_csrf_checks=True).post("/", "{}", content_type="application/json")
    assert (response.status_code, response.json()["errors"][0]["code"]) == (404, 404)


@pytest.mark.parametrize("accept", [None, "*/*", "application/json"])
def test_the_root_tells_a_program_the_addresses(client: Client, accept: str | None) -> None:
    response = client.get("/", headers={} if accept is None else {"accept": accept})
    assert response.json()["addresses"] == ADDRESSES
    for address in ADDRESSES.values():
        path = address.split()[1].partition("?")[0].replace("{", "").replace("}", "")
        assert client.get(path).status_code in {200, 302, 401, 405}, path
