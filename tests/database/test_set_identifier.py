"""Tests set_identifier: changed, added and removed identifiers, their history, clashes and erasure."""

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from loyalty.ledger.merging import merge_customers
from loyalty.models import Customer, CustomerIdentifier, StaffChange
from reversals.privacy.erasing import erase_customer
from tests.builders import World, make_customer, redeemed, request_for

pytestmark = pytest.mark.django_db

WHY = ("--ticket", "T-1", "--reason", "the customer asked", "--by", "meera")


def change(customer: Customer, kind: str, value: str, *options: str) -> dict[str, Any]:
    out = io.StringIO()
    call_command(
        "set_identifier", str(customer.org_id), str(customer), kind, value, *WHY, "--json", *options, stdout=out
    )
    result: dict[str, Any] = json.loads(out.getvalue())
    return result


def refusal(customer: Customer, kind: str, value: str, *options: str) -> str:
    with pytest.raises(CommandError) as refused:
        change(customer, kind, value, *options)
    return str(refused.value)


def values_of(customer: Customer) -> list[tuple[str, str]]:
    return list(
        CustomerIdentifier.objects.filter(customer=customer).order_by("type", "value").values_list("type", "value")
    )


def test_identifier_is_added_changed_and_removed_with_history(world: World) -> None:
    assert change(world.asha, "phone", "098765 43210")["new_value"] == "919876543210"
    assert change(world.asha, "MOBILE", "tel:+91-98765-43211")["old_value"] == "919876543210"
    assert values_of(world.asha) == [("MOBILE", "919876543211")]
    body = request_for(redeemed(world, 5), 1) | {"identifier": {"type": "MOBILE", "value": "9876543211"}}
    assert world.ask(body).status_code == 200
    assert change(world.asha, "MOBILE", " ")["new_value"] is None
    assert values_of(world.asha) == []
    kept = StaffChange.objects.filter(subject="loyalty.customer", subject_id=str(world.asha.pk)).order_by("id")
    assert [(each.before, each.after) for each in kept] == [
        ({"MOBILE": None}, {"MOBILE": "919876543210"}),
        ({"MOBILE": "919876543210"}, {"MOBILE": "919876543211"}),
        ({"MOBILE": "919876543211"}, {"MOBILE": None}),
    ]
    assert {(each.made_by, each.reason) for each in kept} == {("meera", "T-1: the customer asked")}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("MOBILE", "9.19812E+11", "MOBILE: expected a mobile number that is possible in IN"),
        ("ID", "7", "the customer id cannot be changed"),
        ("cards", "7", "TYPE is 'cards'; expected one of ID, MOBILE"),
        ("EMAIL", "", "has no EMAIL to remove"),
        ("CARD_NUMBER", "C-1 ", "has this CARD_NUMBER already"),
        ("EXTERNAL_ID", "X-1\u200b", "remove it there first if it is wrong there, or merge the two customers"),
    ],
)
def test_change_that_is_not_possible_says_what_to_do(world: World, kind: str, value: str, expected: str) -> None:
    customer = make_customer(world.org, identifiers={"CARD_NUMBER": "C-1"})
    make_customer(world.org, identifiers={"EXTERNAL_ID": "X-1"})
    assert expected in refusal(customer, kind, value)
    assert values_of(customer) == [("CARD_NUMBER", "C-1")]
    assert not StaffChange.objects.filter(subject_id=str(customer.pk)).exists()


def test_clash_names_the_other_customer(world: World) -> None:
    other = make_customer(world.org, identifiers={"EMAIL": "asha@example.com"})
    assert f"customer {other} has this EMAIL already" in refusal(world.asha, "EMAIL", "Asha@Example.com")


def test_one_of_several_identifiers_is_named_by_its_old_value(world: World) -> None:
    customer = make_customer(world.org, identifiers={"EMAIL": "a@example.com"})
    CustomerIdentifier.objects.create(org=world.org, customer=customer, type="EMAIL", value="b@example.com")
    assert "several identifiers of type EMAIL; say which one, with --old" in refusal(customer, "EMAIL", "c@example.com")
    assert "has no such EMAIL" in refusal(customer, "EMAIL", "c@example.com", "--old", "x@example.com")
    change(customer, "EMAIL", "c@example.com", "--old", "B@example.com")
    assert values_of(customer) == [("EMAIL", "a@example.com"), ("EMAIL", "c@example.com")]


def test_merged_or_erased_customer_keeps_its_identifiers(world: World) -> None:
    merged, erased = make_customer(world.org), make_customer(world.org)
    merge_customers(
        org=world.org,
        source_id=merged.public_id,
        target_id=world.asha.public_id,
        ticket="T-1",
        reason="the same person",
        made_by="meera",
    )
    erase_customer(erased, ticket="T-1", reason="asked for", made_by="meera")
    assert f"was merged into customer {world.asha}" in refusal(merged, "EMAIL", "a@example.com")
    assert "was erased" in refusal(erased, "EMAIL", "a@example.com")


def test_erasure_covers_identifiers_that_were_changed(world: World) -> None:
    change(world.asha, "EMAIL", "first@example.com")
    change(world.asha, "EMAIL", "second@example.com")
    change(world.asha, "EXTERNAL_ID", "X1")
    erase_customer(world.asha, ticket="T-2", reason="asked for", made_by="meera")
    kept = StaffChange.objects.filter(subject_id=str(world.asha.pk))
    assert "example.com" not in str([(each.before, each.after) for each in kept])
    assert "X1" not in str([(each.before, each.after) for each in kept])
