"""Tests the management commands: their effects, their output with --json, their errors and exit codes."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection, models, transaction

from loyalty.clients.credentials import md5_form
from loyalty.ledger.distribution import is_distributed
from loyalty.ledger.merging import merge_customers
from loyalty.models import (
    ApiClient,
    ApiSecret,
    CoveringLine,
    CustomerMerge,
    EmfChange,
    EmfSetting,
    Lot,
    Org,
    Program,
    Redemption,
)
from reversals.assurance.verification import LAWS
from reversals.models import Attempt, Delivery, LedgerCheck, Reversal
from tests.builders import (
    World,
    changes_of,
    correct,
    days_ago,
    in_days,
    make_customer,
    make_lot,
    make_org,
    make_program,
    make_webhook,
    make_world,
    operator_of,
    points,
    redeem,
    redeemed,
    request_for,
    set_value,
)

pytestmark = pytest.mark.django_db

ORG_ID = 900_001
SECRET = "0123456789abcdef0123456789abcdef"


def run(*words: object) -> dict[str, Any]:
    """Runs the command with --json and returns its output, which must be one JSON object."""
    return json.loads(printed(*words, "--json"))


def printed(*words: object) -> str:
    output = io.StringIO()
    call_command(*map(str, words), stdout=output)
    return output.getvalue()


def refusal_of(*words: object) -> str:
    """Returns the error message of a command that exits with 1 and prints nothing on stdout."""
    output = io.StringIO()
    with pytest.raises(CommandError) as refused:
        call_command(*map(str, words), "--json", stdout=output)
    assert refused.value.returncode == 1
    assert output.getvalue() == ""
    return str(refused.value)


# Every command


def run_in_subprocess(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a separate process, on an empty database."""
    environment = os.environ | {"DATABASE_URL": f"sqlite:///{folder / 'empty.sqlite3'}"}
    manage = [sys.executable, str(settings.BASE_DIR / "manage.py")]
    return subprocess.run([*manage, *words], env=environment, capture_output=True, text=True, check=False)


def test_refused_command_reports_on_stderr_and_exits_with_1(tmp_path: Path) -> None:
    (folder := tmp_path / "ledger").mkdir()
    done = run_in_subprocess(tmp_path, "import_ledger", str(folder), "--json")
    expected = f"CommandError: {folder} contains no customers.csv, points.csv or redemptions.csv (or .csv.gz)\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", expected)


def test_database_without_tables_is_reported_without_a_traceback(tmp_path: Path) -> None:
    done = run_in_subprocess(tmp_path, "create_org", "7", "Brand", "--json")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "CommandError: the database failed (no such table: loyalty_org); check that it is reachable and migrated\n"
    )


@pytest.mark.parametrize(
    "words",
    [
        ("create_org", "seven", "Brand"),
        ("create_org", "7"),
        ("create_program", 7, "main", "Main"),
        ("create_api_client", 7),
        ("set_emf", 7, "Reversal_paused", "yes", "--reason", "R"),
        ("set_emf", 7, "Reversal_paused", "yes", "--ticket", "T"),
        ("import_ledger",),
        ("reverse_points", 7, "R1", "--reason", "R"),
        ("reverse_points", 7, "R1", "--by", "asha"),
        ("verify_ledger", "--org", "seven"),
        ("purge_attempts",),
        ("purge_attempts", "--older-than", "week"),
        ("create_webhook", 7, "shop"),
        ("deliver_events", "once"),
        ("purge_events",),
    ],
    ids=lambda words: " ".join(map(str, words)),
)
def test_missing_or_invalid_argument_is_refused(words: tuple[object, ...]) -> None:
    assert refusal_of(*words).startswith("Error: ")


@pytest.mark.parametrize(
    "words",
    [
        ("create_program", ORG_ID, 1, "Main"),
        ("create_api_client", ORG_ID, "till.1"),
        ("create_webhook", ORG_ID, "shop", "https://shop.example/"),
        ("set_emf", ORG_ID, "Reversal_paused", "yes", "--ticket", "T", "--reason", "R"),
        ("reverse_points", ORG_ID, "R1", "--reason", "R", "--by", "ravi"),
        ("verify_ledger", "--org", ORG_ID),
    ],
    ids=lambda words: words[0],
)
def test_a_command_for_an_unknown_org_is_refused(words: tuple[object, ...]) -> None:
    assert refusal_of(*words) == f"org {ORG_ID} does not exist; create it with create_org"


def test_without_json_a_command_prints_one_line_for_each_value() -> None:
    expected = f"org_id: {ORG_ID}\nname: Brand\ncountry: IN\ntime_zone: UTC\nv2_enabled: True\n"
    assert printed("create_org", ORG_ID, "Brand") == expected


# create_org and create_program


def test_create_org_defaults_to_an_active_org_in_india_with_the_v2_api() -> None:
    assert run("create_org", ORG_ID, "Brand") == {
        "org_id": ORG_ID,
        "name": "Brand",
        "country": "IN",
        "time_zone": "UTC",
        "v2_enabled": True,
    }
    org = Org.objects.get(id=ORG_ID)
    assert (org.name, org.country, org.v2_enabled, org.is_active) == ("Brand", "IN", True, True)


def test_create_org_accepts_a_country_a_time_zone_and_no_v2() -> None:
    created = run("create_org", ORG_ID, "Brand", "--country", "vn", "--no-v2", "--time-zone", "Asia/Ho_Chi_Minh")
    chosen = {"country": "VN", "time_zone": "Asia/Ho_Chi_Minh", "v2_enabled": False}
    assert created == {"org_id": ORG_ID, "name": "Brand"} | chosen
    org = Org.objects.get(id=ORG_ID)
    assert {name: getattr(org, name) for name in chosen} == chosen


def test_create_org_refuses_an_unknown_time_zone() -> None:
    assert "Mars/Olympus is not a time zone" in refusal_of("create_org", ORG_ID, "Brand", "--time-zone", "Mars/Olympus")


def test_create_org_refuses_an_id_in_use() -> None:
    org = make_org()
    assert refusal_of("create_org", org.id, "Brand") == f"org {org.id} exists already"
    assert Org.objects.get(id=org.id).name == org.name


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((0, "Brand"), "Constraint “org_id_positive” is violated."),
        ((ORG_ID, ""), "name: This field cannot be blank."),
        ((ORG_ID, "Brand", "--country", "I1"), "country: Two capital letters (ISO 3166), such as IN, VN or US."),
        (
            (ORG_ID, "Brand", "--country", "IND"),
            "country: Two capital letters (ISO 3166), such as IN, VN or US.; "
            "country: Ensure this value has at most 2 characters (it has 3).",
        ),
        ((ORG_ID, "b" * 201), "name: Ensure this value has at most 200 characters (it has 201)."),
    ],
    ids=["id 0", "no name", "country with a digit", "country of three letters", "long name"],
)
def test_create_org_refuses_invalid_values(words: tuple[object, ...], message: str) -> None:
    before = Org.objects.count()
    assert refusal_of("create_org", *words) == message
    assert Org.objects.count() == before


def test_create_program_creates_an_active_program_in_the_org() -> None:
    org = make_org()
    assert run("create_program", org.id, 973, "Main") == {"org_id": org.id, "program_id": 973, "name": "Main"}
    program = Program.objects.get(org=org)
    assert (program.public_id, program.name, program.is_active) == (973, "Main", True)


def test_create_program_refuses_an_id_in_use_in_the_org(world: World) -> None:
    taken = world.program.public_id
    assert refusal_of("create_program", world.org.id, taken, "Other") == (
        f"org {world.org.id} already has a program {taken}"
    )
    assert Program.objects.get(org=world.org).name == "Main"


def test_two_orgs_can_have_programs_with_the_same_id(world: World) -> None:
    other, public_id = make_org(), world.program.public_id
    created = run("create_program", other.id, public_id, "Main")
    assert created == {"org_id": other.id, "program_id": public_id, "name": "Main"}


# create_api_client


def test_create_api_client_prints_a_secret_that_the_api_accepts(world: World) -> None:
    created = run("create_api_client", world.org.id, "till.2")
    secret = created.pop("secret")
    assert created == {"org_id": world.org.id, "username": "till.2"}
    assert len(secret) == 43
    assert world.reverse(redeemed(world), 1, user="till.2", password=secret).status_code == 200
    assert world.reverse(redeemed(world), 1, user="till.2", password=md5_form(secret)).status_code == 200


def test_create_api_client_stores_no_secret_in_plain_text(world: World) -> None:
    run("create_api_client", world.org.id, "till.2", "--secret", SECRET)
    kept = ApiSecret.objects.get(org=world.org, client__username="till.2")
    assert SECRET not in (kept.digest, kept.md5_digest)
    assert md5_form(SECRET) not in (kept.digest, kept.md5_digest)


def test_create_api_client_accepts_a_secret_of_32_characters(world: World) -> None:
    created = run("create_api_client", world.org.id, "till.2", "--secret", SECRET)
    assert created == {"org_id": world.org.id, "username": "till.2", "secret": SECRET}
    assert world.reverse(redeemed(world), 1, user="till.2", password=SECRET).status_code == 200


def test_create_api_client_refuses_a_secret_of_31_characters_and_creates_no_client(world: World) -> None:
    message = refusal_of("create_api_client", world.org.id, "till.2", "--secret", SECRET[1:])
    assert message == "the secret has 31 characters; expected at least 32"
    assert not ApiClient.objects.filter(org=world.org, username="till.2").exists()


def test_create_api_client_refuses_a_username_in_use_in_the_org(world: World) -> None:
    message = refusal_of("create_api_client", world.org.id, world.username)
    assert message == f"org {world.org.id} already has an API client {world.username}"
    assert ApiSecret.objects.filter(org=world.org).count() == 1


@pytest.mark.parametrize("username", ["", "till:1", "till\n1"], ids=["empty", "colon", "line break"])
def test_create_api_client_refuses_a_username_that_is_invalid_in_http_basic(world: World, username: str) -> None:
    assert refusal_of("create_api_client", world.org.id, username) == (
        "an API username must be printable and contain no colon, because a colon ends it in HTTP Basic"
    )


def test_create_api_client_refuses_credentials_in_use_in_another_org(world: World) -> None:
    run("create_api_client", make_org().id, "till.2", "--secret", SECRET)
    message = refusal_of("create_api_client", world.org.id, "till.2", "--secret", SECRET)
    assert message == "another API client uses this username and secret; choose another secret"
    assert not ApiClient.objects.filter(org=world.org, username="till.2").exists()


# set_emf


def set_emf(world: World, key: str, value: str, *words: object) -> dict[str, Any]:
    return run("set_emf", world.org.id, key, value, "--ticket", "T-1", "--reason", "asked by ops", *words)


def refusal_of_set_emf(world: World, key: str, value: str, *words: object) -> str:
    """Returns the error message of a refused setting, and checks that no value and no change was stored."""
    before = (stored(world), len(history(world)))
    message = refusal_of("set_emf", world.org.id, key, value, "--ticket", "T-1", "--reason", "asked by ops", *words)
    assert (stored(world), len(history(world))) == before
    return message


def stored(world: World) -> set[tuple[int | None, str, str]]:
    settings_of_org = EmfSetting.objects.filter(org=world.org)
    return set(settings_of_org.values_list("program__public_id", "key", "value"))


def history(world: World) -> list[tuple[str, str, str]]:
    changes = changes_of(world.org)
    return list(changes.values_list("key", "old_value", "new_value"))


SWITCH = (None, "Allow_points_redemption_reversal", "yes")


def test_set_emf_stores_a_value_for_the_org(world: World) -> None:
    assert set_emf(world, "Reversal_window_days", "90") == {
        "org_id": world.org.id,
        "program_id": None,
        "key": "Reversal_window_days",
        "old_value": "",
        "new_value": "90",
        "ticket": "T-1",
    }
    assert stored(world) == {SWITCH, (None, "Reversal_window_days", "90")}


def test_set_emf_stores_a_value_for_one_program(world: World) -> None:
    public_id = world.program.public_id
    assert set_emf(world, "Reversal_window_days", "90", "--program", public_id) == {
        "org_id": world.org.id,
        "program_id": public_id,
        "key": "Reversal_window_days",
        "old_value": "",
        "new_value": "90",
        "ticket": "T-1",
    }
    assert stored(world) == {SWITCH, (public_id, "Reversal_window_days", "90")}


def test_set_emf_takes_effect_at_the_next_request(world: World) -> None:
    redemption = redeemed(world)
    set_emf(world, "Allow_points_redemption_reversal", "no")
    assert world.reverse(redemption, 1).json()["errors"][0]["code"] == 818
    set_emf(world, "Allow_points_redemption_reversal", "yes")
    assert world.reverse(redemption, 1).status_code == 200


def test_set_emf_records_who_changed_what_when_and_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGNAME", "meera")
    set_emf(world, "Reversal_window_days", "90")
    set_emf(world, "Reversal_window_days", "60", "--program", world.program.public_id)
    org_change, program_change = changes_of(world.org)
    for change, program, value in ((org_change, None, "90"), (program_change, world.program, "60")):
        assert (change.program, change.key) == (program, "Reversal_window_days")
        assert (change.old_value, change.new_value) == ("", value)
        assert (change.ticket, change.reason) == ("T-1", "asked by ops")
        assert change.changed_by == "meera (command)"
        assert days_ago(0.01) < change.changed_at < in_days(0.01)


def test_set_emf_records_the_old_value_of_each_change(world: World) -> None:
    for value in ("90", "60", ""):
        set_emf(world, "Reversal_window_days", value)
    key = "Reversal_window_days"
    assert history(world) == [(key, "", "90"), (key, "90", "60"), (key, "60", "")]


def test_set_emf_with_an_empty_value_removes_the_stored_one(world: World) -> None:
    set_emf(world, "Reversal_window_days", "90")
    set_emf(world, "Reversal_window_days", "60", "--program", world.program.public_id)
    removed = set_emf(world, "Reversal_window_days", "", "--program", world.program.public_id)
    assert (removed["old_value"], removed["new_value"]) == ("60", "")
    assert stored(world) == {SWITCH, (None, "Reversal_window_days", "90")}


def test_set_emf_refuses_an_unknown_key_and_suggests_a_similar_one(world: World) -> None:
    assert refusal_of_set_emf(world, "Reversal_windows_days", "90") == (
        "Reversal_windows_days is not an EMF setting; did you mean Reversal_window_days?"
    )


def test_set_emf_refuses_an_unknown_key_without_a_similar_one(world: World) -> None:
    assert refusal_of_set_emf(world, "Colour", "red") == "Colour is not an EMF setting; see the list of keys"


BAD_VALUES = [
    ("Allow_points_redemption_reversal", "perhaps", "expected yes or no"),
    ("Reversal_paused", "2", "expected yes or no"),
    ("Reversal_window_days", "0", "expected a whole number from 1 to 36500"),
    ("Reversal_window_days", "1.5", "expected a whole number from 1 to 36500"),
    ("Reversal_limit_count", "-1", "expected a whole number from 0 to 1000000000"),
    ("Reversal_limit_points", "-1", "expected points of 0 or more"),
    ("Reversal_limit_points", "1.0001", "expected points of 0 or more, at most 3 decimals"),
    ("Reversal_limit_days", "0", "expected a whole number from 1 to 36500"),
    ("Reversal_duplicate_window_seconds", "soon", "expected a whole number from 0 to 31536000"),
    ("Reversal_reissue_days", "0", "expected a whole number from 1 to 36500"),
    ("Reversal_approval_points", "many", "expected points of 0 or more, a number"),
    ("Reversal_error_dialect", "Engine", "expected documented or engine"),
]


@pytest.mark.parametrize(("key", "value", "expected"), BAD_VALUES)
def test_set_emf_refuses_an_invalid_value(world: World, key: str, value: str, expected: str) -> None:
    assert refusal_of_set_emf(world, key, value) == f"{key} cannot be '{value}': {expected}"


def test_set_emf_refuses_an_unknown_customer_status(world: World) -> None:
    assert refusal_of_set_emf(world, "Reversal_blocked_statuses", "FRAUD,GONE") == (
        "Reversal_blocked_statuses cannot be 'FRAUD,GONE': "
        "expected ACTIVE, FRAUD, DEACTIVATED or MERGED, separated by commas; not GONE"
    )


@pytest.mark.parametrize(("key", "value"), [("Reversal_paused", "yes"), ("Reversal_error_dialect", "engine")])
def test_set_emf_refuses_an_org_only_key_for_a_program(world: World, key: str, value: str) -> None:
    message = refusal_of_set_emf(world, key, value, "--program", world.program.public_id)
    assert message == f"{key} can be set for the org only, not for a program"


def test_set_emf_refuses_another_orgs_program(world: World) -> None:
    foreign = make_program(make_org()).public_id
    message = refusal_of_set_emf(world, "Reversal_window_days", "90", "--program", foreign)
    assert message == f"org {world.org.id} has no program {foreign}; create it with create_program"


@pytest.mark.parametrize(("ticket", "reason"), [(" ", "asked by ops"), ("T-1", " ")], ids=["no ticket", "no reason"])
def test_set_emf_refuses_a_change_without_ticket_or_reason(world: World, ticket: str, reason: str) -> None:
    words = (world.org.id, "Reversal_window_days", "90", "--ticket", ticket, "--reason", reason)
    assert refusal_of("set_emf", *words) == "a change of an EMF setting needs a ticket and a reason"
    assert (stored(world), history(world)) == ({SWITCH}, [])


# reverse_points


def reverse(world: World, redemption_id: str, *words: object) -> dict[str, Any]:
    operator_of(world)
    return run("reverse_points", world.org.id, redemption_id, "--reason", "till broke", "--by", "ravi", *words)


def refusal_of_reversal(world: World, redemption_id: str, *words: object) -> str:
    """Returns the error message of a refused manual reversal, and checks that no points were written."""
    operator_of(world)
    before = world.written()
    message = refusal_of(
        "reverse_points", world.org.id, redemption_id, "--reason", "till broke", "--by", "ravi", *words
    )
    assert world.written() == before
    return message


def test_reverse_points_reverses_all_remaining_points_by_default(world: World) -> None:
    redemption = redeemed(world, "12.5")
    answer = reverse(world, redemption.public_id)
    reversal = Reversal.objects.get(org=world.org)
    assert answer == {
        "org_id": world.org.id,
        "redemption_id": redemption.public_id,
        "reversal_id": reversal.public_id,
        "points": "12.5",
        "available": "12.5",
        "expired": "0",
    }
    assert world.written() == (1, 1, points("12.5"))


def test_partial_reverse_points_reports_available_and_expired_points(world: World) -> None:
    make_lot(world.asha, 4, program=world.program)
    make_lot(world.asha, 6, program=world.program, expires_at=days_ago(1))
    redemption = redeem(world.asha, 10, program=world.program, at=days_ago(2))
    answer = reverse(world, redemption.public_id, "--points", "5.25")
    assert (answer["points"], answer["available"], answer["expired"]) == ("5.25", "4", "1.25")
    assert world.written() == (1, 2, points("5.25"))


def test_reverse_points_records_user_channel_and_reason(world: World) -> None:
    redemption = redeemed(world, 10)
    reverse(world, redemption.public_id, "--points", "2")
    reversal = Reversal.objects.get(org=world.org)
    assert (reversal.channel, reversal.client, reversal.made_by, reversal.reason) == (
        "COMMAND",
        None,
        "ravi",
        "till broke",
    )
    [attempt] = world.attempts()
    assert (attempt.channel, attempt.client, attempt.made_by, attempt.reason) == ("COMMAND", None, "ravi", "till broke")
    assert (attempt.redemption_id_asked, attempt.points_asked) == (redemption.public_id, points(2))
    assert (attempt.reversal, attempt.code, attempt.rule) == (reversal, None, "")


def test_refused_reverse_points_prints_the_error_message_and_records_the_attempt(world: World) -> None:
    redemption = redeemed(world, 10)
    reason = "10.001 points requested, 10 remaining to reverse."
    message = refusal_of_reversal(world, redemption.public_id, "--points", "10.001")
    assert message == f"817 Points reversal failed due to insufficient points: {reason}"
    [attempt] = world.attempts()
    assert (attempt.channel, attempt.client, attempt.made_by, attempt.reason) == ("COMMAND", None, "ravi", "till broke")
    assert (attempt.redemption_id_asked, attempt.points_asked) == (redemption.public_id, points("10.001"))
    assert (attempt.code, attempt.rule, attempt.refusal_reason) == (817, "MORE_THAN_LEFT", reason)
    assert attempt.reversal is None


def test_reverse_points_of_another_orgs_redemption_is_804(world: World) -> None:
    foreign = redeemed(make_world())
    message = refusal_of_reversal(world, foreign.public_id)
    assert message.startswith("804 Unable to process points reversal request: ")
    assert [attempt.code for attempt in world.attempts()] == [804]


def test_reverse_points_refuses_a_reversal_id(world: World) -> None:
    reversal_id = reverse(world, redeemed(world).public_id)["reversal_id"]
    assert refusal_of_reversal(world, reversal_id) == (
        "827 Unable to reverse points; reversal is enabled: "
        f"{reversal_id} is a reversal, and a reversal cannot be reversed. Use the id of the redemption."
    )


def test_reverse_points_is_refused_while_the_switch_is_off(world: World) -> None:
    set_value(world.org, "Allow_points_redemption_reversal", "no")
    message = refusal_of_reversal(world, redeemed(world).public_id)
    assert message.startswith("818 Points reversal not allowed for this program: ")


def test_repeated_manual_reversal_is_refused_as_a_duplicate(world: World) -> None:
    redemption = redeemed(world, 10)
    earlier = reverse(world, redemption.public_id, "--points", "2")["reversal_id"]
    message = refusal_of_reversal(world, redemption.public_id, "--points", "2")
    assert message.startswith("902 Duplicate reversal request: ")
    assert earlier in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "expected more than 0"),
        ("-1", "expected more than 0"),
        ("1.0001", "expected at most 3 decimals"),
        ("all", "expected a number"),
        ("1000000000000", "expected at most 12 digits before the decimal point"),
    ],
)
def test_reverse_points_refuses_invalid_points(world: World, text: str, expected: str) -> None:
    assert refusal_of_reversal(world, redeemed(world).public_id, f"--points={text}") == f"--points: {expected}"


def test_reverse_points_refuses_an_empty_username(world: World) -> None:
    words = (world.org.id, redeemed(world).public_id, "--reason", "till broke", "--by", "")
    assert refusal_of("reverse_points", *words) == "made_by: This field cannot be blank."
    assert world.attempts() == []


def test_manual_reversal_above_the_approval_points_is_refused(world: World) -> None:
    set_value(world.org, "Reversal_approval_points", "10")
    redemption = redeemed(world, "10.001")
    assert refusal_of_reversal(world, redemption.public_id) == (
        "403 Points reversal needs approval: "
        "Reversal_approval_points allows 10 points of a redemption without approval: 10.001 requested."
        " A second user must approve the reversal in the back office."
    )
    assert [(attempt.code, attempt.rule) for attempt in world.attempts()] == [(403, "NEEDS_APPROVAL")]


def test_manual_reversal_of_exactly_the_approval_points_is_accepted(world: World) -> None:
    set_value(world.org, "Reversal_approval_points", "10")
    assert reverse(world, redeemed(world, "10.001").public_id, "--points", "10")["points"] == "10"


def test_approval_points_of_a_program_override_those_of_its_org(world: World) -> None:
    set_value(world.org, "Reversal_approval_points", "10")
    set_value(world.org, "Reversal_approval_points", "1", program=world.program)
    message = refusal_of_reversal(world, redeemed(world, 2).public_id)
    assert message.startswith(
        "403 Points reversal needs approval: Reversal_approval_points allows 1 point of a redemption"
    )


# verify_ledger


@dataclass
class Ledger:
    """An org's ledger with rows for every law, and the ledger of another org.

    `ids` holds the ids of the rows that the corruptions below change, `public_ids` those of rows with a public id.
    """

    world: World
    ids: dict[str, int]
    public_ids: dict[str, str]

    def execute(self, sql: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(sql.format(**self.ids))

    def name_of(self, row: str) -> str:
        return self.public_ids[row] if row in self.public_ids else str(self.ids[row])


@pytest.fixture
def ledger(db: None) -> Ledger:
    """Creates two reversed redemptions and a corrected reversal.

    One redemption drew 10 points from two lots, and 5 were reversed. Another had 3 points without a lot, which were
    re-issued in a new lot, and a third 2 points, which were covered later. The corrected reversal is of 1 point.
    """
    world = make_world(settings={"Reversal_reissue_days": "30"})
    correction = corrected(world, redeemed(world, 1)).corrections.get()
    webhook = make_webhook(world.org)
    lot = make_lot(world.asha, 6, program=world.program, expires_at=in_days(30))
    last_lot = make_lot(world.asha, 4, program=world.program)
    redemption = redeem(world.asha, 10, program=world.program)
    uncovered = redeem(world.asha, 3, program=world.program)
    late = redeem(world.asha, 2, program=world.program)
    reverse(world, redemption.public_id, "--points", "5")
    reverse(world, uncovered.public_id)
    covering_line = covered(world, late)
    reversal, reissue = redemption.reversals.get(), uncovered.reversals.get()
    reissued = Lot.objects.get(org=world.org, lot_ref=f"REISSUE-{reissue.public_id}")
    delivery = Delivery.objects.filter(webhook=webhook).first()
    merge = merged(world)
    ids = {
        "covering": covering_line.covering_id,
        "covering_line": covering_line.id,
        "covered_draw": covering_line.draw_id,
        "merge": merge.id,
        "merged": merge.source_id,
        "lot": lot.id,
        "reissued_lot": reissued.id,
        "redemption": redemption.id,
        "draw": lot.draws.get().id,
        "last_draw": last_lot.draws.get().id,
        "uncovered_draw": uncovered.draws.get().id,
        "reversal": reversal.id,
        "line": reversal.lines.get(draw__lot=lot).id,
        "attempt": reversal.attempts.get().id,
        "correction": correction.id,
        "approval": correction.approval_id,
        "corrected_reversal": correction.reversal_id,
        "event": delivery.event_id,
        "delivery": delivery.id,
        "import_of_lots": lot.ledger_import_id,
        "import_of_redemptions": redemption.ledger_import_id,
        "setting": EmfSetting.objects.get(org=world.org, key="Reversal_reissue_days").id,
        "change": EmfChange.objects.get(org=world.org, key="Reversal_reissue_days").id,
    }
    public_ids = {
        "merged": str(merge.source.public_id),
        "program": str(world.program.public_id),
        "lot": lot.lot_ref,
        "setting": "Reversal_reissue_days",
        "reissued_lot": reissued.lot_ref,
        "redemption": redemption.public_id,
        "late_redemption": late.public_id,
        "reversal": reversal.public_id,
        "corrected_reversal": correction.reversal.public_id,
    }
    other = {"other_customer": make_customer(world.org).id}
    return Ledger(world, ids | other | foreign_ids(), public_ids)


def covered(world: World, redemption: Redemption) -> CoveringLine:
    """Awards a lot that covers the redemption, and returns the line of the covering."""
    make_lot(world.asha, redemption.points, program=world.program)
    call_command("cover_redemptions", str(world.org.id), stdout=io.StringIO())
    return CoveringLine.objects.get(org=world.org, covering__redemption=redemption)


def merged(world: World) -> CustomerMerge:
    """Merges a customer without points into Asha."""
    return merge_customers(
        org=world.org,
        source_id=make_customer(world.org).public_id,
        target_id=world.asha.public_id,
        ticket="T-1",
        reason="the same customer twice",
        made_by="meera",
    ).merge


def corrected(world: World, redemption: Redemption) -> Reversal:
    """Reverses all points of the redemption, corrects the reversal, and returns it."""
    reverse(world, redemption.public_id)
    reversal = redemption.reversals.get()
    assert correct(reversal).error is None
    return reversal


def foreign_ids() -> dict[str, int]:
    """Creates a reversed redemption of another org, and returns the ids of its rows."""
    stranger = make_world()
    covering_line = covered(stranger, redeem(stranger.asha, 1, program=stranger.program))
    correction = corrected(stranger, redeemed(stranger)).corrections.get()
    webhook = make_webhook(stranger.org)
    redemption = redeemed(stranger)
    reverse(stranger, redemption.public_id)
    draw = redemption.draws.get()
    return {
        "foreign_covering": covering_line.covering_id,
        "foreign_customer": stranger.asha.id,
        "foreign_program": stranger.program.id,
        "foreign_lot": draw.lot_id,
        "foreign_import": draw.lot.ledger_import_id,
        "foreign_redemption": redemption.id,
        "foreign_client": ApiClient.objects.get(org=stranger.org).id,
        "foreign_draw": draw.id,
        "foreign_reversal": redemption.reversals.get().id,
        "foreign_approval": correction.approval_id,
        "foreign_webhook": webhook.id,
        "foreign_event": Delivery.objects.get(webhook=webhook).event_id,
    }


def verify(*words: object) -> tuple[dict[str, Any], list[str], int]:
    """Runs verify_ledger, and returns its JSON object, the lines on stderr and the exit code."""
    output, errors, exit_code = io.StringIO(), io.StringIO(), 0
    try:
        call_command("verify_ledger", *map(str, words), "--json", stdout=output, stderr=errors)
    except SystemExit as stopped:
        exit_code = int(str(stopped.code))
    return json.loads(output.getvalue()), errors.getvalue().splitlines(), exit_code


@contextmanager
def guards_lifted() -> Iterator[None]:
    """Disables the constraints of the database for the block; the end of the test rolls everything back."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            lift_guards_of_postgresql(cursor)
            yield
        else:
            lift_guards_of_sqlite(cursor)
            try:
                yield
            finally:
                cursor.execute("PRAGMA ignore_check_constraints = OFF")
    # Without this, Django would check the foreign keys before it rolls back.
    transaction.set_rollback(True)


def lift_guards_of_postgresql(cursor: Any) -> None:
    tables = (*apps.get_app_config("loyalty").get_models(), *apps.get_app_config("reversals").get_models())
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    if is_distributed():
        check_constraints_of_nodes(cursor, [model._meta.db_table for model in tables])
    lift_triggers(cursor)
    for model in tables:
        for constraint in model._meta.constraints:
            if isinstance(constraint, models.CheckConstraint):
                cursor.execute(f"ALTER TABLE {model._meta.db_table} DROP CONSTRAINT {constraint.name}")


def lift_triggers(cursor: Any) -> None:
    """Disables triggers and foreign keys in this transaction, on each node of a cluster."""
    if is_distributed():
        cursor.execute("SET LOCAL citus.propagate_set_commands = 'local'")
    cursor.execute("SET LOCAL session_replication_role = replica")


def check_constraints_of_nodes(cursor: Any, tables: Sequence[str]) -> None:
    """Does on each node of a cluster what SET CONSTRAINTS does on one."""
    cursor.execute(
        "CREATE FUNCTION check_constraints() RETURNS boolean LANGUAGE plpgsql"
        " AS $$ BEGIN SET CONSTRAINTS ALL IMMEDIATE; RETURN TRUE; END $$"
    )
    for table in tables:
        cursor.execute(f"SELECT COUNT(*) FROM {table} WHERE check_constraints()")


def lift_guards_of_sqlite(cursor: Any) -> None:
    cursor.execute("PRAGMA ignore_check_constraints = ON")
    cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    for (trigger,) in cursor.fetchall():
        cursor.execute(f"DROP TRIGGER {trigger}")


PARENTS = [
    ("loyalty_lot", "customer_id", "lot", "foreign_customer"),
    ("loyalty_lot", "program_id", "lot", "foreign_program"),
    ("loyalty_redemption", "customer_id", "redemption", "foreign_customer"),
    ("loyalty_redemption", "program_id", "redemption", "foreign_program"),
    ("loyalty_draw", "redemption_id", "draw", "foreign_redemption"),
    ("loyalty_draw", "lot_id", "draw", "foreign_lot"),
    ("reversals_reversal", "redemption_id", "reversal", "foreign_redemption"),
    ("reversals_reversal", "customer_id", "reversal", "foreign_customer"),
    ("reversals_reversalline", "reversal_id", "line", "foreign_reversal"),
    ("reversals_reversalline", "draw_id", "line", "foreign_draw"),
    ("reversals_reversalline", "reissued_lot_id", "line", "foreign_lot"),
    ("reversals_attempt", "reversal_id", "attempt", "foreign_reversal"),
    ("reversals_attempt", "redemption_id", "attempt", "foreign_redemption"),
    ("reversals_reversal", "client_id", "reversal", "foreign_client"),
    ("reversals_attempt", "client_id", "attempt", "foreign_client"),
    ("reversals_approval", "redemption_id", "approval", "foreign_redemption"),
    ("reversals_approval", "corrects_id", "approval", "foreign_reversal"),
    ("reversals_approval", "reversal_id", "approval", "foreign_reversal"),
    ("reversals_correction", "reversal_id", "correction", "foreign_reversal"),
    ("reversals_correction", "approval_id", "correction", "foreign_approval"),
    ("reversals_event", "customer_id", "event", "foreign_customer"),
    ("reversals_delivery", "event_id", "delivery", "foreign_event"),
    ("reversals_delivery", "webhook_id", "delivery", "foreign_webhook"),
]
IMPORTED = [
    ("loyalty_lot", "ledger_import_id", "lot", "foreign_import"),
    ("loyalty_redemption", "ledger_import_id", "redemption", "foreign_import"),
]

MERGES = [
    ("loyalty_customer", "merged_into_id", "merged", "foreign_customer"),
    ("loyalty_customermerge", "source_id", "merge", "foreign_customer"),
    ("loyalty_customermerge", "target_id", "merge", "foreign_customer"),
    ("loyalty_lot", "first_customer_id", "lot", "foreign_customer"),
    ("loyalty_redemption", "first_customer_id", "redemption", "foreign_customer"),
]

COVERINGS = [
    ("loyalty_covering", "redemption_id", "covering", "foreign_redemption"),
    ("loyalty_coveringline", "covering_id", "covering_line", "foreign_covering"),
    ("loyalty_coveringline", "draw_id", "covering_line", "foreign_draw"),
    ("loyalty_coveringline", "lot_id", "covering_line", "foreign_lot"),
]


def parent_corruptions(parents: list[tuple[str, str, str, str]]) -> list[tuple[str, str, str]]:
    return [
        (
            f"{table}.{column} refers to a row of the same org",
            f"UPDATE {table} SET {column} = {{{foreign}}} WHERE id = {{{row}}}",
            row,
        )
        for table, column, row, foreign in parents
    ]


# Law, the statement that breaks it, and the row that is reported.
CORRUPTIONS = [
    (
        "0 <= lot.remaining <= lot.awarded, and lot.awarded > 0",
        "UPDATE loyalty_lot SET points_remaining = points_awarded + 1 WHERE id = {lot}",
        "lot",
    ),
    (
        "0 <= draw.reversed <= draw.points, and draw.points > 0",
        "UPDATE loyalty_draw SET points_reversed = -1 WHERE id = {draw}",
        "draw",
    ),
    (
        "0 <= redemption.reversed <= redemption.points, and redemption.points > 0",
        "UPDATE loyalty_redemption SET points_reversed = points + 1 WHERE id = {redemption}",
        "redemption",
    ),
    (
        "reversal.points = available + expired, points > 0, and neither part is negative",
        "UPDATE reversals_reversal SET points_available = points_available + 1 WHERE id = {reversal}",
        "reversal",
    ),
    (
        "line.points = available + expired, points > 0, and neither part is negative",
        "UPDATE reversals_reversalline SET points_expired = points_expired + 1 WHERE id = {line}",
        "line",
    ),
    (
        "reversal.points = sum of points over its lines",
        "UPDATE reversals_reversalline SET points = points + 1 WHERE id = {line}",
        "reversal",
    ),
    (
        "reversal.points_available = sum of points_available over its lines",
        "UPDATE reversals_reversalline SET points_available = points_available - 1 WHERE id = {line}",
        "reversal",
    ),
    (
        "reversal.points_expired = sum of points_expired over its lines",
        "UPDATE reversals_reversalline SET points_expired = points_expired + 1 WHERE id = {line}",
        "reversal",
    ),
    (
        "redemption.points = sum of points over its draws",
        "UPDATE loyalty_redemption SET points = points + 1 WHERE id = {redemption}",
        "redemption",
    ),
    (
        "redemption.reversed = sum of points over its reversals that are not corrected",
        "UPDATE loyalty_redemption SET points_reversed = points_reversed - 1 WHERE id = {redemption}",
        "redemption",
    ),
    (
        "draw.reversed = sum of points over its lines that are not corrected",
        "UPDATE loyalty_draw SET points_reversed = points_reversed + 1 WHERE id = {draw}",
        "draw",
    ),
    (
        "lot.awarded = lot.remaining + lot.reissued + sum of (points - reversed) over its draws",
        "UPDATE loyalty_lot SET points_remaining = points_remaining - 1 WHERE id = {lot}",
        "lot",
    ),
    (
        "lot.reissued = points that re-issues and corrections moved out of the lot, minus points moved back",
        "UPDATE loyalty_lot SET points_reissued = points_reissued + 1 WHERE id = {lot}",
        "lot",
    ),
    (
        "0 <= lot.reissued <= lot.awarded - lot.remaining",
        "UPDATE loyalty_lot SET points_reissued = -1 WHERE id = {lot}",
        "lot",
    ),
    (
        "live + spent + expired + replaced = awarded + re-issued, in each program",
        "UPDATE loyalty_lot SET points_awarded = points_awarded + 1 WHERE id = {lot}",
        "program",
    ),
    (
        "a lot is marked as a re-issue if and only if a reversal awarded it",
        "UPDATE loyalty_lot SET is_reissue = NOT is_reissue WHERE id = {lot}",
        "lot",
    ),
    (
        "the points awarded in a re-issued lot = available points of the reversal lines that awarded it",
        "UPDATE loyalty_lot SET points_awarded = points_awarded + 1, points_remaining = points_remaining + 1"
        " WHERE id = {reissued_lot}",
        "reissued_lot",
    ),
    (
        "a re-issued lot belongs to the customer of the lot that was drawn, or of the redemption if no lot was drawn",
        "UPDATE loyalty_lot SET customer_id = {foreign_customer} WHERE id = {reissued_lot}",
        "reissued_lot",
    ),
    (
        "a later draw of a redemption is reversed in full before an earlier one, unless a reversal of it was corrected",
        "UPDATE loyalty_draw SET points_reversed = points_reversed - 1 WHERE id = {last_draw}",
        "draw",
    ),
    (
        "the points of a line are expired if its lot had expired and they were not re-issued; otherwise available",
        "UPDATE loyalty_lot SET expires_at = awarded_at WHERE id = {lot}",
        "line",
    ),
    (
        "the draw of a line belongs to the redemption of the line's reversal",
        "UPDATE reversals_reversalline SET draw_id = {uncovered_draw} WHERE id = {line}",
        "line",
    ),
    (
        "a reversal belongs to the customer of its redemption, or to one who was merged into that customer",
        "UPDATE reversals_reversal SET customer_id = {other_customer} WHERE id = {reversal}",
        "reversal",
    ),
    (
        "no reversal has the same public id as a redemption of its org",
        "UPDATE loyalty_redemption AS redemption SET public_id = reversal.public_id FROM reversals_reversal reversal"
        " WHERE reversal.org_id = redemption.org_id AND reversal.id = {reversal} AND redemption.id = {redemption}",
        "reversal",
    ),
    (
        "correction.points = points of its reversal",
        "UPDATE reversals_correction SET points = points + 1 WHERE id = {correction}",
        "corrected_reversal",
    ),
    (
        "a correction matches an approval of its reversal with the same requester and approver, two different users",
        "UPDATE reversals_correction SET approved_by = made_by WHERE id = {correction}",
        "correction",
    ),
    (
        "an approval is decided by a user other than the one who requested it",
        "UPDATE reversals_approval SET decided_by = asked_by WHERE id = {approval}",
        "approval",
    ),
    (
        "an approved request for a correction has its correction",
        "DELETE FROM reversals_correction WHERE id = {correction}",
        "approval",
    ),
    (
        "a delivery belongs to the customer of its event",
        "UPDATE reversals_delivery SET customer_id = {foreign_customer} WHERE id = {delivery}",
        "delivery",
    ),
    *parent_corruptions(PARENTS),
    *(
        (
            f"import.{column} = {counted} of its {what}",
            f"UPDATE loyalty_ledgerimport SET {column} = {column} + 1 WHERE id = {{import_of_{what}}}",
            f"import_of_{what}",
        )
        for column, counted, what in (
            ("lots_added", "number", "lots"),
            ("points_awarded", "points", "lots"),
            ("redemptions_added", "number", "redemptions"),
            ("points_redeemed", "points", "redemptions"),
        )
    ),
    (
        "a lot either refers to the import that added it or is a re-issue",
        "UPDATE loyalty_lot SET ledger_import_id = NULL WHERE id = {lot}",
        "lot",
    ),
    (
        "a redemption refers to the import that added it, or an attempt refers to the redemption",
        "UPDATE loyalty_redemption SET ledger_import_id = NULL WHERE id = {redemption}",
        "redemption",
    ),
    *parent_corruptions(IMPORTED),
    (
        "setting.value = new_value of the last change of that setting",
        "UPDATE loyalty_emfsetting SET value = '31' WHERE id = {setting}",
        "setting",
    ),
    (
        "change.old_value = new_value of the previous change of that setting",
        "UPDATE loyalty_emfchange SET old_value = '31' WHERE id = {change}",
        "change",
    ),
    *(
        corruption
        for kind in ("lot", "redemption")
        for corruption in (
            (
                f"a {kind} that a merge moved belongs to the customer into whom its first customer was merged",
                f"UPDATE loyalty_{kind} SET first_customer_id = {{other_customer}} WHERE id = {{{kind}}}",
                kind,
            ),
            (
                f"no {kind} belongs to a customer who was merged into another customer",
                f"UPDATE loyalty_{kind} SET customer_id = {{merged}} WHERE id = {{{kind}}}",
                kind,
            ),
        )
    ),
    (
        "customer.merged_into = target of the customer's merge, or the customer into whom that target was merged",
        "UPDATE loyalty_customer SET merged_into_id = NULL WHERE id = {merged}",
        "merged",
    ),
    *parent_corruptions(MERGES),
    (
        "covering.points = sum of points over its lines",
        "UPDATE loyalty_covering SET points = points + 1 WHERE id = {covering}",
        "covering",
    ),
    (
        "a covering's line and its draw have the same redemption, lot and points",
        "UPDATE loyalty_coveringline SET lot_id = {lot} WHERE id = {covering_line}",
        "covering_line",
    ),
    (
        "a draw has a lot from a covering if and only if a line of a covering refers to it",
        "UPDATE loyalty_draw SET first_points = NULL WHERE id = {covered_draw}",
        "covered_draw",
    ),
    (
        "the points of a redemption's draws before coverings = the points of the redemption",
        "UPDATE loyalty_draw SET first_points = first_points + 1 WHERE id = {covered_draw}",
        "late_redemption",
    ),
    *parent_corruptions(COVERINGS),
]


def test_verify_ledger_counts_the_rows_of_an_org_whose_laws_all_hold(ledger: Ledger) -> None:
    checked = {"lots": 5, "redemptions": 4, "draws": 5, "reversals": 3, "lines": 4, "corrections": 1}
    points = {"awarded": "13", "reissued": "3", "live": "8", "spent": "8", "expired": "0", "replaced": "0"}
    programs = [{"org": ledger.world.org.id, "program": ledger.world.program.public_id} | points]
    result = {"ok": True, "laws": len(LAWS), "checked": checked, "programs": programs, "broken": []}
    assert verify("--org", ledger.world.org.id) == (result, [], 0)


def test_verify_ledger_without_json_reports_that_all_laws_hold(ledger: Ledger) -> None:
    assert printed("verify_ledger", "--org", ledger.world.org.id) == (
        f"org {ledger.world.org.id}, program {ledger.world.program.public_id}: points awarded 13, re-issued 3;"
        " of these live 8, spent 8, expired 0, replaced by re-issues 0\n"
        f"{len(LAWS)} laws checked over 5 lots, 4 redemptions, 5 draws, 3 reversals, 4 lines, 1 correction: all hold\n"
    )


@pytest.mark.parametrize(("law", "sql", "row"), CORRUPTIONS, ids=[law for law, *_ in CORRUPTIONS])
def test_verify_ledger_exits_with_1_and_names_the_row_that_breaks_a_law(
    ledger: Ledger, law: str, sql: str, row: str
) -> None:
    name = f"{law}: {ledger.name_of(row)} of org {ledger.world.org.id} ("
    with guards_lifted():
        ledger.execute(sql)
        result, errors, exit_code = verify("--org", ledger.world.org.id)
    assert (result["ok"], exit_code) == (False, 1)
    assert result["broken"] == errors
    assert [line.startswith(name) for line in errors].count(True) == 1


def test_every_law_has_a_corruption_case() -> None:
    assert [law for law, *_ in CORRUPTIONS] == [law.name for law in LAWS]


def test_verify_ledger_shows_both_values_of_a_broken_law_in_thousandths(ledger: Ledger) -> None:
    with guards_lifted():
        ledger.execute("UPDATE loyalty_lot SET points_remaining = points_remaining - 1 WHERE id = {lot}")
        result, _, _ = verify("--org", ledger.world.org.id)
    assert result["broken"] == [
        "lot.awarded = lot.remaining + lot.reissued + sum of (points - reversed) over its draws:"
        f" {ledger.name_of('lot')} of org {ledger.world.org.id} (5001 against 5000)",
        "live + spent + expired + replaced = awarded + re-issued, in each program:"
        f" {ledger.world.program.public_id} of org {ledger.world.org.id} (15999 against 16000)",
    ]


@pytest.mark.parametrize(
    ("law", "row", "sql"),
    [
        (
            "0 <= lot.remaining <= lot.awarded, and lot.awarded > 0",
            "lot",
            "UPDATE loyalty_lot SET points_awarded = 0, points_remaining = 0 WHERE id = {lot}",
        ),
        (
            "0 <= draw.reversed <= draw.points, and draw.points > 0",
            "draw",
            "UPDATE loyalty_draw SET points = 0, points_reversed = 0 WHERE id = {draw}",
        ),
        (
            "0 <= redemption.reversed <= redemption.points, and redemption.points > 0",
            "redemption",
            "UPDATE loyalty_redemption SET points = 0, points_reversed = 0 WHERE id = {redemption}",
        ),
    ],
)
def test_verify_ledger_names_a_row_with_0_points(ledger: Ledger, law: str, row: str, sql: str) -> None:
    with guards_lifted():
        ledger.execute(sql)
        result, _, _ = verify("--org", ledger.world.org.id)
    assert f"{law}: {ledger.name_of(row)} of org {ledger.world.org.id} (0 against 0)" in result["broken"]


def test_verify_ledger_names_a_row_whose_parent_is_gone(ledger: Ledger) -> None:
    with guards_lifted():
        ledger.execute("DELETE FROM reversals_reversal WHERE id = {reversal}")
        result, _, _ = verify("--org", ledger.world.org.id)
    law = "reversals_reversalline.reversal_id refers to a row of the same org"
    name = f"{law}: {ledger.name_of('line')} of org {ledger.world.org.id} ({ledger.ids['reversal']} against missing)"
    assert name in result["broken"]


def test_verify_ledger_of_one_org_ignores_other_orgs(ledger: Ledger) -> None:
    with guards_lifted():
        ledger.execute("UPDATE loyalty_lot SET points_remaining = points_remaining - 1 WHERE id = {foreign_lot}")
        result, errors, exit_code = verify("--org", ledger.world.org.id)
    assert (result["ok"], errors, exit_code) == (True, [], 0)


def test_verify_ledger_without_an_org_checks_all_orgs(ledger: Ledger) -> None:
    before, _, _ = verify()
    with guards_lifted():
        ledger.execute("UPDATE loyalty_lot SET points_remaining = points_remaining - 1 WHERE id = {lot}")
        ledger.execute("UPDATE loyalty_lot SET points_remaining = points_remaining - 1 WHERE id = {foreign_lot}")
        result, errors, exit_code = verify()
    assert (before["ok"], result["ok"], len(errors), exit_code) == (True, False, 4, 1)
    assert result["checked"] == before["checked"]


def test_verify_ledger_without_json_reports_that_a_law_is_broken(ledger: Ledger) -> None:
    output, errors = io.StringIO(), io.StringIO()
    with guards_lifted():
        ledger.execute("UPDATE loyalty_lot SET points_remaining = points_remaining - 1 WHERE id = {lot}")
        with pytest.raises(SystemExit) as stopped:
            call_command("verify_ledger", "--org", str(ledger.world.org.id), stdout=output, stderr=errors)
    assert stopped.value.code == 1
    assert output.getvalue().endswith("1 correction: BROKEN\n")
    assert ledger.name_of("lot") in errors.getvalue()


def test_verify_ledger_records_its_run_for_the_back_office(ledger: Ledger) -> None:
    verify("--org", ledger.world.org.id)
    check = LedgerCheck.objects.get(org=ledger.world.org)
    assert check.broken_count == 0
    assert check.started_at < check.finished_at
    with guards_lifted():
        ledger.execute("UPDATE loyalty_lot SET points_remaining = points_remaining - 1 WHERE id = {lot}")
        verify()
        assert LedgerCheck.objects.get(org=None).broken_count == 2


# purge_attempts


def old_attempt(world: World, age_in_days: float, **changes: Any) -> Attempt:
    """Creates a refused attempt of that age, without a key."""
    values = {"channel": "API", "made_by": world.username, "http_status": 400, "code": 817, "rule": "MORE_THAN_LEFT"}
    return Attempt.objects.create(org=world.org, created_at=days_ago(age_in_days), **(values | changes))


def accepted_attempt(world: World, created_at: datetime, *, key: str | None = None) -> Attempt:
    assert world.reverse(redeemed(world), 1, key=key).status_code == 200
    Attempt.objects.filter(org=world.org, reversal__isnull=False).update(created_at=created_at)
    return Attempt.objects.get(org=world.org, reversal__isnull=False)


def test_purge_attempts_removes_attempts_older_than_the_given_days(world: World) -> None:
    old_attempt(world, 400)
    old_attempt(world, 365.01)
    young = old_attempt(world, 364.99)
    assert run("purge_attempts", "--older-than", 365) == {"removed": 2}
    assert world.attempts() == [young]


@pytest.mark.parametrize("key", [None, "key-1"], ids=["without a key", "with a key"])
def test_purge_attempts_keeps_an_old_attempt_that_belongs_to_a_reversal(world: World, key: str | None) -> None:
    accepted = accepted_attempt(world, days_ago(4_000), key=key)
    old_attempt(world, 400)
    assert run("purge_attempts", "--older-than", 365) == {"removed": 1}
    assert world.attempts() == [accepted]


def test_purge_attempts_keeps_an_old_attempt_that_belongs_to_a_redemption(world: World) -> None:
    make_lot(world.asha, 10, program=world.program)
    world.redeem(world.asha, 1)
    Attempt.objects.filter(org=world.org).update(created_at=days_ago(1000))
    run("purge_attempts", "--older-than", 30)
    assert [attempt.redemption.points for attempt in world.attempts()] == [1]


def test_purge_attempts_keeps_a_refusal_while_its_key_is_live(world: World) -> None:
    live = old_attempt(world, 30.99, idempotency_key="live", holds_key=True)
    old_attempt(world, 31.01, idempotency_key="lapsed", holds_key=True)
    old_attempt(world, 2, idempotency_key="free", holds_key=False)
    assert run("purge_attempts", "--older-than", 1) == {"removed": 2}
    assert world.attempts() == [live]


def test_live_key_replays_its_refusal_after_a_purge(world: World) -> None:
    redemption = redeemed(world)
    refused = world.ask(request_for(redemption, 11), key="key-1")
    Attempt.objects.filter(org=world.org).update(created_at=days_ago(30))
    assert run("purge_attempts", "--older-than", 1) == {"removed": 0}
    repeated = world.ask(request_for(redemption, 11), key="key-1")
    assert (repeated.status_code, repeated.content) == (400, refused.content)
    assert repeated.headers["Idempotent-Replayed"] == "true"


def test_purge_attempts_removes_more_than_one_batch(world: World) -> None:
    old = old_attempt(world, 400)
    Attempt.objects.bulk_create(
        Attempt(org=world.org, created_at=old.created_at, channel="API", made_by="till.1", rule="NOT_FOUND")
        for _ in range(1_000)
    )
    assert run("purge_attempts", "--older-than", 365) == {"removed": 1_001}
    assert world.attempts() == []


def test_second_purge_attempts_removes_nothing(world: World) -> None:
    old_attempt(world, 400)
    assert run("purge_attempts", "--older-than", 365) == {"removed": 1}
    assert run("purge_attempts", "--older-than", 365) == {"removed": 0}


@pytest.mark.parametrize("days", [0, -1, 36_501])
def test_purge_attempts_refuses_days_out_of_range(world: World, days: int) -> None:
    old_attempt(world, 40_000)
    message = refusal_of("purge_attempts", f"--older-than={days}")
    assert message == f"--older-than is {days}; expected 1 to 36500 days"
    assert len(world.attempts()) == 1


@pytest.mark.parametrize(
    ("value", "words", "problem"),
    [
        ("9", ("--ticket", "t" * 101, "--reason", "r"), "ticket: Ensure this value has at most 100 characters"),
        ("9", ("--ticket", "t", "--reason", "r" * 501), "reason: Ensure this value has at most 500 characters"),
        (
            "",
            ("--ticket", "t", "--reason", "r"),
            "Reversal_window_days is not set for this org, so it cannot be removed",
        ),
    ],
)
def test_set_emf_refuses_text_that_is_too_long_and_removal_of_an_unset_value(
    world: World, value: str, words: tuple[str, ...], problem: str
) -> None:
    assert problem in refusal_of("set_emf", world.org.id, "Reversal_window_days", value, *words)
    assert history(world) == []


def test_api_username_that_is_too_long_is_refused(world: World) -> None:
    assert "username: Ensure this value has at most 150" in refusal_of("create_api_client", world.org.id, "u" * 151)


def test_blank_name_and_id_0_are_refused(world: World) -> None:
    assert "name: This field cannot be blank." in refusal_of("create_org", 987_654, "  ")
    assert "public_id: Ensure this value is greater than or equal to 1." in refusal_of(
        "create_program", world.org.id, 0, "Main"
    )


@pytest.mark.parametrize(
    ("redemption_id", "reason", "by", "problem"),
    [
        ("R" * 65, "r", "ravi", "REDEMPTION_ID is too long; expected at most 64 characters"),
        ("R1", " ", "ravi", "--reason is blank; expected text"),
        ("R1", "r", " ", "--by is blank; expected text"),
    ],
)
def test_manual_reversal_without_valid_redemption_id_reason_and_user_is_refused(
    world: World, redemption_id: str, reason: str, by: str, problem: str
) -> None:
    assert refusal_of("reverse_points", world.org.id, redemption_id, "--reason", reason, "--by", by) == problem
