"""Several approval requests are decided at once with one comment, each anew."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from reversals.models import Approval, Attempt, Reversal
from tests.builders import ON, World, days_ago, in_days, make_world, redeemed, set_value, staff_of

pytestmark = pytest.mark.django_db
LIST = "/admin/reversals/approval/"


@pytest.fixture
def approver(world: World) -> Client:
    return staff_of(world, "Approver", username="arun")


def asked(world: World, *, by: str = "meera", points: int = 10, days: float = 0) -> Approval:
    redemption = redeemed(world)
    return Approval.objects.create(
        org=world.org,
        redemption=redemption,
        points_asked=points,
        points=points,
        key=redemption.public_id,
        channel="ADMIN",
        reason="Returned.",
        asked_by=by,
        asked_at=days_ago(days),
        lapses_at=in_days(6),
    )


def decide(client: Client, *requests: Approval, decision: str = "approve", comment: str = "seen") -> list[str]:
    """Sends the confirmed action. Returns the messages of the next page."""
    sent = {"action": "decide", "_selected_action": [each.pk for each in requests], "confirmed": "yes"}
    page = client.post(LIST, sent | {"decision": decision, "comment": comment}, follow=True)
    return [str(message) for message in page.context["messages"]]


def statuses(*requests: Approval) -> list[str]:
    found = dict(Approval.objects.filter(pk__in=[each.pk for each in requests]).values_list("pk", "status"))
    return [found[each.pk] for each in requests]


def test_one_request_that_cannot_be_approved_does_not_stop_the_others(world: World, approver: Client) -> None:
    good, too_much, own, late = asked(world), asked(world, points=11), asked(world, by="arun"), asked(world)
    Approval.objects.filter(pk=late.pk).update(lapses_at=timezone.now() - timedelta(hours=1))
    last = asked(world, points=3)
    selected = {"action": "decide", "_selected_action": [good.pk, last.pk]}
    page = approver.post(LIST, selected).content.decode()
    assert "Approve 2 requests" in page
    assert not Attempt.objects.filter(org=world.org).exists()

    told = decide(approver, good, too_much, own, late, last)
    assert statuses(good, too_much, own, late, last) == ["APPROVED", "WAITING", "WAITING", "WAITING", "APPROVED"]
    assert sorted(Reversal.objects.filter(org=world.org).values_list("points", flat=True)) == [3, 10]
    assert len(told) == 5
    for request, text in (
        (good, "The reversal of 10 points was made."),
        (too_much, "11 points requested, 10 remaining"),
        (own, "took part in this request"),
        (late, "The request lapsed"),
        (last, "The reversal of 3 points was made."),
    ):
        assert [message for message in told if f"/{request.pk}/" in message and text in message], text
    assert set(Approval.objects.filter(status="APPROVED").values_list("decided_by", "comment")) == {("arun", "seen")}


def test_several_are_rejected_only_with_a_comment(world: World, approver: Client) -> None:
    requests = asked(world), asked(world)
    assert all("needs a comment" in text for text in decide(approver, *requests, decision="reject", comment=" "))
    assert statuses(*requests) == ["WAITING", "WAITING"]
    assert decide(approver, *requests, decision="nonsense") == []
    decide(approver, *requests, decision="reject", comment="No receipt.")
    assert statuses(*requests) == ["REJECTED", "REJECTED"]


def test_requests_of_other_orgs_and_users_without_the_right_decide_nothing(world: World, approver: Client) -> None:
    mine, foreign = asked(world), asked(make_world())
    decide(approver, foreign)
    decide(staff_of(world, "Reversal operator"), mine)
    assert statuses(mine, foreign) == ["WAITING", "WAITING"]


def test_requests_that_wait_for_days_are_marked_and_lists_are_filtered_by_status(
    world: World, approver: Client
) -> None:
    set_value(world.org, ON, "yes")
    asked(world, days=3)
    own = asked(world, by="arun", days=1)
    lapsed = asked(world, days=9)
    Approval.objects.filter(pk=lapsed.pk).update(lapses_at=days_ago(2))
    page = approver.get(LIST).content.decode()
    assert page.count("3 days") == 1
    assert "1 day<" not in page
    assert "9 days" not in page
    for filters, count in (
        ({"status": "waiting"}, 2),
        ({"status": "waiting", "asked": "others"}, 1),
        ({"status": "lapsed"}, 1),
        ({"status": "approved"}, 0),
        ({"asked": "me"}, 1),
    ):
        assert len(approver.get(LIST, filters).context["cl"].result_list) == count, filters
    assert approver.get(LIST, {"asked": "me"}).context["cl"].result_list[0] == own
