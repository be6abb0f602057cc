"""Gauges that are read from the database whenever Prometheus scrapes the metrics."""

import platform
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Count, Max, Min, Q
from django.utils import timezone
from django_tasks_db.models import DBTaskResult
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from loyalty import maintenance
from loyalty.models import Webhook
from reversals.api.monitoring import health
from reversals.models import Approval, Backup, CheckResult, Delivery, Event, LedgerCheck, Seal, WorkerProcess

FINDINGS_COUNT_FOR = timedelta(hours=1)

_UP = "1 if the database answers, can be written to and has all migrations; else 0."


class Stored(Collector):
    """Collects the gauges, which are the same in every worker. Without the database there are only two."""

    def collect(self) -> Iterator[Metric]:
        yield _build()
        try:
            health.check()
            stored = (
                *(_last_check, _last_seal, _backups, _events, _resting),
                *(_approvals, _worker, _findings, _waits, _maintenance),
            )
            gauges = [gauge for gauges in stored for gauge in gauges()]
        except (DatabaseError, InterfaceError, health.NotReady):
            yield _gauge("loyalty_database_up", _UP, 0)
            return
        yield _gauge("loyalty_database_up", _UP, 1)
        yield from gauges


def _build() -> Metric:
    versions = {"version": str(settings.SPECTACULAR_SETTINGS["VERSION"]), "python": platform.python_version()}
    return InfoMetricFamily("loyalty_build", "Versions of the back office and of Python.", value=versions)


def _maintenance() -> Iterator[Metric]:
    yield _gauge(
        "loyalty_maintenance", "1 while maintenance is on, and calls are refused with 898.", maintenance.is_on()
    )


def _last_check() -> Iterator[Metric]:
    """Yields the gauges of the last verify_ledger over all orgs, if there was one."""
    last = LedgerCheck.objects.filter(org__isnull=True).order_by("-finished_at").first()
    if last is None:
        return
    yield _moment(
        "loyalty_ledger_check_timestamp_seconds", "Time of the last verification of all orgs.", last.finished_at
    )
    yield _gauge(
        "loyalty_ledger_check_broken_rows",
        "Rows that violated a law at the last verification of all orgs.",
        last.broken_count,
    )


def _last_seal() -> Iterator[Metric]:
    """Yields the time of the last complete seal, if there was one."""
    last = Seal.objects.filter(is_complete=True).order_by("-id").first()
    if last is not None:
        yield _moment("loyalty_seal_timestamp_seconds", "Time of the last complete seal.", last.sealed_at)


def _backups() -> Iterator[Metric]:
    """Yields the time of the last backup, if there was one, and whether PostgreSQL fails to archive its log."""
    last = Backup.objects.order_by("-finished_at").first()
    if last is not None:
        yield _moment("loyalty_backup_timestamp_seconds", "Time when the last backup finished.", last.finished_at)
    is_failing = False  # SQLite has no archive
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false)"
                " FROM pg_stat_archiver"
            )
            (is_failing,) = cursor.fetchone()
    yield _gauge(
        "loyalty_wal_archive_failing", "1 if PostgreSQL's last attempt to archive WAL failed; else 0.", is_failing
    )


def _events() -> Iterator[Metric]:
    waiting = Delivery.objects.filter(status=Delivery.Status.PENDING)
    counted = waiting.aggregate(count=Count("id"), due_at=Min("due_at"), event_id=Min("event_id"))
    yield _gauge("loyalty_deliveries_waiting", "Deliveries to webhooks that are pending.", counted["count"])
    if counted["due_at"] is not None:
        name = "loyalty_deliveries_due_timestamp_seconds"
        yield _moment(name, "Earliest due time of a pending delivery.", counted["due_at"])
    for event in Event.objects.filter(id=counted["event_id"]):
        yield _moment(
            "loyalty_deliveries_oldest_timestamp_seconds",
            "Creation time of the oldest event with a pending delivery.",
            event.created_at,
        )


def _resting() -> Iterator[Metric]:
    """Yields the numbers of resting webhooks, also 0 for each reason, so that alerts see an end."""
    resting = Webhook.objects.filter(is_active=True, rests_until__gt=timezone.now())
    counts = Counter(resting.values_list("rest_reason", flat=True))
    gauge = GaugeMetricFamily(
        "loyalty_webhooks_resting", "Active webhooks whose deliveries wait, by reason.", labels=["reason"]
    )
    for reason in Webhook.RestReason.values:
        gauge.add_metric([reason.lower()], counts[reason])
    yield gauge


def _approvals() -> Iterator[Metric]:
    waiting = Approval.objects.filter(status=Approval.Status.WAITING, lapses_at__gt=timezone.now())
    counted = waiting.aggregate(count=Count("id"), lapses_at=Min("lapses_at"))
    yield _gauge("loyalty_approvals_waiting", "Approval requests that wait for a second user.", counted["count"])
    if counted["lapses_at"] is not None:
        yield _moment(
            "loyalty_approvals_lapse_timestamp_seconds", "Time when the first of them lapses.", counted["lapses_at"]
        )


def _findings() -> Iterator[Metric]:
    """Yields what `doctor` found on each machine within the last hour. The worker runs it every few minutes."""
    results = list(CheckResult.objects.filter(checked_at__gte=timezone.now() - FINDINGS_COUNT_FOR))
    if not results:
        return
    labels = ["check", "host"]
    status = GaugeMetricFamily("loyalty_check_status", "What doctor found. 0: ok, 1: warning, 2: error.", labels=labels)
    value = GaugeMetricFamily("loyalty_check_value", "The number behind a finding, see docs/doctor.md.", labels=labels)
    for each in results:
        status.add_metric([each.name, each.host], each.status)
        if each.value is not None:
            value.add_metric([each.name, each.host], each.value)
    yield from (status, value)
    last = max(each.checked_at for each in results)
    yield _moment("loyalty_check_timestamp_seconds", "Time when doctor last stored what it found.", last)


def _worker() -> Iterator[Metric]:
    """Yields the gauges of the worker (`manage.py work`) and of its tasks."""
    last = WorkerProcess.objects.aggregate(seen_at=Max("seen_at"))["seen_at"]
    if last is not None:
        yield _moment("loyalty_worker_seen_timestamp_seconds", "Time of the last report of a worker.", last)
    failing = Q(status__in=["READY", "FAILED"]) & ~Q(traceback="")
    due = Q(status="READY", run_after__lte=timezone.now())
    counted = DBTaskResult.objects.aggregate(failing=Count("id", filter=failing), due_at=Min("run_after", filter=due))
    yield _gauge("loyalty_tasks_failing", "Background tasks whose last try failed.", counted["failing"])
    if counted["due_at"] is not None:
        yield _moment(
            "loyalty_tasks_due_timestamp_seconds", "Earliest due time of a task that waits.", counted["due_at"]
        )


def _waits() -> Iterator[Metric]:
    """Yields the number of sessions that wait for a lock. Only PostgreSQL knows it."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        (count,) = cursor.fetchone()
    yield _gauge("loyalty_sessions_waiting_for_locks", "Database sessions that wait for a lock.", count)


def _moment(name: str, meaning: str, moment: datetime) -> Metric:
    return _gauge(name, meaning, moment.timestamp())


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)
