"""Webhooks and deliveries: the commands of operators, and the pages of staff."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission, User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from loyalty.clients.credentials import webhook_secret
from loyalty.errors import InvalidOperation
from loyalty.models import OrgAccess, StaffChange, Webhook
from loyalty.webhooks import checked_url
from reversals.models import Delivery, Event
from tests.builders import World, days_ago, in_days, make_webhook, make_world, redeemed
from tests.receiver import Receiver, receiving

URL = "https://shop.example/events"


def run(*words: object) -> dict[str, Any]:
    output = io.StringIO()
    call_command(*map(str, words), "--json", stdout=output)
    return json.loads(output.getvalue())


def event_of(world: World) -> Event:
    assert world.reverse(redeemed(world), 1).status_code == 200
    return Event.objects.filter(org=world.org).latest("id")


# Creating a webhook


def test_create_webhook_prints_a_secret_that_the_database_does_not_store(world: World) -> None:
    created = run("create_webhook", world.org.id, "shop", URL)
    webhook = Webhook.objects.get(org=world.org)
    assert created == {
        "org_id": world.org.id,
        "name": "shop",
        "url": URL,
        "events": "pointsRedeemed,redeemedPointsReversed,customersMerged",
        "secret": webhook_secret(webhook.id),
    }
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", created["secret"])
    assert created["secret"] not in str(Webhook.objects.values().get(org=world.org))


def test_secret_differs_by_webhook_and_by_pepper(world: World, settings: Any) -> None:
    ids = [make_webhook(world.org).id for _ in range(2)]
    secrets = {webhook_secret(each) for each in ids}
    settings.API_PEPPER = "p" * 32
    assert len(secrets | {webhook_secret(each) for each in ids}) == 4


def test_create_webhook_accepts_a_subset_of_events(world: World) -> None:
    created = run("create_webhook", world.org.id, "shop", URL, "--events", "redeemedPointsReversed")
    assert created["events"] == "redeemedPointsReversed"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("", URL), "name: This field cannot be blank."),
        (("shop", URL, "--events", "pointsIssued"), "unknown events: pointsIssued; expected some of pointsRedeemed,"),
        (("shop", URL, "--events", ""), "no event is named; expected"),
        (("shop", "https://shop.example/" + "a" * 500), "Ensure this value has at most 500 characters"),
    ],
)
def test_create_webhook_refuses_invalid_values(world: World, words: tuple[str, ...], problem: str) -> None:
    with pytest.raises(CommandError, match=re.escape(problem)):
        run("create_webhook", world.org.id, *words)
    assert not Webhook.objects.filter(org=world.org).exists()


def test_create_webhook_refuses_a_name_that_the_org_already_uses(world: World) -> None:
    run("create_webhook", world.org.id, "shop", URL)
    with pytest.raises(CommandError, match="already has a webhook shop"):
        run("create_webhook", world.org.id, " shop ", URL)
    run("create_webhook", make_world().org.id, "shop", URL)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "shop.example",
        "http://shop.example/",
        "ftp://shop.example/",
        "file:///etc/passwd",
        "https://",
        "https:///events",
        "https://user:secret@shop.example/",
        "https://shop.example/#part",
        "https://shop.example/a b",
        "https://shop.example/\r\nX-Injected: 1",
        "https://münchen.example/",
        "https://shop.example:0/",
        "https://shop.example:99999/",
        "https://shop.example:port/",
        "https://[::1/",
        "https:/shop.example/",
        "https://a..example/",
        "https://.example/",
        "https://" + "a" * 64 + ".example/",
        "https://" + "a." * 130 + "example/",
        "https://*.example/",
        "https://shop.example\\@evil.example/",
        "https://shop%2eexample/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://10.0.0.1:8443/",
        "https://169.254.169.254/latest",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://[fe80::1%25eth0]/",
        "https://localhost/",
        "https://LOCALHOST./",
        "https://shop.localhost/",
    ],
)
def test_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidOperation, match="expected https://host/path"):
        checked_url(url)


def test_plain_http_is_accepted_if_private_addresses_are_allowed(settings: Any) -> None:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    assert checked_url(" http://10.0.0.1:8080/events ") == "http://10.0.0.1:8080/events"


@pytest.mark.parametrize(
    "url",
    [
        "HTTPS://shop.example/events",
        "hTTpS://SHOP.example/events",
        "https://shop.example",
        "https://shop.example.",
        "https://shop.example:443?key=1",
        "https://a_b.example/",
        "https://xn--mnchen-3ya.example/",
        "https://8.8.8.8/",
        "https://[2606:4700::1111]:8443/",
    ],
)
def test_usable_url_is_accepted(url: str) -> None:
    assert checked_url(f" {url} ") == url


# Delivering events


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = True
    with receiving() as receiver:
        yield receiver


def test_url_with_scheme_in_capitals_is_delivered_to(world: World, receiver: Receiver) -> None:
    run("create_webhook", world.org.id, "shop", receiver.url.replace("http:", "HTTP:"))
    event_of(world)
    run("deliver_events", "--once")
    assert len(receiver.received) == 1


def test_delivery_to_an_unusable_url_names_what_creating_it_would(
    world: World, receiver: Receiver, settings: Any
) -> None:
    make_webhook(world.org, receiver.url)
    event = event_of(world)
    settings.WEBHOOKS_TO_PRIVATE_ADDRESSES = False
    run("deliver_events", "--once")
    with pytest.raises(InvalidOperation) as refused:
        checked_url(receiver.url)
    assert receiver.received == []
    assert Delivery.objects.get(event=event).last_answer == str(refused.value)


def test_deliver_events_once_reports_the_results_of_due_deliveries(world: World, receiver: Receiver) -> None:
    make_webhook(world.org, receiver.url)
    events = [event_of(world).number for _ in range(3)]
    receiver.answer = lambda received: (400 if received.number == events[0] else 200, {}, "")
    assert run("deliver_events", "--once") == {"delivered": 2, "failed": 0, "given_up": 1}
    assert run("deliver_events", "--once") == {"delivered": 0, "failed": 0, "given_up": 0}
    assert receiver.numbers == events


def address_of_the_test_database() -> str:
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}").geturl()


@pytest.mark.parametrize("stopped_by", [signal.SIGTERM, signal.SIGINT])
def test_stopped_deliver_events_records_the_delivery_in_progress(
    committed: None, receiver: Receiver, stopped_by: signal.Signals
) -> None:
    world = make_world()
    make_webhook(world.org, receiver.url)
    environment = os.environ | {
        "DATABASE_URL": address_of_the_test_database(),
        "WEBHOOKS_TO_PRIVATE_ADDRESSES": "on",
    }
    command = [sys.executable, str(django_settings.BASE_DIR / "manage.py"), "deliver_events", "--json"]

    def stop_while_sending(received: Any) -> tuple[int, dict[str, str], str]:
        worker.send_signal(stopped_by)
        time.sleep(0.2)
        return 200, {}, ""

    receiver.answer = stop_while_sending
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as worker:
        event = event_of(world)
        output, _ = worker.communicate(timeout=30)
    delivered = Delivery.objects.get(event=event)
    Delivery.objects.filter(org=world.org).delete()
    assert (worker.returncode, json.loads(output)) == (0, {"delivered": 1, "failed": 0, "given_up": 0})
    assert (delivered.status, receiver.numbers) == ("DELIVERED", [event.number])


def test_purge_events_removes_old_finished_events(world: World) -> None:
    make_webhook(world.org)
    event = event_of(world)
    Event.objects.filter(id=event.id).update(created_at=days_ago(31))
    assert run("purge_events", "--older-than", 30) == {"removed": 0}
    Delivery.objects.filter(event=event).update(status="GIVEN_UP")
    assert run("purge_events", "--older-than", 30) == {"removed": 1}
    with pytest.raises(CommandError, match="expected 1 to 36500 days"):
        run("purge_events", "--older-than", 0)


# The pages


@pytest.fixture
def staff(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("meera", password="a long password"))
    return client


def page(client: Client, name: str, *args: object, data: dict[str, Any] | None = None) -> str:
    """Returns the text of the page, or of the page after a form was sent."""
    address = reverse(f"admin:{name}", args=args)
    response = client.get(address) if data is None else client.post(address, data, follow=True)
    assert response.status_code == 200
    return response.content.decode()


def test_secret_of_a_new_webhook_is_shown_on_request_and_the_request_is_recorded(world: World, staff: Client) -> None:
    values = {
        "org": world.org.id,
        "name": "shop",
        "url": URL,
        "event_names": ["redeemedPointsReversed"],
        "reason": "New shop.",
    }
    page(staff, "loyalty_webhook_add", data=values)
    webhook = Webhook.objects.get(org=world.org)
    assert (webhook.url, webhook.event_names, webhook.is_active) == (URL, "redeemedPointsReversed", True)
    secret = webhook_secret(webhook.id)
    for name in ("loyalty_webhook_change", "loyalty_webhook_secret"):
        assert "whsec_" not in page(staff, name, webhook.id)
    assert "This field is required." in page(staff, "loyalty_webhook_secret", webhook.id, data={"reason": " "})
    assert f'data-copy="{secret}"' in page(staff, "loyalty_webhook_secret", webhook.id, data={"reason": "New shop."})
    kept = StaffChange.objects.filter(subject="loyalty.webhook").order_by("-id").first()
    assert kept is not None
    assert (kept.action, kept.reason, kept.after, kept.made_by) == (
        "secret shown",
        "New shop.",
        {"live secrets": 1},
        "meera",
    )
    assert secret not in str(list(StaffChange.objects.values()))


def test_staff_cannot_add_a_webhook_with_an_invalid_url_or_without_events(world: World, staff: Client) -> None:
    values = {"org": world.org.id, "name": "shop", "url": "http://10.0.0.1/", "event_names": ["pointsRedeemed"]}
    assert "expected https://host/path" in page(staff, "loyalty_webhook_add", data=values)
    assert "This field is required." in page(staff, "loyalty_webhook_add", data=values | {"event_names": []})
    assert not Webhook.objects.filter(org=world.org).exists()


def test_secret_is_hidden_from_users_who_may_only_view_webhooks(world: World) -> None:
    webhook = make_webhook(world.org)
    viewer = User.objects.create_user("vik", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_webhook"))
    OrgAccess.objects.create(user=viewer, org=world.org)
    client = Client()
    client.force_login(viewer)
    shown = page(client, "loyalty_webhook_change", webhook.id)
    assert URL in shown
    assert "whsec_" not in shown


def test_test_event_is_signed_and_its_answer_is_shown_and_recorded(
    world: World, staff: Client, receiver: Receiver
) -> None:
    webhook = make_webhook(world.org, receiver.url)
    shown = page(staff, "loyalty_webhook_test", webhook.id, data={})
    assert "The receiver accepted the test event with status 200 in 0." in shown
    [received] = receiver.received
    body = json.loads(received.body)
    assert (body["eventName"], body["orgId"], body["data"]["isTest"]) == ("webhookTest", world.org.id, True)
    assert received.headers["webhook-signature"].startswith("v1,")
    assert not Delivery.objects.filter(webhook=webhook).exists()
    receiver.answers(500, body="broken")
    assert "did not accept the test event: status 500" in page(staff, "loyalty_webhook_test", webhook.id, data={})
    kept = StaffChange.objects.filter(action="test event sent").order_by("id").values_list("after", flat=True)
    assert list(kept) == [{"answer": "status 200"}, {"answer": "status 500"}]


def test_page_of_a_webhook_shows_failing_deliveries_first_and_answers_to_those_who_may(
    world: World, staff: Client, count_queries: Callable[..., int]
) -> None:
    webhook = make_webhook(world.org)
    events = [event_of(world) for _ in range(3)]
    few = count_queries(lambda: page(staff, "loyalty_webhook_change", webhook.id))
    Delivery.objects.filter(event=events[0]).update(tries=2, last_status=500, last_answer="broken <b>")
    Delivery.objects.filter(event=events[1]).update(status="DELIVERED", tries=1, last_status=200)
    address = reverse("admin:loyalty_webhook_change", args=[webhook.pk])
    rows = staff.get(address).context["deliveries"]["rows"]
    assert [events[0].event_id in rows[0][0], events[2].event_id in rows[1][0]] == [True, True]
    assert rows[0][-1] == "broken <b>"
    for _ in range(5):
        event_of(world)
    assert count_queries(lambda: page(staff, "loyalty_webhook_change", webhook.id)) == few
    viewer = User.objects.create_user("vik", is_staff=True)
    for codename in ("view_webhook", "view_delivery"):
        viewer.user_permissions.add(Permission.objects.get(codename=codename))
    OrgAccess.objects.create(user=viewer, org=world.org)
    client = Client()
    client.force_login(viewer)
    assert "broken" not in page(client, "loyalty_webhook_change", webhook.id)


def test_failing_webhooks_come_first_in_the_list(world: World, staff: Client) -> None:
    hooks = [make_webhook(world.org) for _ in range(3)]
    Webhook.objects.filter(pk=hooks[0].pk).update(failure_count=3)
    Webhook.objects.filter(pk=hooks[1].pk).update(is_active=False, disabled_at=timezone.now(), disabled_reason="410")
    text = staff.get(f"/admin/loyalty/webhook/?org={world.org.id}").content.decode()
    assert text.index(f">{hooks[1].name}<") < text.index(f">{hooks[0].name}<") < text.index(f">{hooks[2].name}<")
    assert "disabled by its receiver" in text


def test_change_of_a_webhook_by_staff_is_stored_and_recorded(world: World, staff: Client) -> None:
    webhook = make_webhook(world.org)
    values = {"url": "https://new.example/", "event_names": ["pointsRedeemed"], "reason": "Moved."}
    page(staff, "loyalty_webhook_change", webhook.id, data=values)
    webhook.refresh_from_db()
    changed = (webhook.url, webhook.event_names, webhook.is_active)
    assert changed == ("https://new.example/", "pointsRedeemed", False)
    kept = StaffChange.objects.get(subject="loyalty.webhook", subject_id=str(webhook.id))
    assert (kept.before, kept.after, kept.reason) == (
        {"url": URL, "event_names": "pointsRedeemed,redeemedPointsReversed,customersMerged", "is_active": True},
        {"url": "https://new.example/", "event_names": "pointsRedeemed", "is_active": False},
        "Moved.",
    )


def test_staff_enable_a_webhook_that_its_receiver_disabled(world: World, staff: Client) -> None:
    webhook = make_webhook(world.org)
    Webhook.objects.filter(id=webhook.id).update(
        is_active=False, disabled_at=timezone.now(), disabled_reason="410", failure_count=3, rests_until=days_ago(0)
    )
    values = {"url": webhook.url, "event_names": webhook.event_names.split(","), "is_active": "on", "reason": "Back."}
    page(staff, "loyalty_webhook_change", webhook.id, data=values)
    webhook.refresh_from_db()
    assert (webhook.is_active, webhook.disabled_at, webhook.disabled_reason) == (True, None, "")
    assert (webhook.failure_count, webhook.rests_until, webhook.rest_reason) == (0, None, "")


def test_pages_say_until_when_and_why_a_webhook_rests(world: World, staff: Client) -> None:
    webhook = make_webhook(world.org)
    event = event_of(world)
    delivery = Delivery.objects.get(event=event)
    shown = [
        ("loyalty_webhook_changelist", ()),
        ("loyalty_webhook_change", (webhook.id,)),
        ("reversals_delivery_changelist", ()),
        ("reversals_event_change", (event.pk,)),
    ]
    ended = dict.fromkeys(shown, False)
    for rests_until, expected in [(in_days(1), dict.fromkeys(shown, True)), (days_ago(1), ended)]:
        Webhook.objects.update(rests_until=rests_until, rest_reason="SLOW")
        text = f"until {rests_until:%Y-%m-%d %H:%M:%S} UTC, because the receiver answers slowly"
        assert {each: text in page(staff, each[0], *each[1]) for each in shown} == expected
    Webhook.objects.update(rests_until=in_days(1))
    Delivery.objects.filter(pk=delivery.pk).update(status="DELIVERED")
    assert "answers slowly" not in page(staff, "reversals_delivery_changelist")


def test_staff_find_a_delivery_by_its_event_and_send_it_again(world: World, staff: Client) -> None:
    make_webhook(world.org)
    event, other = event_of(world), event_of(world)
    Delivery.objects.filter(org=world.org).update(status="GIVEN_UP", last_status=400, last_answer="no such customer")
    wanted = Delivery.objects.get(event=event)
    listed = staff.get(reverse("admin:reversals_delivery_changelist"), {"q": event.event_id}).content.decode()
    assert event.event_id in listed
    assert other.event_id not in listed
    assert "no such customer" in page(staff, "reversals_delivery_change", wanted.pk)
    page(staff, "reversals_delivery_changelist", data={"action": "deliver_again", "_selected_action": [wanted.pk]})
    wanted.refresh_from_db()
    assert (wanted.status, wanted.due_at <= timezone.now()) == ("PENDING", True)
    assert Delivery.objects.get(event=other).status == "GIVEN_UP"


def test_users_who_may_only_view_deliveries_cannot_send_them_again(world: World) -> None:
    make_webhook(world.org)
    delivery = Delivery.objects.get(event=event_of(world))
    Delivery.objects.filter(id=delivery.id).update(status="DELIVERED")
    viewer = User.objects.create_user("vik", is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_delivery"))
    OrgAccess.objects.create(user=viewer, org=world.org)
    client = Client()
    client.force_login(viewer)
    page(client, "reversals_delivery_changelist", data={"action": "deliver_again", "_selected_action": [delivery.pk]})
    delivery.refresh_from_db()
    assert delivery.status == "DELIVERED"
