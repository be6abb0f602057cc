"""Corrections of wrong reversals: one user previews and requests them, a second user approves."""

from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Group, User
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from loyalty.models import ReasonCode, Redemption
from reversals.models import Approval, Attempt, Correction, Reversal
from tests.builders import World, make_world, redeemed, set_value, staff_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(world: World) -> Client:
    return staff_of(world, "Reversal operator")


@pytest.fixture
def approver(world: World) -> Client:
    return staff_of(world, "Approver", username="arun")


def reversed_of(world: World, redemption: Redemption, points: int = 4) -> Reversal:
    reversal_id = world.reverse(redemption, points).json()["reversalId"]
    return Reversal.objects.get(org=world.org, public_id=reversal_id)


def send(client: Client, reversal: Reversal, step: str, **changes: Any) -> HttpResponse:
    address = reverse("admin:reversals_reversal_correct", args=[reversal.pk])
    form = {"reason_code": "OTHER", "note": "the wrong customer", "page": str(UUID(int=1)), "step": step}
    return client.post(address, form | changes, follow=True)


def decide(client: Client, approval: Approval, decision: str, comment: str = "") -> list[str]:
    address = reverse("admin:reversals_approval_decide", args=[approval.pk])
    response = client.post(address, {"decision": decision, "comment": comment}, follow=True)
    return [str(message) for message in response.context["messages"]]


def test_the_preview_shows_points_taken_from_each_lot_and_moves_nothing(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    reversal = reversed_of(world, redemption)
    response = send(operator, reversal, "preview")
    lot = redemption.draws.get().lot
    assert response.context["lots"]["rows"] == [[lot.lot_ref, "never", "4", "0"]]
    assert "4 points will be taken back" in response.content.decode()
    assert not Approval.objects.exists()
    assert not Correction.objects.exists()


def test_reasons_of_corrections_are_their_own_list(world: World, operator: Client) -> None:
    ReasonCode.objects.create(org=world.org, code="GOODWILL", meaning="Reversed as a courtesy.")
    ReasonCode.objects.create(org=world.org, operation="CORRECT", code="WRONG_CUSTOMER", meaning="Wrong customer.")
    reversal = reversed_of(world, redeemed(world))
    form = send(operator, reversal, "preview", reason_code="GOODWILL").context["form"]
    assert [code for code, _ in form.fields["reason_code"].choices] == ["", "WRONG_CUSTOMER"]
    assert set(form.errors) == {"reason_code"}
    send(operator, reversal, "confirm", reason_code="WRONG_CUSTOMER", note="")
    assert Approval.objects.get().reason == "WRONG_CUSTOMER"


def test_a_confirmed_correction_creates_one_request_even_if_sent_twice(world: World, operator: Client) -> None:
    reversal = reversed_of(world, redeemed(world))
    for _ in range(2):
        send(operator, reversal, "confirm")
    approval = Approval.objects.get()
    assert (approval.corrects, approval.points, approval.asked_by) == (reversal, 4, "meera")
    assert approval.reason == "the wrong customer"
    assert not Correction.objects.exists()


def test_approval_takes_the_points_back(world: World, operator: Client, approver: Client) -> None:
    redemption = redeemed(world)
    reversal = reversed_of(world, redemption)
    send(operator, reversal, "confirm")
    approval = Approval.objects.get()
    shown = approver.get(reverse("admin:reversals_approval_change", args=[approval.pk]))
    assert [row[2] for row in shown.context["lots"]["rows"]] == ["4"]
    assert decide(approver, approval, "approve") == ["Approved. The correction of 4 points was made."]
    correction = Correction.objects.get()
    assert (correction.reversal, correction.made_by, correction.approved_by) == (reversal, "meera", "arun")
    assert correction.approval == approval
    approval.refresh_from_db()
    assert (approval.status, approval.reversal) == ("APPROVED", None)
    redemption.refresh_from_db()
    assert redemption.points_reversed == 0
    assert redemption.draws.get().lot.points_remaining == 0


def test_reversal_correction_and_redemption_pages_link_to_each_other(
    world: World, operator: Client, approver: Client
) -> None:
    reversal = reversed_of(world, redeemed(world))
    send(operator, reversal, "confirm")
    decide(approver, Approval.objects.get(), "approve")
    of_reversal, of_correction = (
        reverse("admin:reversals_reversal_change", args=[reversal.pk]),
        reverse("admin:reversals_correction_change", args=[Correction.objects.get().pk]),
    )
    assert of_correction in operator.get(of_reversal).content.decode()
    assert of_reversal in operator.get(of_correction).content.decode()
    of_redemption = reverse("admin:loyalty_redemption_change", args=[reversal.redemption_id])
    assert of_correction in operator.get(of_redemption).content.decode()


def test_a_correction_of_spent_points_is_refused(world: World, operator: Client) -> None:
    reversal = reversed_of(world, redeemed(world))
    world.redeem(world.asha, 1)
    response = send(operator, reversal, "confirm")
    [problem] = response.context["form"].non_field_errors()
    assert problem.startswith("1 of 4 reversed points cannot be taken back")
    assert problem.endswith("<small>817 Points correction failed due to insufficient points</small>")
    assert not Approval.objects.exists()


def test_approval_is_refused_if_the_points_were_spent_meanwhile(
    world: World, operator: Client, approver: Client
) -> None:
    reversal = reversed_of(world, redeemed(world))
    send(operator, reversal, "confirm")
    world.redeem(world.asha, 1)
    [said] = decide(approver, Approval.objects.get(), "approve")
    assert said.endswith("<small>817 Points correction failed due to insufficient points</small>")
    assert Approval.objects.get().status == "WAITING"
    assert not Correction.objects.exists()


def test_requester_cannot_approve_a_correction(world: World, operator: Client) -> None:
    reversal = reversed_of(world, redeemed(world))
    send(operator, reversal, "confirm")
    User.objects.get(username="meera").groups.add(Group.objects.get(name="Approver"))
    assert decide(operator, Approval.objects.get(), "approve") == [
        "meera took part in this request; a second user must decide it."
        " <small>403 Points correction cannot be approved</small>"
    ]
    assert not Correction.objects.exists()


def test_a_corrected_reversal_offers_no_second_correction(world: World, operator: Client, approver: Client) -> None:
    reversal = reversed_of(world, redeemed(world))
    page = reverse("admin:reversals_reversal_change", args=[reversal.pk])
    assert "Correct this reversal" in operator.get(page).content.decode()
    send(operator, reversal, "confirm")
    decide(approver, Approval.objects.get(), "approve")
    assert "Correct this reversal" not in operator.get(page).content.decode()
    response = send(operator, reversal, "confirm", page=str(UUID(int=2)))
    [problem] = response.context["form"].non_field_errors()
    assert problem.endswith("<small>902 Duplicate correction request</small>")


def test_a_page_cannot_be_used_for_a_second_correction(world: World, operator: Client) -> None:
    redemptions = [redeemed(world), redeemed(world)]
    first, other = [reversed_of(world, redemption) for redemption in redemptions]
    send(operator, first, "confirm")
    [problem] = send(operator, other, "confirm").context["form"].non_field_errors()
    assert problem == (
        "A different request was already sent from this page. Open the page again to start a new one."
        " <small>887 Points correction failed due to validation error</small>"
    )
    assert Approval.objects.get().corrects == first


def test_a_correction_can_be_requested_while_reversals_are_off_but_not_while_paused(
    world: World, operator: Client
) -> None:
    reversal = reversed_of(world, redeemed(world))
    set_value(world.org, "Reversal_paused", "yes")
    [problem] = send(operator, reversal, "confirm").context["form"].non_field_errors()
    assert problem.endswith("<small>898 Points correction currently unavailable</small>")
    set_value(world.org, "Reversal_paused", "no")
    set_value(world.org, "Allow_points_redemption_reversal", "no")
    send(operator, reversal, "confirm", page=str(UUID(int=2)))
    assert Approval.objects.get().status == "WAITING"


def test_users_without_permission_have_no_button_and_cannot_correct(world: World) -> None:
    reversal = reversed_of(world, redeemed(world))
    attempts = Attempt.objects.count()
    support = staff_of(world, "Support", username="support")
    page = reverse("admin:reversals_reversal_change", args=[reversal.pk])
    assert "Correct this reversal" not in support.get(page).content.decode()
    assert send(support, reversal, "confirm").status_code == 403
    stranger = staff_of(make_world(), "Reversal operator", username="stranger")
    assert send(stranger, reversal, "confirm").status_code == 404
    assert (Approval.objects.count(), Attempt.objects.count()) == (0, attempts)


def test_the_form_shows_an_invalid_setting(world: World, operator: Client) -> None:
    reversal = reversed_of(world, redeemed(world))
    set_value(world.org, "Reversal_approval_days", "soon")
    [problem] = send(operator, reversal, "confirm").context["form"].non_field_errors()
    assert problem.startswith("An EMF setting must be corrected")
    assert not Approval.objects.exists()
