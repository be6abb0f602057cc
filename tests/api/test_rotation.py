"""Secrets rotate without a stop: no till gets 401, nobody is signed out, receivers can check every event."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.core import signing
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django_otp.oath import totp
from django_otp.plugins.otp_totp.models import TOTPDevice

from config.settings import pepper_of
from loyalty.clients.credentials import md5_form, webhook_secret
from loyalty.models import ApiSecret, StaffChange, Webhook
from loyalty.webhooks import signing_secrets
from reversals.webhooks.signing import signature as signature_of
from reversals.webhooks.signing import signed_headers
from tests.api.test_headers import manage
from tests.builders import World, make_webhook, redeemed, staff_of

pytestmark = [pytest.mark.django_db, pytest.mark.once]

NEW = "a new pepper of more than 32 characters"


@pytest.fixture
def rotate(settings: Any) -> Callable[[], None]:
    """Makes NEW the pepper, and the present one a former one."""

    def rotate() -> None:
        settings.API_PEPPER_FORMER = [settings.API_PEPPER]
        settings.API_PEPPER = NEW

    return rotate


def run(name: str, *words: str) -> dict[str, Any]:
    said = io.StringIO()
    call_command(name, *words, "--json", stdout=said)
    return dict(json.loads(said.getvalue()))


def statements(world: World, redemption: Any, **options: Any) -> list[str]:
    with CaptureQueriesContext(connection) as captured:
        assert world.reverse(redemption, 1, **options).status_code == 200
    return [each["sql"].split()[0] for each in captured.captured_queries]


def test_client_is_hashed_anew_when_it_calls_and_then_needs_no_former_pepper(
    world: World, rotate: Callable[[], None], settings: Any
) -> None:
    redemption = redeemed(world, 10)
    assert world.reverse(redemption, 1).status_code == 200  # the first call of an hour records its time
    usual = statements(world, redemption, key="usual")
    rotate()
    assert run("hashed_secrets")["clients"] == [f"{world.org.id} till.1"]
    assert statements(world, redemption, key="1").count("UPDATE") == usual.count("UPDATE") + 1
    assert len(statements(world, redemption, key="2")) == len(usual)
    assert run("hashed_secrets") == {"current": 1, "former": 0, "clients": []}
    settings.API_PEPPER_FORMER = []
    assert world.reverse(redemption, 1, key="3").status_code == 200
    assert world.reverse(redemption, 1, key="4", password=md5_form(world.secret)).status_code == 200


def test_client_that_sends_the_md5_is_hashed_anew_in_that_form(
    world: World, rotate: Callable[[], None], settings: Any
) -> None:
    redemption = redeemed(world, 10)
    rotate()
    assert world.reverse(redemption, 1, password=md5_form(world.secret)).status_code == 200
    assert world.reverse(redemption, 2).status_code == 200  # the other form still has the former hash
    settings.API_PEPPER_FORMER = []
    assert world.reverse(redemption, 3, password=md5_form(world.secret)).status_code == 200


def test_wrong_secret_is_401_with_former_peppers_too(world: World, rotate: Callable[[], None]) -> None:
    redemption = redeemed(world, 10)
    rotate()
    assert world.reverse(redemption, 1, password="wrong").status_code == 401
    assert run("hashed_secrets")["former"] == 1


def test_servers_with_two_peppers_do_not_take_turns_in_hashing(world: World, settings: Any) -> None:
    redemption, first = redeemed(world, 10), settings.API_PEPPER
    hashed_at = set()
    for number in range(6):  # the calls of a till reach the servers in turn
        settings.API_PEPPER, settings.API_PEPPER_FORMER = (first, [NEW]) if number % 2 else (NEW, [first])
        assert world.reverse(redemption, 1, key=f"{number}").status_code == 200
        hashed_at |= set(ApiSecret.objects.filter(org=world.org).values_list("hashed_at", flat=True))
    assert len(hashed_at) == 1


def test_key_of_before_the_rotation_replays_afterwards(world: World, rotate: Callable[[], None]) -> None:
    redemption = redeemed(world, 10)
    first = world.reverse(redemption, 2, key="key-1")
    rotate()
    again = world.reverse(redemption, 2, key="key-1")
    assert (again.status_code, again.content, again["Idempotent-Replayed"]) == (200, first.content, "true")
    assert world.reverse(redemption, 3, key="key-1").status_code == 422


def test_new_secret_key_keeps_the_derived_pepper_as_a_former_one() -> None:
    script = "import django.conf; s = django.conf.settings; print(s.API_PEPPER, *s.API_PEPPER_FORMER)"
    old, new = "o" * 50, "n" * 50
    said = manage("shell", "-v0", "-c", script, SECRET_KEY=new, SECRET_KEY_FALLBACKS=old, API_PEPPER="")
    assert said.stdout.split() == [pepper_of(new), pepper_of(old)]
    said = manage(
        "shell", "-v0", "-c", script, SECRET_KEY=new, SECRET_KEY_FALLBACKS=old, API_PEPPER=NEW.replace(" ", "-")
    )
    assert said.stdout.split() == [NEW.replace(" ", "-"), pepper_of(old)]


def test_nobody_is_signed_out_by_a_new_secret_key(world: World, settings: Any) -> None:
    staff = staff_of(world, "Back-end team")
    key = staff.cookies["sessionid"].value
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "n" * 50
    assert staff.get("/admin/").status_code == 200
    assert staff.cookies["sessionid"].value == key
    settings.SECRET_KEY_FALLBACKS = []
    assert staff.get("/admin/").status_code == 200
    settings.SECRET_KEY = "without a fallback" * 3
    assert staff.get("/admin/").status_code == 302


def test_page_that_was_open_when_the_secret_key_changed_can_still_be_sent(world: World, settings: Any) -> None:
    staff = Client(enforce_csrf_checks=True)
    staff.cookies = staff_of(world, "Back-end team").cookies
    token = staff.get("/admin/").context["csrf_token"]
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "n" * 50
    assert staff.post("/admin/logout/", {"csrfmiddlewaretoken": str(token)}).status_code in {200, 302}
    assert staff.get("/admin/").status_code == 302


def test_links_and_second_factors_of_the_former_key_are_valid(world: World, settings: Any) -> None:
    settings.STAFF_SECOND_FACTOR = True
    staff = staff_of(world, "Back-end team")
    user = User.objects.get(username="meera")
    device = TOTPDevice.objects.create(user=user, name="app", confirmed=True)
    link, signed = default_token_generator.make_token(user), signing.dumps("export")
    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "n" * 50
    assert default_token_generator.check_token(user, link)
    assert signing.loads(signed) == "export"
    code = f"{totp(device.bin_key):06d}"
    assert staff.post("/admin/second-factor/", {"code": code}).status_code == 302
    assert staff.get("/admin/").status_code == 200


def signatures(webhook: Webhook) -> list[str]:
    headers = signed_headers(secrets=signing_secrets(webhook), event_id="e", timestamp=1, body=b"{}")
    return headers["webhook-signature"].split(" ")


def signature(secret: str) -> str:
    return signature_of(secret=secret, event_id="e", timestamp=1, body=b"{}")


def test_event_is_signed_with_both_secrets_until_the_former_one_is_ended(world: World) -> None:
    webhook = make_webhook(world.org)
    first = webhook_secret(webhook.id)
    said = run("rotate_webhook_secret", str(world.org.id), webhook.name, "--reason", "leaked")
    webhook.refresh_from_db()
    assert said["live_secrets"] == 2
    assert said["secret"] != first
    assert signatures(webhook) == [signature(said["secret"]), signature(first)]
    with pytest.raises(CommandError, match="end the former one first"):
        run("rotate_webhook_secret", str(world.org.id), webhook.name, "--reason", "again")
    ended = run("rotate_webhook_secret", str(world.org.id), webhook.name, "--reason", "done", "--end")
    webhook.refresh_from_db()
    assert (ended["secret"], signatures(webhook)) == (said["secret"], [signature(said["secret"])])
    with pytest.raises(CommandError, match="one live secret only"):
        run("rotate_webhook_secret", str(world.org.id), webhook.name, "--reason", "done", "--end")
    changes = StaffChange.objects.filter(subject_id=str(webhook.id)).order_by("id")
    assert [(each.action, each.reason) for each in changes] == [
        ("secret rotated", "leaked"),
        ("former secret ended", "done"),
    ]
    assert first not in str(list(changes.values()))
    assert said["secret"] not in str(list(changes.values()))


def test_event_is_signed_with_former_peppers_until_that_is_ended(world: World, rotate: Callable[[], None]) -> None:
    webhook = make_webhook(world.org)
    first = webhook_secret(webhook.id)
    assert signatures(webhook) == [signature(first)]
    rotate()
    assert signatures(webhook) == [signature(webhook_secret(webhook.id)), signature(first)]
    run("rotate_webhook_secret", str(world.org.id), webhook.name, "--reason", "leaked", "--end")
    webhook.refresh_from_db()
    assert signatures(webhook) == [signature(webhook_secret(webhook.id))]
    assert len(signatures(make_webhook(world.org))) == 1


def test_page_of_a_webhook_rotates_and_ends_its_secret(world: World) -> None:
    staff = staff_of(world, "Back-end team")
    webhook = make_webhook(world.org)
    page = f"/admin/loyalty/webhook/{webhook.id}/"
    assert f"{page}rotate/" in staff.get(f"{page}change/").content.decode()
    assert "signed with a new secret" in staff.get(f"{page}rotate/").content.decode()
    assert staff.post(f"{page}rotate/", {"reason": "leaked"}).status_code == 302
    webhook.refresh_from_db()
    shown = staff.post(f"{page}secret/", {"reason": "the receiver asks"}).content.decode()
    assert all(f'data-copy="{secret}"' in shown for secret in signing_secrets(webhook))
    assert f"{page}end/" in staff.get(f"{page}change/").content.decode()
    assert staff.post(f"{page}end/", {"reason": "done"}).status_code == 302
    webhook.refresh_from_db()
    assert len(signing_secrets(webhook)) == 1
