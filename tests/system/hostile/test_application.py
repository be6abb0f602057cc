"""Sends the corpus to the WSGI application on either database: each answer is as expected, and nothing is written."""

import json
from urllib.parse import unquote_to_bytes

import pytest
from django.http import HttpResponse
from django.test import Client

from loyalty.clients.api_clients import create_api_client
from loyalty.models import Customer
from tests.builders import ON, World, make_lot, make_org, make_program, redeem, set_value
from tests.system.hostile.corpus import CORPUS
from tests.system.hostile.requests import CUSTOMER_ID, POINTS, READ, REDEMPTION_ID, SECRET, USERNAME, Hostile

pytestmark = pytest.mark.django_db


@pytest.fixture
def world(db: None) -> World:
    """The org, customer and redemption that the corpus names."""
    org = make_org()
    set_value(org, ON, "yes")
    create_api_client(org=org, username=USERNAME, secret=SECRET)
    asha = Customer.objects.create(org=org, public_id=CUSTOMER_ID)
    world = World(org, make_program(org), asha, SECRET)
    make_lot(asha, POINTS, program=world.program)
    redeem(asha, POINTS, program=world.program, public_id=REDEMPTION_ID)
    return world


def ask(client: Client, hostile: Hostile) -> HttpResponse:
    """Sends the request in the form that the server passes on: values of a repeated header are joined by a comma."""
    path, _, query = hostile.target.partition("?")
    headers: dict[str, list[str]] = {}
    for name, value in hostile.headers:
        headers.setdefault(f"HTTP_{name.upper().replace('-', '_')}", []).append(value)
    meta = {name: ",".join(values) for name, values in headers.items()}
    content_type = meta.pop("HTTP_CONTENT_TYPE", "")
    return client.generic(
        hostile.method,
        "/",
        hostile.body,
        CONTENT_TYPE=content_type,
        PATH_INFO=unquote_to_bytes(path).decode("latin-1"),
        QUERY_STRING=query,
        **meta,
    )


def answer_of(response: HttpResponse) -> tuple[int, int | None]:
    """The HTTP status and the error code."""
    is_json = response.headers.get("Content-Type") == "application/json"
    errors = json.loads(response.content)["errors"] if is_json and response.content else []
    return response.status_code, errors[0]["code"] if errors else None


def test_corpus_is_large_and_its_names_are_unique() -> None:
    assert len({hostile.name for hostile in CORPUS}) == len(CORPUS) > 400


def test_each_hostile_request_gets_expected_answer_and_writes_nothing(world: World) -> None:
    client, till = Client(enforce_csrf_checks=True, raise_request_exception=False), world.till()
    valid, written = till.get(READ).content, world.written()
    answered = {}
    for hostile in CORPUS:
        answered[hostile.name] = answer_of(ask(client, hostile))
        assert till.get(READ).content == valid, hostile.name
    assert answered == {hostile.name: (hostile.status, hostile.code) for hostile in CORPUS}
    assert world.written() == written


def test_content_length_in_superscript_is_887(world: World) -> None:
    """Other servers pass it on; Python considers it a digit but cannot convert it to a number."""
    response = world.ask(b"{}", CONTENT_LENGTH="\u00b2")
    assert answer_of(response) == (400, 887)
