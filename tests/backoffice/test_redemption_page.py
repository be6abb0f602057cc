"""The redemption page: draws, reversals, and manual reversals in three steps."""

import re
from collections.abc import Callable
from html import unescape
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from loyalty.ledger.points import written
from loyalty.models import Customer, Lot, Program, ReasonCode, Redemption
from reversals.models import Approval, Attempt, Reversal
from tests.builders import ON, World, days_ago, make_world, redeemed, set_value, staff_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def operator(world: World) -> Client:
    ReasonCode.objects.get_or_create(
        org=world.org, code="GOODS_RETURNED", defaults={"meaning": "The goods were returned"}
    )
    return staff_of(world, "Reversal operator")


def page(client: Client, redemption: Redemption) -> str:
    return client.get(reverse("admin:loyalty_redemption_change", args=[redemption.pk])).content.decode()


def send(client: Client, redemption: Redemption, step: str, points: object = 4, **changes: Any) -> HttpResponse:
    address = reverse("admin:loyalty_redemption_reverse", args=[redemption.pk])
    form = {"points": str(points), "reason_code": "GOODS_RETURNED", "note": "receipt 17", "page": str(UUID(int=1))}
    return client.post(address, form | {"step": step} | changes, follow=True)


def shown_status(client: Client, redemption: Redemption) -> str:
    response = client.get(reverse("admin:loyalty_redemption_change", args=[redemption.pk]))
    return re.sub(r"<[^>]*>", "", response.context["status"]).strip()


def messages_of(response: HttpResponse) -> list[str]:
    return [str(message) for message in response.context["messages"]]


def test_the_page_shows_draws_and_reversals(world: World, operator: Client) -> None:
    redemption = redeemed(world, "7.5")
    reversal_id = world.reverse(redemption, 2).json()["reversalId"]
    text = page(operator, redemption)
    lot = redemption.draws.get().lot
    assert lot.lot_ref in text
    assert reversal_id in text
    assert re.search(r"Remaining</dt>\s*<dd[^>]*>5\.5</dd>", text)
    assert "Reverse 5.5 points" in text


def test_the_form_starts_with_the_remaining_points(world: World, operator: Client) -> None:
    redemption = redeemed(world, "7.5")
    world.reverse(redemption, 2)
    text = operator.get(reverse("admin:loyalty_redemption_reverse", args=[redemption.pk])).content.decode()
    assert re.search(r'name="points" value="5\.5"', text)


def test_the_preview_shows_lots_and_balances_and_moves_nothing(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    response = send(operator, redemption, "preview")
    lot = redemption.draws.get().lot
    assert response.context["lots"]["rows"] == [[lot.lot_ref, "never", "4", "available again"]]
    spendable = lot.points_remaining
    assert response.context["balances"]["rows"] == [
        [str(world.asha.public_id), written(spendable), written(spendable + 4)]
    ]
    assert not Reversal.objects.exists()
    assert [attempt.is_dry_run for attempt in Attempt.objects.all()] == [True]


def test_the_preview_shows_points_for_an_expired_lot(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    Lot.objects.update(expires_at=days_ago(1), points_remaining=0)
    response = send(operator, redemption, "preview")
    assert response.context["lots"]["rows"][0][2:] == ["4", "expired, cannot be spent"]
    assert response.context["balances"]["rows"] == [[str(world.asha.public_id), "0", "0"]]


def test_confirmed_points_are_reversed_once_even_if_the_page_is_sent_again(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    said = [messages_of(send(operator, redemption, "confirm")) for _ in range(3)]
    reversal = Reversal.objects.get()
    assert said == [[f"Reversal {reversal.public_id} reversed 4 points, 0 of them to expired lots."]] * 3
    assert (reversal.points, reversal.made_by, reversal.channel) == (4, "meera", "ADMIN")
    assert reversal.reason == "GOODS_RETURNED: receipt 17"


def test_another_amount_after_the_back_button_is_refused(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    send(operator, redemption, "confirm")
    response = send(operator, redemption, "confirm", points=5)
    assert "A different request was already sent from this page." in response.content.decode()
    assert Reversal.objects.count() == 1


@pytest.mark.parametrize("page", ["", "bulk#1", "admin#1", "order-17", "1"])
def test_a_key_that_is_no_uuid_shows_the_form_again_with_a_new_key(world: World, operator: Client, page: str) -> None:
    response = send(operator, redeemed(world), "confirm", page=page)
    form = response.context["form"]
    assert (form.errors, form["points"].value(), str(UUID(form["page"].value())) != page) == ({}, "4", True)
    assert not Attempt.objects.exists()


def test_a_preview_can_be_reloaded_and_gone_back_to(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    [(address, status)] = send(operator, redemption, "preview").redirect_chain
    assert status == 302
    for _ in range(2):
        assert "4 points will be reversed" in operator.get(address).content.decode()
    said = messages_of(send(operator, redemption, "confirm"))
    assert said == [f"Reversal {Reversal.objects.get()} reversed 4 points, 0 of them to expired lots."]
    response = operator.get(address, follow=True)
    assert messages_of(response)[0].startswith("This page was already sent, or is out of date.")
    assert response.context["form"]["points"].value() == "6"
    assert Reversal.objects.count() == 1


def test_a_refused_confirmation_can_be_reloaded_without_a_second_request(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    [(address, _)] = send(operator, redemption, "confirm", points=11).redirect_chain
    before = Attempt.objects.count()
    for _ in range(2):
        errors = operator.get(address).context["form"].errors
        assert errors == {
            "points": [
                "11 points requested, 10 remaining to reverse."
                " <small>817 Points reversal failed due to insufficient points</small>"
            ]
        }
    assert Attempt.objects.count() == before


def test_the_session_keeps_the_last_pages_only(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    chains = [
        send(operator, redemption, "preview", page=str(UUID(int=number))).redirect_chain for number in range(1, 7)
    ]
    first, last = chains[0][0][0], chains[-1][0][0]
    assert operator.get(first).status_code == 302
    assert "4 points will be reversed" in operator.get(last).content.decode()


def test_the_api_refuses_the_key_of_a_page(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    send(operator, redemption, "confirm")
    key = Attempt.objects.get().idempotency_key
    assert key == f"admin#{UUID(int=1)}"
    assert world.reverse(redemption, 1, key=key).json()["errors"][0]["code"] == 887
    assert Reversal.objects.count() == 1


def test_a_refusal_is_shown_in_the_form_with_a_new_key(world: World, operator: Client) -> None:
    set_value(world.org, ON, "no")
    redemption = redeemed(world)
    response = send(operator, redemption, "confirm")
    assert response.context["form"].non_field_errors() == [
        f"Reversals are off for this org. The EMF setting {ON} turns them on."
        " <small>818 Points reversal not allowed for this program</small>"
    ]
    another = response.context["form"]["page"].value()
    assert another != str(UUID(int=1))
    set_value(world.org, ON, "yes")
    send(operator, redemption, "confirm", page=another)
    assert Reversal.objects.count() == 1


@pytest.mark.parametrize(
    ("changes", "field", "problem"),
    [
        ({"points": "0"}, "points", "Enter more than 0."),
        ({"points": "-1"}, "points", "Enter more than 0."),
        ({"points": "1.0001"}, "points", "Enter at most 3 decimals."),
        ({"points": "ten"}, "points", "Enter a number."),
        ({"points": "1e1"}, "points", "Enter a number."),
        ({"points": ""}, "points", "This field is required."),
        ({"reason_code": ""}, "reason_code", "This field is required."),
        (
            {"reason_code": "INVENTED"},
            "reason_code",
            "Select a valid choice. INVENTED is not one of the available choices.",
        ),
        ({"note": "x" * 401}, "note", "Ensure this value has at most 400 characters (it has 401)."),
    ],
)
def test_an_invalid_form_shows_what_to_enter(
    world: World, operator: Client, changes: dict[str, str], field: str, problem: str
) -> None:
    response = send(operator, redeemed(world), "confirm", **changes)
    assert response.context["form"].errors == {field: [problem]}
    assert not Attempt.objects.exists()


def test_reason_that_says_nothing_requires_a_note(world: World, operator: Client) -> None:
    ReasonCode.objects.create(org=world.org, code="OTHER", meaning="Another reason; see the note.")
    redemption = redeemed(world)
    errors = send(operator, redemption, "confirm", reason_code="OTHER", note=" ").context["form"].errors
    assert errors == {"note": ["Enter what the reason is, because OTHER does not say it."]}
    send(operator, redemption, "confirm", reason_code="OTHER")
    assert Reversal.objects.get().reason == "OTHER: receipt 17"


def test_an_org_without_reason_codes_requires_a_note(world: World, operator: Client) -> None:
    ReasonCode.objects.update(is_active=False)
    redemption = redeemed(world)
    assert send(operator, redemption, "confirm", note="").context["form"].errors == {
        "note": ["This field is required."]
    }
    send(operator, redemption, "confirm")
    assert Reversal.objects.get().reason == "receipt 17"


def test_a_fully_reversed_redemption_has_no_button(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    world.reverse(redemption)
    text = page(operator, redemption)
    assert "Reverse 0" not in text
    assert "All points of this redemption have been reversed." in text


def test_users_without_permission_have_no_button_and_cannot_reverse(world: World) -> None:
    support = staff_of(world, "Support")
    redemption = redeemed(world)
    assert "Reverse 10 points" not in page(support, redemption)
    assert send(support, redemption, "confirm").status_code == 403
    assert not Attempt.objects.exists()


def test_a_redemption_of_another_org_is_not_found(world: World, operator: Client) -> None:
    stranger = redeemed(make_world())
    response = operator.get(reverse("admin:loyalty_redemption_change", args=[stranger.pk]))
    assert response.status_code == 302
    assert send(operator, stranger, "confirm").status_code == 404
    assert not Attempt.objects.exists()


# What stands in the way


def set_off(world: World, redemption: Redemption) -> None:
    set_value(world.org, ON, "no")


def set_off_for_program(world: World, redemption: Redemption) -> None:
    set_value(world.org, ON, "no", program=world.program)


def set_paused(world: World, redemption: Redemption) -> None:
    set_value(world.org, "Reversal_paused", "yes")


def set_broken(world: World, redemption: Redemption) -> None:
    set_value(world.org, "Reversal_limit_count", "many")


def set_window(world: World, redemption: Redemption) -> None:
    set_value(world.org, "Reversal_window_days", "1")
    Redemption.objects.filter(pk=redemption.pk).update(redeemed_at=days_ago(2))


def set_fraud(world: World, redemption: Redemption) -> None:
    Customer.objects.filter(pk=world.asha.pk).update(status="FRAUD")


def set_locked(world: World, redemption: Redemption) -> None:
    Customer.objects.filter(pk=world.asha.pk).update(reversals_locked=True)


def set_inactive_program(world: World, redemption: Redemption) -> None:
    Program.objects.filter(pk=world.program.pk).update(is_active=False)


@pytest.mark.parametrize(
    ("change", "link"),
    [
        (set_off, "Open the EMF settings"),
        (set_off_for_program, "Open the EMF settings"),
        (set_paused, "Open the EMF settings"),
        (set_broken, "Open the EMF settings"),
        (set_window, "Open the EMF settings"),
        (set_fraud, "Open the customer"),
        (set_locked, "Open the customer"),
        (set_inactive_program, "Open the program"),
    ],
)
def test_the_page_says_why_nothing_can_be_reversed(
    world: World, operator: Client, change: Callable[[World, Redemption], None], link: str
) -> None:
    redemption = redeemed(world)
    change(world, redemption)
    text = page(operator, redemption)
    reason = world.reverse(redemption).json()["errors"][0]["reason"]
    assert reason in unescape(text)
    assert "Reverse 10 points" not in text
    assert link in page(staff_of(world, "Back-end team", username="ravi"), redemption)


def test_the_page_says_that_a_second_user_must_approve(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    set_value(world.org, "Reversal_approval_points", "3")
    text = page(operator, redemption)
    assert "To reverse more than 3 points, you need the approval of a second user." in text
    assert "Reverse 10 points" in text


def test_the_page_shows_requests_with_decision_and_comment(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    approval = asked_for_approval(world, operator, redemption)
    decide(staff_of(world, "Approver", username="arun"), approval, "reject", "No receipt.")
    text = page(operator, redemption)
    assert "rejected" in text
    assert "No receipt." in text
    assert shown_status(operator, redemption) == "open"


# Approval


def asked_for_approval(world: World, operator: Client, redemption: Redemption) -> Approval:
    set_value(world.org, "Reversal_approval_points", "3")
    send(operator, redemption, "confirm")
    return Approval.objects.get()


def decide(client: Client, approval: Approval, decision: str, comment: str = "") -> list[str]:
    address = reverse("admin:reversals_approval_decide", args=[approval.pk])
    return messages_of(client.post(address, {"decision": decision, "comment": comment}, follow=True))


def approval_page(client: Client, approval: Approval) -> HttpResponse:
    return client.get(reverse("admin:reversals_approval_change", args=[approval.pk]))


def test_points_over_the_limit_become_an_approval_request(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    set_value(world.org, "Reversal_approval_points", "3")
    assert "A second user must approve this request" in send(operator, redemption, "preview").content.decode()
    said = messages_of(send(operator, redemption, "confirm"))
    approval = Approval.objects.get()
    assert said == [
        f"The request for 4 points waits for a second user's approval until {approval.lapses_at:%Y-%m-%d %H:%M:%S} UTC."
    ]
    assert shown_status(operator, redemption) == "waiting for approval"
    Approval.objects.update(lapses_at=approval.asked_at)
    assert shown_status(operator, redemption) == "open"
    assert not Reversal.objects.exists()


def test_a_second_user_sees_the_preview_and_approves(world: World, operator: Client) -> None:
    approval = asked_for_approval(world, operator, redeemed(world))
    approver = staff_of(world, "Approver", username="arun")
    assert Attempt.objects.latest("created_at").made_by == "meera"
    shown = approval_page(approver, approval)
    assert "Approve" in shown.content.decode()
    assert [row[2] for row in shown.context["lots"]["rows"]] == ["4"]
    assert Attempt.objects.latest("created_at").made_by == "arun"
    assert decide(approver, approval, "approve", "Receipt seen.") == ["Approved. The reversal of 4 points was made."]
    assert decide(approver, approval, "approve") == [
        "arun has already approved the request. <small>403 Points reversal cannot be approved</small>"
    ]
    approval.refresh_from_db()
    assert (approval.reversal, approval.comment) == (Reversal.objects.get(), "Receipt seen.")


def test_a_page_sent_again_shows_the_decision(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    approval = asked_for_approval(world, operator, redemption)
    decide(staff_of(world, "Approver", username="arun"), approval, "approve")
    assert messages_of(send(operator, redemption, "confirm")) == [
        "The request for 4 points was already approved by arun."
    ]
    assert Reversal.objects.count() == 1


def test_requester_cannot_decide_even_as_an_approver(world: World, operator: Client) -> None:
    approval = asked_for_approval(world, operator, redeemed(world))
    User.objects.get(username="meera").groups.add(Group.objects.get(name="Approver"))
    text = approval_page(operator, approval).content.decode()
    assert "You made this request, so another user must approve or reject it." in text
    assert decide(operator, approval, "approve") == [
        "meera took part in this request; a second user must decide it."
        " <small>403 Points reversal cannot be approved</small>"
    ]
    assert decide(operator, approval, "reject", "no") == [
        "Not rejected. meera took part in this request; a second user must decide it."
    ]
    assert not Reversal.objects.exists()


def test_a_rejection_requires_a_comment(world: World, operator: Client) -> None:
    approval = asked_for_approval(world, operator, redeemed(world))
    approver = staff_of(world, "Approver", username="arun")
    assert decide(approver, approval, "reject") == ["Not rejected. A rejection needs a comment with the reason."]
    assert decide(approver, approval, "reject", "No receipt.") == ["Rejected."]
    assert not Reversal.objects.exists()


def test_the_request_shows_why_it_would_be_refused_now(world: World, operator: Client) -> None:
    redemption = redeemed(world)
    approval = asked_for_approval(world, operator, redemption)
    world.reverse(redemption)
    approver = staff_of(world, "Approver", username="arun")
    text = approval_page(approver, approval).content.decode()
    assert "All points of this redemption are already reversed" in text


@pytest.mark.parametrize("decision", ["", "yes", "APPROVE", None])
def test_an_invalid_decision_changes_nothing(world: World, operator: Client, decision: str | None) -> None:
    approval = asked_for_approval(world, operator, redeemed(world))
    form = {"comment": "No receipt."} | ({} if decision is None else {"decision": decision})
    address = reverse("admin:reversals_approval_decide", args=[approval.pk])
    said = messages_of(staff_of(world, "Approver", username="arun").post(address, form, follow=True))
    assert said == ["Choose Approve or Reject."]
    assert Approval.objects.get().status == "WAITING"


@pytest.mark.parametrize("step", ["reverse", "correct", "decide"])
def test_users_who_cannot_view_cannot_act(world: World, operator: Client, step: str) -> None:
    redemption = redeemed(world)
    reversal = Reversal.objects.get(public_id=world.reverse(redemption, 1).json()["reversalId"])
    approval = asked_for_approval(world, operator, redemption)
    name, row = {
        "reverse": ("loyalty_redemption_reverse", redemption),
        "correct": ("reversals_reversal_correct", reversal),
        "decide": ("reversals_approval_decide", approval),
    }[step]
    acting = Permission.objects.filter(codename__in=["add_reversal", "add_correction", "decide_approval"])
    blind = staff_of(world, username="blind")
    User.objects.get(username="blind").user_permissions.set(acting)
    before = Attempt.objects.count()
    assert blind.post(reverse(f"admin:{name}", args=[row.pk]), {"decision": "approve"}).status_code == 403
    assert Attempt.objects.count() == before
    assert Approval.objects.get().status == "WAITING"


def test_an_operator_or_a_user_of_another_org_cannot_decide(world: World, operator: Client) -> None:
    approval = asked_for_approval(world, operator, redeemed(world))
    address = reverse("admin:reversals_approval_decide", args=[approval.pk])
    assert operator.get(address).status_code == 405
    assert operator.post(address, {"decision": "approve"}).status_code == 403
    stranger = staff_of(make_world(), "Approver", username="stranger")
    assert stranger.post(address, {"decision": "approve"}).status_code == 404
    assert not Reversal.objects.exists()
