"""A form that fails the CSRF check: the log says why, and the page says what to do."""

import logging
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

pytestmark = pytest.mark.django_db

LOGIN = reverse("admin:login")
GIVEN = {"username": "meera", "password": "a long password"}


@pytest.fixture
def client() -> Client:
    """A browser that has opened the sign-in page."""
    client = Client(enforce_csrf_checks=True)
    assert client.get(LOGIN).status_code == 200
    return client


def refused(client: Client, caplog: pytest.LogCaptureFixture, **options: Any) -> tuple[str, logging.LogRecord]:
    """Posts the sign-in form; returns the text of the page and the line of the log."""
    response = client.post(LOGIN, GIVEN | options.pop("data", {}), **options)
    assert response.status_code == 403
    assert "no-store" in response["Cache-Control"]
    page = response.content.decode()
    assert "DEBUG" not in page
    assert "Nothing was changed" in page
    [record] = [each for each in caplog.records if each.name == "loyalty.staff.csrf"]
    assert record.levelname == "WARNING"
    return page, record


def token_of(client: Client) -> str:
    return re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get(LOGIN).content.decode())[0]


def test_wrong_token_is_logged_and_the_page_says_reload(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    page, record = refused(client, caplog, data={"csrfmiddlewaretoken": "x" * 64}, headers={"host": "localhost"})
    assert "reload the page, and submit the form again" in page
    assert record.getMessage() == (
        "a form was refused by the CSRF check: CSRF token from POST incorrect. Origin is '', Host is 'localhost'"
    )


def test_missing_cookie_is_logged_and_the_page_says_allow_cookies(caplog: pytest.LogCaptureFixture) -> None:
    page, record = refused(Client(enforce_csrf_checks=True), caplog)
    assert "Allow cookies" in page
    assert record.reason == "CSRF cookie not set."  # type: ignore[attr-defined]


@pytest.mark.parametrize("origin", ["https://backoffice.example.com", "null", "http://testserver:8080", "<script>"])
def test_foreign_origin_is_logged_and_the_page_names_the_variable(
    client: Client, caplog: pytest.LogCaptureFixture, origin: str
) -> None:
    data = {"csrfmiddlewaretoken": token_of(client)}
    page, record = refused(client, caplog, data=data, headers={"origin": origin, "host": "testserver"})
    assert "add it to CSRF_TRUSTED_ORIGINS" in page
    assert origin.replace("<", "&lt;").replace(">", "&gt;") in page
    assert f"Origin checking failed - {origin} does not match any trusted origins." in record.getMessage()
    assert record.getMessage().endswith(f"Origin is {origin!r}, Host is 'testserver'")


def test_missing_referer_over_https_is_logged_and_explained(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    page, record = refused(client, caplog, data={"csrfmiddlewaretoken": token_of(client)}, secure=True)
    assert "Allow the Referer header" in page
    assert "Referer checking failed - no Referer." in record.getMessage()


def test_foreign_referer_is_logged_without_its_query(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    headers = {"referer": "https://elsewhere.example/find/?q=919812306011"}
    page, record = refused(client, caplog, data={"csrfmiddlewaretoken": token_of(client)}, headers=headers, secure=True)
    assert "another address" in page
    assert "https://elsewhere.example/find/" in record.getMessage()
    assert "919812306011" not in page + record.getMessage() + str(vars(record))


def test_long_headers_are_cut_in_the_log(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    page, record = refused(client, caplog, headers={"origin": "https://" + "a" * 60_000 + ".example"})
    assert len(record.getMessage()) < 1_000
    assert len(page) < 5_000
