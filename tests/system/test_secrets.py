"""No secret leaks: a broad run with known secrets, followed by a search for them in logs, database and answers."""

import io
import json
import logging
import os
import re
import secrets
import subprocess
import sys
from base64 import b32decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.conf import settings as project
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse
from django_otp.oath import totp

from loyalty.clients.credentials import md5_form, webhook_secret
from loyalty.models import ApiClient, Webhook
from reversals.movements.reverse import movement
from tests.builders import World, basic, make_webhook, operator_of, redeemed, request_for, staff_of

pytestmark = pytest.mark.django_db

PASSWORD = "correct horse battery staple"
CODE_PAGE, NEW_PAGE = "/admin/second-factor/", "/admin/second-factor/new/"
# The columns where third-party packages store sessions and second factors in plain text, because they look them up.
KEPT = {
    ("a session", "django_session.session_key"),
    ("the key of a second factor", "otp_totp_totpdevice.key"),
    ("a recovery code", "otp_static_statictoken.token"),
}


@dataclass
class Run:
    """The secrets that a run knows, and every text that it left behind, with the place."""

    secrets: list[tuple[str, str]] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)

    def knows(self, name: str, secret: str) -> str:
        """Records a secret, which must be long enough not to occur in a text by chance."""
        assert len(secret) >= 8
        self.secrets.append((name, secret))
        return secret

    def read(self, response: HttpResponse) -> HttpResponse:
        """Records the body and the headers of an answer, except for the cookies, which belong to the visitor."""
        headers = " ".join(f"{name}: {value}" for name, value in response.items())
        self.texts.append(("an answer", headers + response.content.decode()))
        return response

    def read_database(self) -> None:
        with connection.cursor() as cursor:
            for table in connection.introspection.table_names():
                cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
                columns = [column[0] for column in cursor.description]
                for row in cursor.fetchall():
                    self.texts += [
                        (f"{table}.{column}", str(value)) for column, value in zip(columns, row, strict=True)
                    ]

    def found(self) -> set[tuple[str, str]]:
        """The name of each secret that was found, with the place."""
        return {(name, place) for place, text in self.texts for name, secret in self.secrets if secret in text}


class Listener(logging.Handler):
    """Records every log message, formatted as a handler would write it."""

    def __init__(self, run: Run) -> None:
        super().__init__(logging.DEBUG)
        self.run = run
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.run.texts.append(("the log", f"{self.format(record)} {vars(record)}"))


@pytest.fixture
def run() -> Iterator[Run]:
    """A run that records every logger at DEBUG, except for loggers whose level the project sets."""
    run = Run()
    listener = Listener(run)
    leveled = {name for name, logger in project.LOGGING["loggers"].items() if "level" in logger}
    named = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name not in leveled]
    before = [(logger, logger.level, logger.filters[:]) for logger in (logging.root, *named)]
    for logger, _, _ in before:
        logger.setLevel(logging.DEBUG)
        logger.filters.clear()
        logger.addHandler(listener)
    yield run
    for logger, level, filters in before:
        logger.setLevel(level)
        logger.filters[:] = filters
        logger.removeHandler(listener)


def command(run: Run, *words: str, shows: str = "") -> dict[str, Any]:
    """Runs a command and records its output, except for the key `shows`, which it prints on purpose."""
    output, errors = io.StringIO(), io.StringIO()
    try:
        call_command(*words, "--json", stdout=output, stderr=errors)
    except CommandError as error:
        run.texts.append(("a command", str(error)))
    printed = output.getvalue()
    result: dict[str, Any] = json.loads(printed) if printed else {}
    shown = result.pop(shows, None)
    run.texts.append(("a command", f"{json.dumps(result)} {errors.getvalue()}"))
    return result | ({shows: shown} if shows else {})


def knows_credentials(run: Run, username: str, secret: str) -> str:
    """Records the secret of an API client in each form that is sent over the wire, and returns it."""
    run.knows("an API secret", secret)
    run.knows("the MD5 of an API secret", md5_form(secret))
    for password in (secret, md5_form(secret)):
        run.knows("credentials", b64encode(f"{username}:{password}".encode()).decode())
    return secret


def run_commands(run: Run, world: World) -> None:
    org = str(world.org.id)
    made = command(run, "create_api_client", org, "till.7", shows="secret")
    knows_credentials(run, "till.7", made["secret"])
    given = knows_credentials(run, "till.8", secrets.token_urlsafe(32))
    for _ in range(2):
        command(run, "create_api_client", org, "till.8", "--secret", given, shows="secret")
    run.knows("a secret too short", short := secrets.token_hex(8))
    command(run, "create_api_client", org, "till.9", "--secret", short)
    hook = command(run, "create_webhook", org, "shop", "https://shop.invalid/events", shows="secret")
    run.knows("the secret of a webhook", hook["secret"])
    redemption = redeemed(world, 10)
    operator_of(world, username="meera")
    command(run, "reverse_points", org, redemption.public_id, "--points", "1", "--reason", "why", "--by", "meera")
    command(run, "reverse_points", org, "nobody", "--reason", "why", "--by", "meera")
    command(run, "deliver_events", "--once")
    command(run, "verify_ledger")


def run_calls(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = knows_credentials(run, world.username, world.secret)
    redemption = redeemed(world, 10)
    run.read(world.reverse(redemption, 1, key="key-1"))
    run.read(world.reverse(redemption, 1, key="key-1"))
    run.read(world.reverse(redemption, 99))
    run.read(world.reverse(redemption, 1, password=md5_form(secret)))
    wrong = knows_credentials(run, world.username, secrets.token_urlsafe(32))
    for _ in range(4):
        run.read(world.reverse(redemption, 1, password=wrong))
    run.read(world.ask(b'{"redemptionId": ', content_type="application/json"))
    run.read(world.ask(request_for(redemption, "x")))
    for header in (f"Bearer {secret}", f"Basic {secret}", basic(secret, world.username), secret):
        run.read(Client(headers={"Authorization": header}).get("/v2/points/reversals"))
    for address in ("/v2/points/reversals", f"/v2/points/redemptions/{redemption.public_id}", "/nowhere", "/docs/"):
        run.read(world.read(address))
    run.read(world.till().get("/v2/points/reversals", headers={"host": "elsewhere.example"}))

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("unforeseen")

    with monkeypatch.context() as patched:
        patched.setattr(movement.rules, "check_org", fail)
        assert run.read(world.reverse(redemption, 1)).status_code == 500


def run_sign_in(run: Run, world: World) -> None:
    staff_of(world, "Back-end team", username="arun")
    user = User.objects.get(username="arun")
    user.set_password(run.knows("a password", PASSWORD))
    user.save()
    client = Client()
    wrong = run.knows("a wrong password", "wrong horse battery staple")
    for password in (wrong, PASSWORD):
        run.read(client.post("/admin/login/", {"username": "arun", "password": password}))
    page = client.get(NEW_PAGE).content.decode()
    in_text = re.search(r'id="key">([A-Z2-7 ]+)<', page)[1]  # type: ignore[index]
    key = b32decode(in_text.replace(" ", ""))
    for written in (key.hex(), in_text, in_text.replace(" ", "")):
        run.knows("the key of a second factor", written)
    codes = client.post(NEW_PAGE, {"code": f"{totp(key):06d}"}).content.decode()
    for code in re.findall(r'text-important">(\w{8})</code>', codes):
        run.knows("a recovery code", code)
    recovery = run.secrets[-1][1]
    run.read(client.get("/admin/"))

    again = Client()
    run.read(again.post("/admin/login/", {"username": "arun", "password": PASSWORD}))
    for code in (recovery, "000000"):
        run.read(again.post(CODE_PAGE, {"code": code}))
    for each in (client, again):
        run.knows("a session", each.cookies["sessionid"].value)
    new = run.knows("a new password", "another horse battery staple")
    for old in (wrong, PASSWORD):
        passwords = {"old_password": old, "new_password1": new, "new_password2": new}
        run.read(client.post("/admin/password_change/", passwords))
    assert User.objects.get(username="arun").check_password(new)
    run.read(Client().post("/admin/login/", {"username": "arun", "password": wrong}))


def run_back_office(run: Run, world: World) -> None:
    root = User.objects.create_superuser("root", password="a long password")
    client = Client()
    client.force_login(root)
    run.knows("a session", client.cookies["sessionid"].value)
    reason = {"reason": "A new till."}

    def post_for_secret(address: str, **values: object) -> str:
        page = client.post(address, values | reason).content.decode()
        return re.search(r'id="secret">([^<]+)<', page)[1]  # type: ignore[index]

    added = post_for_secret(reverse("admin:loyalty_apiclient_add"), org=world.org.id, username="till.10")
    knows_credentials(run, "till.10", added)
    till = ApiClient.objects.get(org=world.org, username="till.10")
    knows_credentials(run, "till.10", post_for_secret(reverse("admin:loyalty_apiclient_issue", args=[till.pk])))
    run.read(client.get(reverse("admin:loyalty_apiclient_change", args=[till.pk])))
    webhook = make_webhook(world.org)
    run.knows("the secret of a webhook", webhook_secret(webhook.id))
    for name in ("loyalty_webhook_changelist", "loyalty_staffchange_changelist", "reversals_attempt_changelist"):
        run.read(client.get(reverse(f"admin:{name}")))
    passwords = {"password1": PASSWORD, "password2": PASSWORD}
    run.read(client.post(reverse("admin:auth_user_set_password", args=[root.pk]), passwords | reason))
    assert Webhook.objects.filter(org=world.org).count() == 2


@pytest.fixture
def whole_run(
    run: Run, world: World, settings: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """A run through every entry point, with second factor and limits on."""
    settings.STAFF_SECOND_FACTOR = True
    settings.API_FAILED_LOGINS_PER_MINUTE = 3
    run.knows("SECRET_KEY", settings.SECRET_KEY)
    run.knows("API_PEPPER", settings.API_PEPPER)
    run_commands(run, world)
    run_calls(run, world, monkeypatch)
    run_sign_in(run, world)
    settings.STAFF_SECOND_FACTOR = False
    run_back_office(run, world)
    run.texts += [("the output", text) for text in capfd.readouterr()]
    run.read_database()
    return run


def test_secrets_are_found_only_in_known_columns(whole_run: Run) -> None:
    assert whole_run.found() == KEPT


def test_run_collects_text_from_every_place(whole_run: Run) -> None:
    """Otherwise the search would find nothing because there is nothing to search."""
    places = {place for place, _ in whole_run.texts}
    assert {"an answer", "a command", "the log", "the output", "reversals_attempt.reply"} <= places
    assert {"axes_accessattempt.post_data", "loyalty_staffchange.after", "django_session.session_data"} <= places
    assert sum(place == "the log" for place, _ in whole_run.texts) > 10
    assert len({name for name, _ in whole_run.secrets}) == 13


def test_planted_secret_is_found(run: Run, world: World) -> None:
    secret = knows_credentials(run, world.username, world.secret)
    try:
        raise ValueError(secret)
    except ValueError:
        logging.getLogger("django.request").debug("a call failed", exc_info=True)
    logging.getLogger("loyalty.somewhere").info("it was sent as %s", basic(world.username, secret))
    run.read(HttpResponse(md5_form(secret)))
    world.org.name = f"Brand {secret}"
    world.org.save()
    run.read_database()
    assert run.found() == {
        ("an API secret", "the log"),
        ("credentials", "the log"),
        ("the MD5 of an API secret", "an answer"),
        ("an API secret", "loyalty_org.name"),
    }


@pytest.mark.parametrize(
    "url",
    [
        "postgres://loyalty:{password}@127.0.0.1:1/name",
        "postgres://loyalty:{password}@127.0.0.1:port/name",
        "oracle://loyalty:{password}@127.0.0.1:1/name",
        "{password}",
    ],
)
def test_command_that_cannot_start_prints_no_secret(url: str) -> None:
    known = {name: secrets.token_urlsafe(40) for name in ("SECRET_KEY", "API_PEPPER")}
    password = secrets.token_urlsafe(16)
    ended = subprocess.run(
        [sys.executable, "manage.py", "verify_ledger"],
        cwd=project.BASE_DIR,
        env=os.environ | known | {"DATABASE_URL": url.format(password=password)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode != 0
    run = Run(secrets=[("the database's password", password), *known.items()])
    run.texts += [("the output", ended.stdout), ("the errors", ended.stderr)]
    assert run.found() == set()
