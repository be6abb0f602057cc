"""Counts reversals and refusals by day: a closed day is counted once and stored, the open day on each request."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Count, DateField, Func, Max, Q, QuerySet, Sum

from reversals.models import Attempt, DayTotals, Reversal

# A row's timestamp is taken before its commit, and no call lasts this long.
CLOSES_AFTER = timedelta(minutes=10)
# One day at a time, so that no statement reaches the timeout. If one does, the days counted before it are kept.
COUNTED_AT_ONCE = timedelta(days=1)
ACCEPTED = ""


@dataclass(frozen=True, slots=True, order=True)
class Total:
    """How many calls of one day had one result. `rule` names the refusal and is empty for accepted calls."""

    day: date
    rule: str
    count: int
    points: Decimal
    points_expired: Decimal


@dataclass(frozen=True, slots=True)
class OrgTotal:
    """How many calls of one org had one result in a period, with the points reversed."""

    org_id: int
    rule: str
    count: int
    points: Decimal


class UtcDay(Func):
    """The UTC day of a time. Django's own function would call Python for each row on SQLite."""

    output_field = DateField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="date(%(expressions)s)", **context)

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="(%(expressions)s AT TIME ZONE 'UTC')::date", **context)


def totals_of(org_ids: Collection[int], *, days: int, now: datetime) -> list[Total]:
    """The totals of these orgs for each of the last `days` UTC days, today included.

    Closed days that were not counted yet are counted and stored. After that, the number of queries depends neither
    on the number of orgs nor on the number of days.
    """
    if not org_ids:
        return []
    kept, still_open = _kept_and_open(org_ids, days=days, now=now)
    sums = kept.order_by().values_list("day", "rule").annotate(Sum("count"), Sum("points"), Sum("points_expired"))
    of_days: dict[tuple[date, str], Total] = {(day, rule): Total(day, rule, *more) for day, rule, *more in sums}
    for row in still_open:
        before = of_days.get((row.day, row.rule), Total(row.day, row.rule, 0, Decimal(0), Decimal(0)))
        of_days[row.day, row.rule] = Total(
            row.day,
            row.rule,
            before.count + row.count,
            before.points + row.points,
            before.points_expired + row.points_expired,
        )
    return list(of_days.values())


def totals_by_org(org_ids: Collection[int], *, days: int, now: datetime) -> list[OrgTotal]:
    """The totals of each of these orgs over the last `days` UTC days, today included."""
    if not org_ids:
        return []
    kept, still_open = _kept_and_open(org_ids, days=days, now=now)
    sums = kept.order_by().values_list("org_id", "rule").annotate(Sum("count"), Sum("points"))
    of_orgs: dict[tuple[int, str], OrgTotal] = {
        (org_id, rule): OrgTotal(org_id, rule, *more) for org_id, rule, *more in sums
    }
    for row in still_open:
        before = of_orgs.get((row.org_id, row.rule), OrgTotal(row.org_id, row.rule, 0, Decimal(0)))
        of_orgs[row.org_id, row.rule] = OrgTotal(
            row.org_id, row.rule, before.count + row.count, before.points + row.points
        )
    return list(of_orgs.values())


def _kept_and_open(
    org_ids: Collection[int], *, days: int, now: datetime
) -> tuple[QuerySet[DayTotals], list[DayTotals]]:
    """Returns the stored totals of the closed days, all of which are then stored, and those of the open days."""
    first = first_day(days=days, now=now)
    closed_before = max(_day(now - CLOSES_AFTER), first)
    _keep_closed_days(org_ids, first, closed_before)
    kept = DayTotals.objects.filter(org_id__in=org_ids, day__gte=first, day__lt=closed_before)
    return kept, _count(dict.fromkeys(org_ids, closed_before), until=_day(now) + timedelta(days=1))


def first_day(*, days: int, now: datetime) -> date:
    """The first of the last `days` UTC days, today included."""
    return _day(now) - timedelta(days=days - 1)


def start_of(day: date) -> datetime:
    """The moment at which the UTC day begins."""
    return datetime.combine(day, time.min, UTC)


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()


def _keep_closed_days(org_ids: Collection[int], first: date, closed_before: date) -> None:
    """Counts and stores the closed days that were not counted yet.

    Two requests that count the same day at the same moment get the same totals, so either's rows may stay.
    """
    since = _uncounted_since(org_ids, first, closed_before)
    day = min(since.values())
    while day < closed_before:
        until = min(day + COUNTED_AT_ONCE, closed_before)
        uncounted = {org_id: max(start, day) for org_id, start in since.items() if start < until}
        DayTotals.objects.bulk_create(_count(uncounted, until=until), ignore_conflicts=True)
        day = until


def _uncounted_since(org_ids: Collection[int], first: date, closed_before: date) -> dict[int, date]:
    """The first day to count for each org: the day after the stored days, or `first` if there are gaps."""
    kept = (
        DayTotals.objects.filter(org_id__in=org_ids, rule=ACCEPTED, day__gte=first, day__lt=closed_before)
        .order_by()
        .values_list("org_id")
        .annotate(Count("id"), Max("day"))
    )
    since = dict.fromkeys(org_ids, first)
    for org_id, count, last in kept:
        if first + timedelta(days=count - 1) == last:
            since[org_id] = last + timedelta(days=1)
    return since


def _count(since: Mapping[int, date], *, until: date) -> list[DayTotals]:
    """The totals of each org from its day in `since` to before `until`. Each day has a row for accepted calls."""
    rows = {
        (org_id, day, ACCEPTED): DayTotals(org_id=org_id, day=day, rule=ACCEPTED, count=0)
        for org_id, first in since.items()
        for day in _days(first, until)
    }
    wanted = _calls_since(since) & Q(created_at__lt=start_of(until))
    for org_id, day, count, points, points_expired in _reversals(wanted):
        row = rows[org_id, day, ACCEPTED]
        row.count, row.points, row.points_expired = count, points, points_expired
    for org_id, day, rule, count in _refusals(wanted):
        rows[org_id, day, rule] = DayTotals(org_id=org_id, day=day, rule=rule, count=count)
    return list(rows.values())


def _days(first: date, until: date) -> Iterator[date]:
    return (first + timedelta(days=after) for after in range((until - first).days))


def _calls_since(since: Mapping[int, date]) -> Q:
    """One range of the index for each first day in `since`."""
    orgs: dict[date, list[int]] = defaultdict(list)
    for org_id, day in since.items():
        orgs[day].append(org_id)
    wanted = Q()
    for day, org_ids in orgs.items():
        wanted |= Q(org_id__in=org_ids, created_at__gte=start_of(day))
    return wanted


def _reversals(wanted: Q) -> Iterable[tuple[int, date, int, Decimal, Decimal]]:
    return (
        Reversal.objects.filter(wanted)
        .order_by()
        .values_list("org_id", UtcDay("created_at"))
        .annotate(Count("id"), Sum("points"), Sum("points_expired"))
    )


def _refusals(wanted: Q) -> Iterable[tuple[int, date, str, int]]:
    return (
        Attempt.objects.filter(wanted, operation="REVERSE", is_dry_run=False)
        .exclude(rule=ACCEPTED)
        .order_by()
        .values_list("org_id", UtcDay("created_at"), "rule")
        .annotate(calls=Count("*"))  # counting ids would need more than the index
    )
