"""doctor: each fault of a set-up is found, and the finding says what is expected and what to do."""

import io
import json
import threading
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client
from django.utils import timezone

from loyalty.outages import cause_of
from reversals.api.monitoring import echo
from reversals.models import Backup, CheckResult, WorkerProcess
from reversals.operations.doctor import copies, database, examination, machine, public
from reversals.operations.doctor.examination import CHECKS, Check
from reversals.operations.doctor.findings import Finding, Status, fine, wrong
from tests.api.test_monitoring import metrics

DOCS = Path(__file__).parent.parent.parent / "docs"


def only(findings: Iterable[Finding]) -> Finding:
    [finding] = findings
    assert finding.status == Status.OK or (finding.expected and finding.do)
    return finding


def statuses() -> dict[str, str]:
    output = io.StringIO()
    try:
        call_command("doctor", "--json", stdout=output)
    except SystemExit as end:
        assert end.code == 1
    result = json.loads(output.getvalue())
    assert result["ok"] == all(each["status"] != "error" for each in result["findings"])
    return {each["check"]: each["status"] for each in result["findings"]}


@pytest.mark.usefixtures("committed")
def test_migrated_database_passes() -> None:
    found = statuses()
    for name in ("database", "version", "migrations"):
        assert found[name] == "ok"
    assert set(found) <= {check.name for check in CHECKS}


@pytest.mark.usefixtures("committed")
def test_without_the_database_the_other_checks_still_run(monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    if connection.vendor == "postgresql":
        monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
        monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    else:
        monkeypatch.setitem(connection.settings_dict, "NAME", "/nowhere/test.sqlite3")
    found = statuses()
    connection.close()
    assert found["database"] == "error"
    assert {"secrets", "switches", "disk", "proxy"} <= set(found)
    assert not {"version", "backup", "worker"} & set(found)


def test_every_check_is_documented() -> None:
    rows = {line.split("`")[1] for line in (DOCS / "doctor.md").read_text().splitlines() if line.startswith("| `")}
    assert rows == {check.name for check in CHECKS}


def test_check_that_hangs_is_an_error_after_its_time() -> None:
    end = threading.Event()
    started = time.monotonic()
    [finding] = examination._within(Check("slow", lambda: [fine("slow", str(end.wait(30)))], seconds=0.2))
    end.set()
    assert (finding.status, finding.found) == (Status.ERROR, "no result within 0 s")
    assert time.monotonic() - started < 5


def test_check_that_fails_is_a_warning() -> None:
    def fail() -> Iterable[Finding]:
        raise ValueError("unforeseen")

    [finding] = examination._within(Check("bad", fail))
    assert (finding.status, finding.found) == (Status.WARNING, "it could not be checked: unforeseen")


@pytest.mark.parametrize(
    ("message", "do"),
    [
        ('FATAL: password authentication failed for user "x"', "Correct the user and the password"),
        ("FATAL: unsupported startup parameter: options", "DATABASE_URL points to PgBouncer. Set"),
        ("Connection refused", "Start PostgreSQL"),
        ("something else", "See the runbook"),
    ],
)
def test_cause_of_an_unreachable_database_has_its_cure(monkeypatch: pytest.MonkeyPatch, message: str, do: str) -> None:
    def fail(*_: Any) -> None:
        raise OSError(message)

    monkeypatch.setattr(database, "connection", type("Broken", (), {"cursor": fail})())
    finding = only(database.reachable())
    assert (finding.found, finding.do[: len(do)]) == (cause_of(OSError(message)), do)


@pytest.mark.django_db
def test_superuser_is_an_error(on_postgresql: None) -> None:
    assert "superuser" in only(database.role()).found


@pytest.mark.django_db
def test_disabled_trigger_is_an_error(on_postgresql: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE plain")
        cursor.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO plain")
        cursor.execute("SET LOCAL ROLE plain")
    assert only(database.role()).status == Status.OK
    with connection.cursor() as cursor:
        cursor.execute("RESET ROLE")
        cursor.execute("ALTER TABLE reversals_seal DISABLE TRIGGER ALL")
        cursor.execute("SET LOCAL ROLE plain")
    assert only(database.role()).found.startswith("these triggers are disabled: reversals_seal.")


@pytest.mark.django_db
def test_timeout_of_the_session_that_differs_is_an_error(on_postgresql: None) -> None:
    assert only(database.timeouts()).status == Status.OK
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL lock_timeout = 0")
    assert only(database.timeouts()).found == "lock_timeout is 0"


@pytest.mark.parametrize(
    ("kind", "is_on", "status"),
    [
        ("transaction", False, Status.ERROR),
        ("transaction", True, Status.OK),
        ("", True, Status.WARNING),
        ("", False, Status.OK),
        ("session", False, Status.OK),
    ],
)
def test_pooler_setting_that_differs_from_what_is_in_front_is_found(
    on_postgresql: None, monkeypatch: pytest.MonkeyPatch, settings: Any, kind: str, is_on: bool, status: Status
) -> None:
    monkeypatch.setattr(database, "_pooler_in_front", lambda: kind)
    settings.DATABASE_POOLER = is_on
    assert only(database.pooler()).status == status


@pytest.mark.django_db
def test_direct_connection_has_no_pooler_in_front(on_postgresql: None) -> None:
    assert database._pooler_in_front() == ""


@pytest.mark.django_db
def test_missing_and_newer_migrations_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    applied = MigrationRecorder(connection).applied_migrations()
    last = max(key for key in applied if key[0] == "reversals")
    monkeypatch.setattr(
        MigrationRecorder, "applied_migrations", lambda _: {key: row for key, row in applied.items() if key != last}
    )
    assert only(database.migrations()).found == f"1 not applied, the first is {last[0]}.{last[1]}"
    newer = applied | {("reversals", "9999_later"): applied[last]}
    monkeypatch.setattr(MigrationRecorder, "applied_migrations", lambda _: newer)
    assert only(database.migrations()).found == "1 of a newer version are applied, such as reversals.9999_later"


@pytest.mark.django_db
def test_clock_that_is_off_is_an_error(on_postgresql: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(database.clock()).status == Status.OK
    monkeypatch.setattr(database, "row", lambda sql: (timezone.now() - timedelta(seconds=90),))
    finding = only(database.clock())
    assert finding.found == "this machine is 90.0 s ahead of the database"
    assert finding.value == pytest.approx(90, abs=1)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("hours", "status"), [(None, Status.ERROR), (1, Status.OK), (25, Status.OK), (27, Status.ERROR)]
)
def test_old_or_missing_backup_is_an_error(hours: int | None, status: Status) -> None:
    if hours is not None:
        Backup.objects.create(kind="dump", finished_at=timezone.now() - timedelta(hours=hours))
    finding = only(copies.backup())
    assert finding.status == status
    assert finding.value == (None if hours is None else pytest.approx(hours, abs=0.1))


@pytest.mark.django_db
def test_resting_worker_is_an_error() -> None:
    assert only(copies.worker()).status == Status.ERROR
    now = timezone.now()
    WorkerProcess.objects.create(id="w", host="h", started_at=now, seen_at=now)
    assert only(copies.worker()).status == Status.OK


LONG = "kX2v9QwZ7LpT4mBsR8cD1fGhJ6nYtEaU0o"


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, "long and different"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY is too short or too simple"),
        ({"SECRET_KEY": "ab" * 30}, "SECRET_KEY is too short or too simple"),
        ({"SECRET_KEY": "django-insecure-" + LONG}, "SECRET_KEY is too short or too simple"),
        ({"API_PEPPER": LONG}, "API_PEPPER and SECRET_KEY are equal"),
        ({"METRICS_TOKEN": "abc"}, "METRICS_TOKEN is too short or too simple"),
        ({"SECRET_KEY_FALLBACKS": ["short"]}, "SECRET_KEY_FALLBACKS 1 is too short or too simple"),
        ({"SECRET_KEY_FALLBACKS": [LONG]}, "SECRET_KEY and SECRET_KEY_FALLBACKS 1 are equal"),
        ({"API_PEPPER_FORMER": [LONG + "x", "abc"]}, "API_PEPPER_FORMER 2 is too short or too simple"),
        ({"API_PEPPER_FORMER": [LONG + "x"]}, "still accepted: API_PEPPER_FORMER 1"),
        (
            {"API_PEPPER_IS_SET": False},
            "API_PEPPER is not set, so a new SECRET_KEY changes the hash of every API secret",
        ),
        (
            {"SECRET_KEY_FALLBACKS": [LONG + "x"], "API_PEPPER_FORMER": ["derived from it"]},
            "still accepted: SECRET_KEY_FALLBACKS 1",
        ),
    ],
)
def test_weak_equal_or_former_secrets_are_found(settings: Any, changes: dict[str, Any], found: str) -> None:
    settings.SECRET_KEY, settings.API_PEPPER, settings.METRICS_TOKEN = LONG, LONG[::-1], ""
    settings.API_PEPPER_IS_SET, settings.SECRET_KEY_FALLBACKS, settings.API_PEPPER_FORMER = True, [], []
    for name, value in changes.items():
        setattr(settings, name, value)
    finding = only(machine.secrets())
    assert finding.found == found
    assert LONG not in str(finding)


@pytest.mark.django_db
def test_anchor_that_others_can_write_is_an_error(settings: Any, tmp_path: Path) -> None:
    settings.LEDGER_ANCHOR = tmp_path / "anchor"
    assert only(machine.anchor()).status == Status.WARNING  # nothing was sealed yet
    call_command("seal_ledger", "--anchor", str(settings.LEDGER_ANCHOR), stdout=io.StringIO())
    settings.LEDGER_ANCHOR.touch()
    settings.LEDGER_ANCHOR.chmod(0o644)
    assert only(machine.anchor()).status == Status.OK
    settings.LEDGER_ANCHOR.chmod(0o664)
    assert "can be written by other users" in only(machine.anchor()).found
    settings.LEDGER_ANCHOR.chmod(0o644)
    settings.LEDGER_ANCHOR.write_text('{"seal": 1, "hash": "x"}\n')
    assert only(machine.anchor()).status == Status.ERROR


@pytest.mark.parametrize(("free", "status"), [(50, Status.OK), (9, Status.WARNING), (2, Status.ERROR)])
def test_full_disk_is_found(monkeypatch: pytest.MonkeyPatch, free: int, status: Status) -> None:
    usage = type("Usage", (), {"total": 100, "free": free})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    finding = only(machine.disk())
    assert (finding.status, finding.value) == (status, free / 100)


# The way through the proxy

SEEN = {"scheme": "https", "sender": "10.0.0.1", "trusted": "yes", "forwarded": "yes", "address": "203.0.113.5"}


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        (SEEN, "a call arrives over https from 203.0.113.5"),
        (SEEN | {"scheme": "http", "trusted": "no"}, "a request over https"),
        (SEEN | {"forwarded": "no"}, "the proxy 10.0.0.1 does not send"),
        ({}, "another server answers"),
    ],
)
def test_what_the_server_saw_of_a_request_is_judged(settings: Any, seen: dict[str, str], found: str) -> None:
    settings.PUBLIC_URL = "https://loyalty.example.com"
    assert public._judge(seen).found.startswith(found)


@pytest.mark.parametrize("status", [301, 400, 403, 404, 502])
def test_call_that_does_not_arrive_is_an_error(settings: Any, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    settings.PUBLIC_URL = "https://loyalty.example.com"
    monkeypatch.setattr(public, "_get", lambda path: (status, {"Location": "https://loyalty.example.com/"}, b""))
    finding = only(public.proxy())
    assert finding.status == Status.ERROR
    assert finding.found == f"a call is answered {status} to https://loyalty.example.com/"


@pytest.mark.django_db
def test_only_a_signed_request_is_told_how_it_arrived(client: Client) -> None:
    told = client.get("/health/ready", {"doctor": echo.sign()}, REMOTE_ADDR="203.0.113.9").json()
    assert {name: told[name] for name in ("address", "scheme", "sender", "trusted")} == {
        "address": "203.0.113.9",
        "scheme": "http",
        "sender": "203.0.113.9",
        "trusted": "no",
    }
    for text in ("", "doctor", "doctor:x:y"):
        assert "address" not in client.get("/health/ready", {"doctor": text}).json()


# Stored findings


@pytest.mark.django_db
def test_stored_findings_are_in_the_metrics(client: Client) -> None:
    examination.store([fine("disk", "half", value=0.5), wrong("backup", "none", expected="one", do="Run it.")])
    examination.store([fine("disk", "less", value=0.4)])
    CheckResult.objects.create(
        host="gone", name="disk", status=2, detail="", checked_at=timezone.now() - timedelta(hours=2)
    )
    samples = metrics(client)
    [(labels, value)] = [(labels, value) for (name, labels), value in samples.items() if name == "loyalty_check_value"]
    assert (dict(labels)["check"], value) == ("disk", 0.4)
    assert [value for (name, _), value in samples.items() if name == "loyalty_check_status"] == [0]
    assert samples["loyalty_check_timestamp_seconds", ()] == pytest.approx(time.time(), abs=60)


@pytest.mark.usefixtures("committed")
def test_command_stores_its_findings_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    run: Callable[..., Any] = call_command
    with pytest.raises(SystemExit):
        run("doctor", "--store")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ok", "database", "answers"]
    assert any(line.strip().startswith("do: ") for line in lines)
    assert CheckResult.objects.filter(name="database", status=0).exists()
