"""The home page: what waits for the user, then reversals and refusals in numbers. Each part needs a permission."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.models import User
from django.db.models import Count, Q, Sum
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from loyalty.emf.stored import settings_of_orgs
from loyalty.models import Org
from loyalty.staff import held_changes
from loyalty.staff.access import orgs_of
from loyalty.staff.current_org import orgs_shown
from loyalty.staff.signin import resets
from reversals.admin.charts import Part, chart
from reversals.admin.first_day import checklist
from reversals.admin.inbox import alarms, inbox
from reversals.admin.statuses import NEEDS_APPROVAL
from reversals.manual import approvals
from reversals.models import Correction, LedgerCheck
from reversals.operations.daily_totals import ACCEPTED, OrgTotal, Total, first_day, start_of, totals_by_org, totals_of
from reversals.operations.worker import tasks
from reversals.refusals import ErrorCode

PERIODS = (7, 30, 90)
USUAL_PERIOD = 30
ORGS_SHOWN = 50
SUPERUSERS_NAMED = 5
CHANGES_SHOWN = 10
# After this time the ledger should be checked again.
CHECK_IS_FRESH_FOR = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Period:
    """The days that the page shows, and those that the user clicked away because they flatten the rest."""

    days: int
    first: date
    last: date
    without: frozenset[date] = frozenset()

    def address(self, days: int | None = None, *, without: Iterable[date] | None = None) -> str:
        """Returns the address of the home page for another number of days, or without these days."""
        query: list[tuple[str, Any]] = [("days", days or self.days)]
        query += [("without", day.isoformat()) for day in sorted(self.without if without is None else without)]
        return f"{reverse('admin:index')}?{urlencode(query)}"


@dataclass(frozen=True, slots=True)
class Day:
    """What was reversed on one day."""

    day: date
    count: int = 0
    points: Decimal = Decimal(0)
    points_expired: Decimal = Decimal(0)
    address: str = ""

    @property
    def points_available(self) -> Decimal:
        return self.points - self.points_expired


@dataclass(frozen=True, slots=True)
class Refusal:
    """How often one rule refused; `share` is its percentage of all refusals. A rule that was removed has no code."""

    code: int | None
    message: str
    rule: str
    count: int
    share: int
    address: str


@dataclass(frozen=True, slots=True)
class OrgLine:
    """The numbers of one org, with links to its lists. Without an address the user may not see the number."""

    org: Org
    count: int
    points: Decimal
    address: str
    refused: int
    refused_address: str


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """The context of the home page."""
    orgs, now = orgs_shown(request), timezone.now()
    period = _period(request, now)
    context |= {"checklist": checklist(request, orgs, now)}
    user: Any = request.user
    if not orgs or not (user.is_superuser or user.get_all_permissions()):
        return context | {"has_access": False, "superusers": _superusers()}
    periods = [(days, period.address(days)) for days in PERIODS]
    return context | {"has_access": True, "period": period, "periods": periods} | _parts(request, orgs, period, now)


def _period(request: HttpRequest, now: datetime) -> Period:
    """Reads the period from the address. Ignores what is not one of the choices."""
    text = request.GET.get("days", "")
    days = int(text) if text in {str(each) for each in PERIODS} else USUAL_PERIOD
    first, last = first_day(days=days, now=now), now.astimezone(UTC).date()
    shown = {day.isoformat(): day for day in _days(first, last)}
    without = frozenset(shown[each] for each in request.GET.getlist("without") if each in shown)
    return Period(days, first, last, without)


def _superusers() -> list[str]:
    """Returns the names of those who can give access."""
    users = User.objects.filter(is_superuser=True, is_active=True, is_staff=True).order_by("username")
    return [user.get_full_name() or user.username for user in users[:SUPERUSERS_NAMED]]


def _parts(request: HttpRequest, orgs: Sequence[Org], period: Period, now: datetime) -> dict[str, Any]:
    """The parts of the page that the user may see for these orgs."""
    may, org_ids = request.user.has_perm, [org.id for org in orgs]
    sees_settings = may("loyalty.view_emfsetting") or may("reversals.add_reversal")
    settings = settings_of_orgs(org_ids) if sees_settings else {}
    check = _last_check(org_ids, now) if may("reversals.view_ledgercheck") else None
    last_check = check["last"] if check else None
    parts = inbox(request, orgs, now) | {"check": check, "sees_settings": sees_settings}
    parts["alarms"] = alarms(request, orgs, settings, last_check, now)
    if may("reversals.view_approval") and "waiting" not in parts:
        parts["approvals"] = _approvals(orgs)
    return parts | _second_user(request, org_ids, now) | _numbers(request, orgs, period, now)


def _second_user(request: HttpRequest, org_ids: list[int], now: datetime) -> dict[str, Any]:
    """The changes that need a second user, and the sign-ins that another user reset."""
    parts: dict[str, Any] = {}
    if request.user.has_perm("loyalty.view_heldchange"):
        parts["held_changes"] = held_changes.recent(org_ids, since=now - resets.SHOWN_FOR)[:CHANGES_SHOWN]
    if request.user.has_perm("reversals.decide_approval"):
        parts["resets"] = resets.recent(orgs_of(request.user), at_most=CHANGES_SHOWN)
    return parts


def _numbers(request: HttpRequest, orgs: Sequence[Org], period: Period, now: datetime) -> dict[str, Any]:
    """Reversals, refusals and corrections of the period, and beside them the reversals of the period before."""
    may, org_ids = request.user.has_perm, [org.id for org in orgs]
    sees_reversals, sees_attempts = may("reversals.view_reversal"), may("reversals.view_attempt")
    numbers: dict[str, Any] = {}
    if sees_reversals or sees_attempts:
        totals = totals_of(org_ids, days=2 * period.days, now=now)
        shown = [total for total in totals if total.day >= period.first]
        if sees_reversals:
            numbers["reversals"] = _reversals(totals, period, orgs)
        if sees_attempts:
            numbers["refusals"] = _refusals(shown, period, orgs)
        if len(orgs) > 1:
            by_org = totals_by_org(org_ids, days=period.days, now=now)
            numbers["by_org"] = _by_org(orgs, by_org, period, sees_reversals, sees_attempts)
    if may("reversals.view_correction"):
        numbers["corrections"] = _corrections(org_ids, since=start_of(period.first))
        numbers["corrections_address"] = _list("reversals_correction", orgs, period.first, period.last)
    return numbers


def _list(model: str, orgs: Sequence[Org], first: date, last: date, **filters: str) -> str:
    """Returns the address of the list behind a number, of these days. A list shows one org: of several, the table."""
    if len(orgs) > 1:
        return "#orgs"
    query = {"org": str(orgs[0].id), "from": first.isoformat(), "to": last.isoformat(), "zone": "UTC"} | filters
    return f"{_address_of(model)}?{urlencode(query)}"


@cache
def _address_of(model: str) -> str:
    return reverse(f"admin:{model}_changelist")


def _days(first: date, last: date) -> list[date]:
    return [first + timedelta(days=after) for after in range((last - first).days + 1)]


def _reversals(totals: Iterable[Total], period: Period, orgs: Sequence[Org]) -> dict[str, Any]:
    """The points reversed by day, with their sums and charts, and the period before."""
    accepted = {total.day: total for total in totals if total.rule == ACCEPTED}
    before = _days(period.first - timedelta(days=period.days), period.first - timedelta(days=1))
    days, earlier = ([_day(day, accepted, orgs) for day in each] for each in (_days(period.first, period.last), before))
    points, expired = sum(day.points for day in days), sum(day.points_expired for day in days)
    return {
        "days": days,
        "count": sum(day.count for day in days),
        "points": points,
        "expired_share": round(100 * expired / points, 1) if points else Decimal(0),
        "points_expired": expired,
        "count_before": sum(day.count for day in earlier),
        "points_before": sum(day.points for day in earlier),
        "address": _list("reversals_reversal", orgs, period.first, period.last),
        "charts": _charts(days, earlier, period),
    }


def _day(day: date, accepted: dict[date, Total], orgs: Sequence[Org]) -> Day:
    address, total = _list("reversals_reversal", orgs, day, day), accepted.get(day)
    if total is None:
        return Day(day, address=address)
    return Day(day, total.count, total.points, total.points_expired, address)


def _charts(days: Sequence[Day], before: Sequence[Day], period: Period) -> list[dict[str, Any]]:
    available = Part("available", "available", [day.points_available for day in days])
    expired = Part("expired", "expired", [day.points_expired for day in days])
    count = Part("reversals", "available", [Decimal(day.count) for day in days])
    charts = []
    for title, parts, earlier in (
        ("Points reversed per day", [available, expired], [day.points for day in before]),
        ("Reversals per day", [count], [Decimal(day.count) for day in before]),
    ):
        drawn = chart(
            title,
            [day.day for day in days],
            parts,
            earlier,
            addresses=[day.address for day in days],
            without=period.without,
        )
        left_out = drawn.flattening
        charts.append(
            {
                "chart": drawn,
                "leave_out": left_out and period.address(without=period.without | {left_out}),
                "show_all": period.address(without=()) if period.without else "",
            }
        )
    return charts


def _refusals(totals: Iterable[Total], period: Period, orgs: Sequence[Org]) -> list[Refusal]:
    """The refusals, most frequent first. A request for approval is not a refusal."""
    counts: Counter[str] = Counter()
    for total in totals:
        if total.rule not in {ACCEPTED, NEEDS_APPROVAL}:
            counts[total.rule] += total.count
    return [_refusal(rule, count, counts.total(), period, orgs) for rule, count in counts.most_common()]


def _refusal(rule: str, count: int, of: int, period: Period, orgs: Sequence[Org]) -> Refusal:
    error = ErrorCode.__members__.get(rule)  # a rule of an earlier version may have been removed
    code, message = (error.code, error.message) if error is not None else (None, "no longer in use")
    filters = {"rule": f"{rule}.{code}", "operation": "REVERSE", "is_dry_run__exact": "0"}
    address = _list("reversals_attempt", orgs, period.first, period.last, **filters) if code else ""
    return Refusal(code, message, rule.replace("_", " ").lower(), count, round(100 * count / of), address)


def _by_org(
    orgs: Sequence[Org], totals: Iterable[OrgTotal], period: Period, sees_reversals: bool, sees_attempts: bool
) -> list[OrgLine]:
    """The numbers of each org, those with most reversals first."""
    accepted: dict[int, OrgTotal] = {}
    refused = Counter[int]()
    for total in totals:
        if total.rule == ACCEPTED:
            accepted[total.org_id] = total
        elif total.rule != NEEDS_APPROVAL:
            refused[total.org_id] += total.count
    order = sorted(orgs, key=lambda org: (-accepted[org.id].count, -refused[org.id], org.id))
    filters = {"rule": "refused", "operation": "REVERSE", "is_dry_run__exact": "0"}
    first, last = period.first, period.last
    return [
        OrgLine(
            org,
            accepted[org.id].count,
            accepted[org.id].points,
            _list("reversals_reversal", [org], first, last) if sees_reversals else "",
            refused[org.id],
            _list("reversals_attempt", [org], first, last, **filters) if sees_attempts else "",
        )
        for org in order[:ORGS_SHOWN]
    ]


def _corrections(org_ids: Collection[int], *, since: datetime) -> dict[str, Any]:
    """Returns how many corrections were made since then, and their points."""
    corrections = Correction.objects.filter(org_id__in=org_ids, created_at__gte=since)
    return corrections.aggregate(count=Count("id"), points=Sum("points"))


def _approvals(orgs: Sequence[Org]) -> dict[str, Any]:
    """Returns how many approval requests wait for a second user, by org."""
    waiting = approvals.waiting([org.id for org in orgs]).order_by().values_list("org_id").annotate(Count("id"))
    counts = dict(waiting)
    return {"count": sum(counts.values()), "orgs": [(org, counts[org.id]) for org in orgs if org.id in counts]}


def _last_check(org_ids: Sequence[int], now: datetime) -> dict[str, Any]:
    """The last run of verify_ledger that covered all orgs on the page, and whether the next run is due."""
    covering = Q(org__isnull=True) | Q(org__in=org_ids) if len(org_ids) == 1 else Q(org__isnull=True)
    last = LedgerCheck.objects.filter(covering).order_by("-finished_at").first()
    return {
        "last": last,
        "under_way": tasks.check_under_way(),
        "is_due": last is None or now - last.finished_at > CHECK_IS_FRESH_FOR,
    }
