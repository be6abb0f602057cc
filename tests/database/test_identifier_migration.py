"""Tests the migration that stores identifiers in their canonical form."""

from importlib import import_module
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.core.management import CommandError
from django.db import connection

from loyalty.models import Customer, CustomerIdentifier
from tests.builders import World, make_customer, make_world

pytestmark = pytest.mark.django_db

migration = import_module("loyalty.migrations.0018_canonical_identifiers")


def migrate() -> None:
    migration.make_canonical(apps, SimpleNamespace(connection=connection))


def store(customer: Customer, kind: str, value: str) -> None:
    CustomerIdentifier.objects.create(org_id=customer.org_id, customer=customer, type=kind, value=value)


def values_of(world: World) -> list[tuple[str, str]]:
    return list(CustomerIdentifier.objects.filter(org=world.org).order_by("id").values_list("type", "value"))


@pytest.mark.parametrize(
    ("country", "kind", "earlier", "now"),
    [
        ("IN", "CARD_NUMBER", "CARD1  ", "CARD1"),
        ("IN", "EMAIL", "mu\u0308ller@b\u00fccher.example\u00a0", "m\u00fcller@xn--bcher-kva.example"),
        ("IN", "MOBILE", "\u202a+91 98765 00001\u202c", "919876500001"),
        ("IN", "MOBILE", "919876500001", "919876500001"),
        ("IN", "MOBILE", "919176500001", "919176500001"),
        ("IN", "MOBILE", "12", "12"),
        ("IN", "MOBILE", "front desk", "front desk"),
        ("DE", "MOBILE", "49491701234567", "491701234567"),
    ],
)
def test_stored_identifiers_become_canonical(
    capsys: pytest.CaptureFixture[str], country: str, kind: str, earlier: str, now: str
) -> None:
    world = make_world(country=country)
    store(world.asha, kind, earlier)
    migrate()
    assert values_of(world) == [(kind, now)]
    said = f"org {world.org.id}, customer {world.asha}: {kind} {earlier!a} became {now!a}\n"
    assert capsys.readouterr().out == ("" if earlier == now else said)


def test_blank_identifier_and_second_spelling_of_one_customer_are_removed(world: World) -> None:
    for value in ("\u200b", "E1", "E1 "):
        store(world.asha, "EXTERNAL_ID", value)
    migrate()
    assert values_of(world) == [("EXTERNAL_ID", "E1")]


@pytest.mark.parametrize("spellings", [("E1", "E1 "), ("E1 ", "\u200bE1")])
def test_clash_of_two_customers_is_refused_and_names_both(world: World, spellings: tuple[str, str]) -> None:
    other = make_customer(world.org)
    store(world.asha, "CARD_NUMBER", "C1 ")
    for customer, value in zip((world.asha, other), spellings, strict=True):
        store(customer, "EXTERNAL_ID", value)
    before = values_of(world)
    with pytest.raises(CommandError) as refused:
        migrate()
    assert f"of customer {world.asha}" in str(refused.value)
    assert f"of customer {other}" in str(refused.value)
    assert values_of(world) == before
