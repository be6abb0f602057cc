"""Health checks, metrics and the log."""

import json
import logging
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from django.conf import settings as project
from django.core.exceptions import PermissionDenied
from django.core.management import call_command
from django.db import OperationalError, connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from prometheus_client.parser import text_string_to_metric_families
from pythonjsonlogger.json import JsonFormatter

from config import serve
from config.logs import LineFormatter
from config.settings import is_unforeseen
from reversals.api.monitoring import health
from reversals.models import Approval, Attempt, Backup, Channel, Delivery, Event, LedgerCheck
from tests.builders import World, days_ago, in_days, make_webhook, operator_of, redeemed, staff_of
from tests.movements.test_outages import FailingWrites

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_of(text: str) -> Samples:
    """Returns the samples in the text by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def metrics(client: Client, **headers: str) -> Samples:
    health.forget()  # an earlier test's probe
    response = client.get("/metrics", headers=headers)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples_of(response.content.decode())


def grown(before: Samples, after: Samples, name: str) -> dict[tuple[str, ...], float]:
    """Returns the increase of each sample of this name by the values of its labels."""
    return {
        tuple(value for _, value in labels): value - before.get((sample, labels), 0)
        for (sample, labels), value in after.items()
        if sample == name and value != before.get((sample, labels), 0)
    }


# Health


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_liveness_needs_no_database(client: Client, method: str) -> None:
    response = client.generic(method, "/health/live")
    assert (response.status_code, response["Cache-Control"]) == (200, "no-store")
    assert response.content == (b'{"status":"live"}' if method == "GET" else b"")


@pytest.fixture
def prober(django_db_setup: None, django_db_blocker: Any) -> Iterator[Callable[..., Any]]:
    """Runs a call in the thread of the health check, and clears its connection and cache afterwards."""
    with django_db_blocker.unblock():
        health.prober.submit(connections.close_all).result()  # another test may have ended its session
        yield lambda call: health.prober.submit(call).result(timeout=60)
        health.prober.submit(connections.close_all).result()
    health.forget()
    health.check_migrations.cache_clear()


def readiness(client: Client) -> tuple[int, Any]:
    """Returns the answer to a probe of its own, not one that an earlier caller shares."""
    health.forget()
    response = client.get("/health/ready")
    assert (response["Cache-Control"], dict(response.cookies)) == ("no-store", {})
    assert response.get("Retry-After") == (None if response.status_code == 200 else "1")
    return response.status_code, response.json()


def not_ready(reason: str) -> tuple[int, Any]:
    return 503, {"status": "not ready", "reason": reason, "version": "0.2.0"}


READY = (200, {"status": "ready", "version": "0.2.0"})


def test_server_with_its_database_is_ready(client: Client, prober: Callable[..., Any]) -> None:
    assert readiness(client) == READY
    queries: list[str] = []

    def listen(execute: Any, sql: str, *more: Any) -> Any:
        queries.append(sql)
        return execute(sql, *more)

    prober(lambda: connection.execute_wrappers.append(listen))
    assert readiness(client) == READY
    assert len(queries) == (2 if connection.vendor == "postgresql" else 4)
    assert {client.get("/health/ready").status_code for _ in range(20)} == {200}  # they share that probe
    assert len(queries) == (2 if connection.vendor == "postgresql" else 4)
    prober(lambda: connection.execute_wrappers.clear())
    head = client.head("/health/ready")
    assert (head.status_code, head.content) == (200, b"")


def test_server_without_its_database_is_not_ready(client: Client, prober: Callable[..., Any]) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError("password=secret")

    prober(lambda: connection.execute_wrappers.append(fail))
    assert readiness(client) == not_ready("the database does not answer")
    prober(lambda: connection.execute_wrappers.clear())
    assert readiness(client) == READY


def test_server_with_a_hanging_database_is_not_ready_after_two_seconds(
    client: Client, prober: Callable[..., Any]
) -> None:
    answers = threading.Event()
    silence = health.prober.submit(answers.wait, 60)
    started = time.monotonic()
    assert readiness(client) == not_ready("the database did not answer within 2 s")
    waited = time.monotonic() - started
    assert not silence.done()
    answers.set()
    assert waited >= 2
    assert readiness(client) == READY


def test_server_with_a_read_only_database_is_not_ready(
    client: Client, prober: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor == "postgresql":
        prober(lambda: connection.cursor().execute("SET default_transaction_read_only = on"))
    else:
        monkeypatch.setattr("os.access", lambda *_: False)
    assert readiness(client) == not_ready("the database is read-only")


def test_server_with_missing_migrations_is_not_ready(
    client: Client, prober: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    health.check_migrations.cache_clear()
    applied = prober(lambda: MigrationRecorder(connection).applied_migrations())
    last = max(key for key in applied if key[0] == "reversals")
    rest = {key: row for key, row in applied.items() if key != last}
    monkeypatch.setattr(MigrationRecorder, "applied_migrations", lambda _: rest)
    expected = not_ready("1 migration is not applied. Run manage.py migrate.")
    assert readiness(client) == readiness(client) == expected
    monkeypatch.undo()
    assert readiness(client) == READY


@pytest.mark.parametrize("address", ["/health/live", "/health/ready", "/metrics"])
def test_monitoring_accepts_any_host_name(client: Client, prober: Callable[..., Any], address: str) -> None:
    assert client.get(address, headers={"host": "10.1.2.3:8000"}).status_code == 200
    assert client.get("/openapi.json", headers={"host": "10.1.2.3:8000"}).status_code == 400
    assert client.post(address).status_code == 405
    assert client.get(f"{address}/").status_code == 404


# Metrics


def test_calls_are_counted_by_operation_status_code_and_rule(world: World, client: Client) -> None:
    redemption = redeemed(world, 10)
    before = metrics(client)
    for _ in range(2):
        world.reverse(redemption, 2, key="k")
    world.reverse(redemption, 99)
    world.ask({}, user="nobody")
    client.get("/v2/nothing")
    client.get("/admin/login/")
    after = metrics(client)
    assert grown(before, after, "loyalty_calls_total") == {
        ("", "ReversePoints", "200"): 2,
        ("817", "ReversePoints", "400"): 1,
        ("", "ReversePoints", "401"): 1,
        ("", "other", "404"): 1,
        ("", "admin", "200"): 1,
        ("", "metrics", "200"): 1,
    }
    assert grown(before, after, "loyalty_refusals_total") == {("ReversePoints", "MORE_THAN_LEFT"): 1}
    assert grown(before, after, "loyalty_replays_total") == {("ReversePoints",): 1}
    assert grown(before, after, "loyalty_movements_total") == {
        ("API", "", "REVERSE", ""): 2,
        ("API", "817", "REVERSE", "MORE_THAN_LEFT"): 1,
    }
    assert grown(before, after, "loyalty_lock_seconds_count") == {("REVERSE",): 2}
    assert grown(before, after, "loyalty_call_seconds_count")["ReversePoints",] == 4


def test_metrics_have_pending_deliveries_and_the_last_ledger_check(world: World, client: Client) -> None:
    make_webhook(world.org)
    world.reverse(redeemed(world, 10))
    now = timezone.now()
    LedgerCheck.objects.create(started_at=now, finished_at=now - timedelta(days=1), broken_count=0)
    LedgerCheck.objects.create(started_at=now, finished_at=now, broken_count=3)
    LedgerCheck.objects.create(org=world.org, started_at=now, finished_at=now + timedelta(days=1), broken_count=9)
    samples = metrics(client)
    assert samples["loyalty_database_up", ()] == 1
    assert samples["loyalty_ledger_check_broken_rows", ()] == 3
    assert samples["loyalty_ledger_check_timestamp_seconds", ()] == pytest.approx(now.timestamp(), abs=0.001)
    assert samples["loyalty_deliveries_waiting", ()] == 1
    due_at = Delivery.objects.get().due_at
    assert samples["loyalty_deliveries_due_timestamp_seconds", ()] == pytest.approx(due_at.timestamp(), abs=0.001)
    event = Event.objects.get()
    oldest_at = samples["loyalty_deliveries_oldest_timestamp_seconds", ()]
    assert oldest_at == pytest.approx(event.created_at.timestamp(), abs=0.001)
    assert samples["loyalty_approvals_waiting", ()] == 0
    assert ("loyalty_approvals_lapse_timestamp_seconds", ()) not in samples
    if connection.vendor == "postgresql":
        assert samples["loyalty_sessions_waiting_for_locks", ()] == 0


def test_metrics_count_resting_webhooks_by_reason(world: World, client: Client) -> None:
    for reason, minutes in [("SLOW", 1), ("SLOW", 1), ("FAILING", 1), ("UNREACHABLE", -1)]:
        webhook = make_webhook(world.org)
        webhook.rests_until, webhook.rest_reason = timezone.now() + timedelta(minutes=minutes), reason
        webhook.save()
    samples = metrics(client)
    reasons = ("slow", "failing", "unreachable")
    assert [samples["loyalty_webhooks_resting", (("reason", reason),)] for reason in reasons] == [2, 1, 0]


def test_metrics_have_the_time_of_the_last_backup(world: World, client: Client) -> None:
    assert ("loyalty_backup_timestamp_seconds", ()) not in metrics(client)
    with connection.cursor() as cursor:
        for kind in ("full", "diff"):
            cursor.execute("INSERT INTO reversals_backup (kind, size) VALUES (%s, 1000)", [kind])  # as psql does
    Backup.objects.filter(kind="full").update(finished_at=days_ago(2))
    samples = metrics(client)
    assert samples["loyalty_backup_timestamp_seconds", ()] == pytest.approx(time.time(), abs=60)
    assert samples["loyalty_wal_archive_failing", ()] == 0


def test_metrics_count_approvals_until_they_lapse(world: World, client: Client) -> None:
    lapsing = [ask_for_approval(world, lapses_at=in_days(days)) for days in (3, 2, -1)]
    samples = metrics(client)
    assert samples["loyalty_approvals_waiting", ()] == 2
    first = samples["loyalty_approvals_lapse_timestamp_seconds", ()]
    assert first == pytest.approx(lapsing[1].lapses_at.timestamp(), abs=0.001)


def ask_for_approval(world: World, *, lapses_at: datetime) -> Approval:
    return Approval.objects.create(
        org=world.org,
        redemption=redeemed(world, 10),
        points=10,
        key=f"key {lapses_at}",
        channel=Channel.ADMIN,
        reason="a return",
        asked_by="asha",
        asked_at=timezone.now(),
        lapses_at=lapses_at,
    )


def test_reversal_by_a_command_is_counted_by_its_channel(world: World, client: Client) -> None:
    redemption = redeemed(world, 10)
    before = metrics(client)
    words = (str(world.org.id), redemption.public_id, "--reason", "a return", "--by", operator_of(world).username)
    call_command("reverse_points", *words, stdout=StringIO())
    assert grown(before, metrics(client), "loyalty_movements_total") == {("COMMAND", "", "REVERSE", ""): 1}


def test_retried_transaction_is_counted_by_its_error(world: World, client: Client) -> None:
    redemption = redeemed(world, 10)
    before = metrics(client)
    with connection.execute_wrapper(FailingWrites(psycopg.errors.DeadlockDetected("deadlock detected"), times=2)):
        assert world.reverse(redemption, 2).status_code == 200
    assert grown(before, metrics(client), "loyalty_transaction_retries_total") == {("40P01",): 2}


@pytest.mark.usefixtures("world")
def test_metrics_have_the_versions(client: Client) -> None:
    version = project.SPECTACULAR_SETTINGS["VERSION"]
    labels = (("python", platform.python_version()), ("version", version))
    assert metrics(client)["loyalty_build_info", labels] == 1


@pytest.mark.django_db
def test_metrics_without_the_database_report_it_as_down(client: Client) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError("gone")

    with connection.execute_wrapper(fail):
        samples = metrics(client)
    assert samples["loyalty_database_up", ()] == 0
    assert ("loyalty_deliveries_waiting", ()) not in samples
    assert any(name == "loyalty_calls_total" for name, _ in samples)


@pytest.mark.django_db
def test_metrics_need_a_local_caller_or_the_token(client: Client) -> None:
    assert client.get("/metrics", REMOTE_ADDR="203.0.113.7").status_code == 403
    assert client.get("/metrics", REMOTE_ADDR="::1").status_code == 200
    with override_settings(FORWARDED_FOR_HEADER="HTTP_FORWARDEDFOR"):
        for name in ("X-Forwarded-For", "Forwarded", "ForwardedFor"):
            assert client.get("/metrics", headers={name: "127.0.0.1"}).status_code == 403
    with override_settings(METRICS_TOKEN="a-token"):
        assert client.get("/metrics").status_code == 403
        assert client.get("/metrics", headers={"Authorization": "Bearer another"}).status_code == 403
        assert client.get("/metrics", headers={"Authorization": "Bearer a-tökén"}).status_code == 403
        right = {"Authorization": "Bearer a-token"}
        assert client.get("/metrics", headers=right, REMOTE_ADDR="203.0.113.7").status_code == 200


@pytest.mark.django_db
def test_unknown_addresses_add_no_metrics(client: Client) -> None:
    client.get("/v2/nothing")
    metrics(client)
    before = len(metrics(client))
    for number in range(20):
        client.get(f"/v2/nothing-{number}", headers={"Authorization": f"Basic {number}"})
        client.get(f"/v2/points/reversals/{number}")
    assert len(metrics(client)) - before <= 20  # one operation with its buckets


def test_counters_of_ended_servers_are_removed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    left, kept = tmp_path / f"{serve.FOLDER}-{ended.pid}-a", tmp_path / f"{serve.FOLDER}-{os.getpid()}-b"
    for folder in (left, kept):
        folder.mkdir()
    new = Path(serve._new_folder(tmp_path))
    assert set(tmp_path.iterdir()) == {kept, new}
    assert new.name.startswith(f"{serve.FOLDER}-{os.getpid()}-")


# Log


class Lines(logging.Handler):
    """Collects the lines as the console writes them."""

    def __init__(self) -> None:
        super().__init__()
        console = logging.getLogger().handlers
        [written] = [handler for handler in console if isinstance(handler.formatter, JsonFormatter)]
        self.formatter, self.filters, self.lines = written.formatter, written.filters, []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def log() -> Any:
    handler = Lines()
    logging.getLogger().addHandler(handler)
    yield handler.lines
    logging.getLogger().removeHandler(handler)


@pytest.mark.parametrize(
    ("username", "logged"),
    [
        ("no\nbody", "no?body"),
        ("x" * 31, "x" * 31),
        ("x" * 32, "(32 characters)"),
        ("a-secret-that-was-sent-as-the-username-by-mistake", "(49 characters)"),
    ],
)
def test_access_line_of_a_401_has_the_username_that_was_tried(
    world: World, log: list[str], username: str, logged: str
) -> None:
    world.ask({}, user=username)
    [line] = [json.loads(each) for each in log]
    assert (line["status"], line["address"], line["username"]) == (401, "127.0.0.1", logged)


def test_reply_attempt_and_log_share_the_request_id(world: World, log: list[str]) -> None:
    response = world.reverse(redeemed(world, 10), 99)
    attempt = Attempt.objects.get()
    [line] = [json.loads(each) for each in log]
    assert line.pop("duration_ms") >= 0
    assert line.pop("time").endswith("+00:00")
    assert line.pop("message").startswith("POST /v2/points/reverse 400 ")
    assert line == {
        "level": "INFO",
        "logger": "access",
        "request_id": response["X-CAP-REQUEST-ID"],
        "method": "POST",
        "path": "/v2/points/reverse",
        "operation": "ReversePoints",
        "status": 400,
        "code": 817,
        "address": "127.0.0.1",
        "org_id": world.org.id,
        "client": world.username,
        "attempt_id": attempt.id,
    }
    assert (attempt.request_id, attempt.address) == (response["X-CAP-REQUEST-ID"], "127.0.0.1")


def test_log_escapes_the_path_and_omits_the_query_string(client: Client, log: list[str]) -> None:
    client.get("/v2/%0a%0d%E2%80%A8forged?mobile=919876543210")
    [line] = log
    assert len(line.splitlines()) == 1
    assert "919876543210" not in line
    assert json.loads(line)["message"].startswith("GET /v2/%0A%0D%E2%80%A8forged 404 ")


def test_health_checks_are_not_logged(client: Client, log: list[str]) -> None:
    assert client.get("/health/live").status_code == 200
    assert log == []


@pytest.mark.django_db
def test_log_line_does_not_query_the_user_of_a_session(client: Client, log: list[str]) -> None:
    client.cookies["sessionid"] = "s" * 32
    with CaptureQueriesContext(connection) as queries:
        assert client.get("/v2/nothing").status_code == 404
    assert (len(log), len(queries)) == (1, 0)


def test_forbidden_page_logs_no_traceback(world: World, log: list[str]) -> None:
    page = reverse("admin:loyalty_redemption_reverse", args=[redeemed(world).pk])
    assert staff_of(world, "Support").get(page).status_code == 403
    assert [json.loads(line)["logger"] for line in log] == ["access"]


def test_unexpected_error_is_logged_without_the_query_string(
    client: Client, log: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.raise_request_exception = False
    monkeypatch.setattr("secrets.token_hex", lambda _: UUID(int=7).hex)
    monkeypatch.setattr("django.http.HttpRequest.get_host", lambda _: 1 // 0)
    assert client.get("/openapi.json?mobile=919876543210").status_code == 500
    fault, access = [json.loads(line) for line in log]
    assert "ZeroDivisionError" in fault.pop("exc_info")
    assert fault.pop("time") < access["time"]
    assert fault == {
        "level": "ERROR",
        "logger": "django.request",
        "request_id": UUID(int=7).hex,
        "message": "Internal Server Error: /openapi.json",
        "status_code": 500,
    }
    assert access["request_id"] == UUID(int=7).hex


@pytest.mark.django_db
def test_malformed_requests_log_no_traceback(client: Client, log: list[str]) -> None:
    too_many = "&".join(f"{number}=" for number in range(2_000))
    form = "application/x-www-form-urlencoded"
    assert client.post("/admin/login/", too_many, content_type=form).status_code == 400
    assert client.get("/openapi.json", headers={"host": "elsewhere.example"}).status_code == 400
    assert [(json.loads(line)["logger"], "exc_info" in json.loads(line)) for line in log] == [("access", False)] * 2


def test_plain_text_log_escapes_line_breaks() -> None:
    written = LineFormatter("%(levelname)s %(message)s")
    forged = logging.LogRecord("x", logging.INFO, "", 0, "given up: %s", ("ok\r\nERROR forged\x1b[2J\u2028x",), None)
    assert written.format(forged) == r"INFO given up: ok\u000d\u000aERROR forged\u001b[2J\u2028x"
    try:
        raise ValueError("first\nERROR forged")
    except ValueError:
        failed = logging.LogRecord("x", logging.ERROR, "", 0, "it failed", (), sys.exc_info())
    first, *traceback = written.format(failed).split("\n")
    assert first == "ERROR it failed"
    assert traceback[-2:] == ["    ValueError: first", "    ERROR forged"]
    assert all(line.startswith("    ") for line in traceback)


def test_only_unexpected_errors_are_unforeseen() -> None:
    assert not is_unforeseen(record_of(PermissionDenied()))
    assert is_unforeseen(record_of(ValueError()))
    assert not is_unforeseen(record_of(None))


def record_of(error: Exception | None) -> logging.LogRecord:
    info = None if error is None else (type(error), error, None)
    return logging.LogRecord("django.request", logging.ERROR, "", 0, "", None, info)
