"""What the database says of itself and of what waits in it, asked each time that Prometheus reads."""

from collections.abc import Iterator
from datetime import datetime

from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Count, Min
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from reversals.models import Approval, Delivery, LedgerCheck


class Stored(Collector):
    """Gauges that are the same whichever worker is asked. Without the database there is but the one that says so."""

    def collect(self) -> Iterator[Metric]:
        try:
            gauges = [*_last_check(), *_events(), *_approvals(), *_waits()]
        except (DatabaseError, InterfaceError):
            yield _gauge("loyalty_database_up", "Whether the database answers.", 0)
            return
        yield _gauge("loyalty_database_up", "Whether the database answers.", 1)
        yield from gauges


def _last_check() -> Iterator[Metric]:
    """The last verify_ledger over all orgs; none before the first."""
    last = LedgerCheck.objects.filter(org__isnull=True).order_by("-finished_at").first()
    if last is None:
        return
    yield _moment("loyalty_ledger_check_timestamp_seconds", "When all orgs were verified last.", last.finished_at)
    yield _gauge("loyalty_ledger_check_broken_rows", "Rows that broke a law then.", last.broken_count)


def _events() -> Iterator[Metric]:
    waiting = Delivery.objects.filter(status=Delivery.Status.PENDING)
    counted = waiting.aggregate(count=Count("id"), due_at=Min("due_at"))
    yield _gauge("loyalty_deliveries_waiting", "Events on their way to a webhook.", counted["count"])
    if counted["due_at"] is not None:
        name = "loyalty_deliveries_due_timestamp_seconds"
        yield _moment(name, "When the first of them is, or was, to be sent next.", counted["due_at"])


def _approvals() -> Iterator[Metric]:
    waiting = Approval.objects.filter(status=Approval.Status.WAITING)
    yield _gauge("loyalty_approvals_waiting", "Requests that nobody decided, the lapsed ones too.", waiting.count())


def _waits() -> Iterator[Metric]:
    """Sessions that wait for another one's lock now, which PostgreSQL alone can say."""
    if connection.vendor != "postgresql":
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        (count,) = cursor.fetchone()
    yield _gauge("loyalty_sessions_waiting_for_locks", "Sessions of the database that wait for a lock.", count)


def _moment(name: str, meaning: str, moment: datetime) -> Metric:
    return _gauge(name, meaning, moment.timestamp())


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)
