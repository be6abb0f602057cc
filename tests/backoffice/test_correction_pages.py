"""The read-only pages of corrections and ledger checks."""

import re

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from loyalty.models import Org
from reversals.models import Correction, LedgerCheck, Reversal
from tests.builders import World, correct, days_ago, make_org, make_world, redeemed, staff_of

CORRECTIONS = "admin:reversals_correction_changelist"
CHECKS = "admin:reversals_ledgercheck_changelist"


@pytest.fixture
def auditor(world: World) -> Client:
    return staff_of(world, "Auditor")


def corrected(world: World, points: object = 3) -> Correction:
    answer = world.reverse(redeemed(world), points)
    reversal = Reversal.objects.get(org=world.org, public_id=answer.json()["reversalId"])
    assert correct(reversal).error is None
    return reversal.corrections.get()


def page_of(client: Client, row: Correction | LedgerCheck) -> HttpResponse:
    return client.get(reverse(f"admin:reversals_{row._meta.model_name}_change", args=[row.pk]))


def check_of(org: Org | None, *, broken_count: int = 0) -> LedgerCheck:
    return LedgerCheck.objects.create(
        org=org, started_at=days_ago(1), finished_at=days_ago(0.5), broken_count=broken_count
    )


def test_the_list_shows_requester_and_approver(world: World, auditor: Client) -> None:
    correction = corrected(world)
    text = auditor.get(reverse(CORRECTIONS)).content.decode()
    for part in (correction.reversal.public_id, "meera", "arun", "the wrong customer"):
        assert part in text


def test_the_list_takes_as_many_queries_for_two_corrections_as_for_one(world: World, auditor: Client) -> None:
    counts = []
    for _ in range(2):
        corrected(world)
        auditor.get(reverse(CORRECTIONS))
        with CaptureQueriesContext(connection) as captured:
            auditor.get(reverse(CORRECTIONS))
        counts.append(len(captured))
    assert counts[0] == counts[1]


def test_a_correction_is_found_by_its_reversal(world: World, auditor: Client) -> None:
    wanted, other = corrected(world), corrected(world)
    text = auditor.get(reverse(CORRECTIONS), {"q": wanted.reversal.public_id}).content.decode()
    assert str(wanted.pk) in text
    assert str(other.pk) not in text


def test_the_page_links_reversal_and_request_and_shows_each_lot(world: World, auditor: Client) -> None:
    correction = corrected(world)
    response = page_of(auditor, correction)
    text = response.content.decode()
    assert reverse("admin:reversals_reversal_change", args=[correction.reversal_id]) in text
    assert reverse("admin:reversals_approval_change", args=[correction.approval_id]) in text
    lot = correction.reversal.lines.get().draw.lot
    assert response.context["lines"]["rows"] == [[1, lot.lot_ref, "3"]]
    assert f"Correction of reversal {correction.reversal.public_id}" in text


def test_the_page_shows_the_lot_of_reissued_points(db: None) -> None:
    world = make_world(settings={"Reversal_reissue_days": "30"})
    redemption = redeemed(world)
    lot = redemption.draws.get().lot
    lot.expires_at = days_ago(0.1)
    lot.save()
    world.reverse(redemption, 3)
    reversal = redemption.reversals.get()
    correct(reversal)
    response = page_of(staff_of(world, "Auditor"), reversal.corrections.get())
    new = reversal.lines.get().reissued_lot
    assert response.context["lines"]["rows"] == [[1, new.lot_ref, "3"]]


def test_a_correction_of_another_org_is_not_found(world: World, auditor: Client) -> None:
    foreign = corrected(make_world())
    assert str(foreign.pk) not in auditor.get(reverse(CORRECTIONS)).content.decode()
    assert page_of(auditor, foreign).status_code == 302


def test_a_correction_cannot_be_changed_or_deleted(world: World, auditor: Client) -> None:
    correction = corrected(world)
    address = reverse("admin:reversals_correction_change", args=[correction.pk])
    assert auditor.post(address, {"points": "1"}).status_code == 403
    assert auditor.get(reverse("admin:reversals_correction_delete", args=[correction.pk])).status_code == 403
    assert Correction.objects.get().points == 3


def test_checks_of_own_orgs_and_of_all_orgs_are_listed(world: World, auditor: Client) -> None:
    own, whole, foreign = check_of(world.org, broken_count=2), check_of(None), check_of(make_org())
    text = auditor.get(reverse(CHECKS)).content.decode()
    listed = re.findall(r"/admin/reversals/ledgercheck/(\d+)/change/", text)
    assert {int(pk) for pk in listed} == {own.pk, whole.pk}
    assert "all orgs" in text
    assert page_of(auditor, own).status_code == 200
    assert page_of(auditor, foreign).status_code == 302


def test_support_does_not_see_checks(world: World) -> None:
    assert staff_of(world, "Support").get(reverse(CHECKS)).status_code == 403
