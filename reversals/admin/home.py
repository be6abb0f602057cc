"""The home page: reversals in the user's orgs, in boxes that each need the permission for what they count."""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.db.models import Count, Q, Sum
from django.http import HttpRequest
from django.utils import timezone
from unfold.widgets import UnfoldAdminSelectWidget

from loyalty.emf.registry import ReversalState
from loyalty.emf.stored import settings_of_orgs
from loyalty.models import Org
from loyalty.staff.access import orgs_of
from loyalty.staff.current_org import current_org
from reversals.admin import searches_page
from reversals.admin.statuses import NEEDS_APPROVAL
from reversals.models import Approval, Correction, LedgerCheck
from reversals.operations.daily_totals import ACCEPTED, Total, first_day, start_of, totals_of
from reversals.operations.worker import queue, tasks
from reversals.refusals import ErrorCode

PERIODS = (7, 30, 90)
USUAL_PERIOD = 30
ORGS_SHOWN = 50
USERS_SHOWN = 20
# After this time the ledger should be checked again.
CHECK_IS_FRESH_FOR = timedelta(days=7)
SEE_TASKS = "django_tasks_database.view_dbtaskresult"
STOPPED = {ReversalState.OFF, ReversalState.PAUSED, ReversalState.BROKEN}


class Chooser(forms.Form):
    """Which of the user's orgs the page shows, and for how many days."""

    org = forms.TypedChoiceField(coerce=int, empty_value=None, required=False, widget=UnfoldAdminSelectWidget)
    days = forms.TypedChoiceField(
        label="Period",
        coerce=int,
        empty_value=None,
        required=False,
        choices=[(days, f"{days} days") for days in PERIODS],
        widget=UnfoldAdminSelectWidget,
    )

    def __init__(self, orgs: Iterable[Org], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices: list[tuple[Any, str]] = [("", "All my orgs"), *((org.id, str(org)) for org in orgs)]
        self.fields["org"].choices = choices  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Day:
    """What was reversed on one day."""

    day: date
    count: int
    points: Decimal
    points_expired: Decimal

    def with_total(self, total: Total) -> "Day":
        return Day(
            self.day, self.count + total.count, self.points + total.points, self.points_expired + total.points_expired
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """How often one rule refused; `share` is its percentage of all refusals. A rule that was removed has no code."""

    code: int | None
    message: str
    rule: str
    count: int
    share: int


def dashboard(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """The context of the home page. An invalid choice shows an error beside the field."""
    orgs = list(orgs_of(request.user).order_by("id"))
    chooser = Chooser(orgs, {"days": USUAL_PERIOD} | request.GET.dict())
    chooser.full_clean()
    org_id, days = chooser.cleaned_data.get("org"), chooser.cleaned_data.get("days") or USUAL_PERIOD
    if org_id is not None:
        current_org(request)
    shown = [org for org in orgs if org_id in (None, org.id)]
    return context | {"orgs": orgs, "chooser": chooser, "days": days} | _boxes(request, shown, days)


def _boxes(request: HttpRequest, orgs: Sequence[Org], days: int) -> dict[str, Any]:
    """The boxes that the user may see for these orgs."""
    if not orgs:
        return {}
    may, now, org_ids = request.user.has_perm, timezone.now(), [org.id for org in orgs]
    sees_reversals, sees_attempts = may("reversals.view_reversal"), may("reversals.view_attempt")
    totals = totals_of(org_ids, days=days, now=now) if sees_reversals or sees_attempts else []
    boxes: dict[str, Any] = {}
    if sees_reversals:
        boxes["reversals"] = _reversals(totals)
    if sees_attempts:
        boxes["refusals"] = _refusals(totals)
    if may("reversals.view_correction"):
        boxes["corrections"] = _corrections(org_ids, since=start_of(first_day(days=days, now=now)))
    if may("reversals.view_approval"):
        boxes["approvals"] = _approvals(orgs, now)
    if may("loyalty.view_emfsetting"):
        boxes["stopped"] = _stopped(orgs)
    if may("reversals.view_ledgercheck"):
        boxes["check"] = _last_check(org_ids, now)
    if may(searches_page.PERMISSION):
        boxes["unusual_searches"] = _unusual_searches(request)
    if may(SEE_TASKS):
        boxes["worker"] = {"is_running": queue.is_somebody_working(), "failing": queue.failing().count()}
    return boxes


def _reversals(totals: Iterable[Total]) -> dict[str, Any]:
    """The points reversed by day, with their sums and the data of the charts."""
    days: dict[date, Day] = {}
    for total in sorted(total for total in totals if total.rule == ACCEPTED):
        before = days.get(total.day, Day(total.day, 0, Decimal(0), Decimal(0)))
        days[total.day] = before.with_total(total)
    points = sum((day.points for day in days.values()), Decimal(0))
    expired = sum((day.points_expired for day in days.values()), Decimal(0))
    return {
        "days": [*days.values()],
        "count": sum(day.count for day in days.values()),
        "points": points,
        "expired_share": round(100 * expired / points, 1) if points else Decimal(0),
        "points_expired": expired,
        "points_chart": _points_chart([*days.values()]),
        "count_chart": _count_chart([*days.values()]),
    }


def _points_chart(days: Sequence[Day]) -> str:
    """The chart of points. The bars of expired points are drawn in front of the bars of all points."""
    return _chart(
        days,
        ("to expired lots", [float(day.points_expired) for day in days], "var(--color-orange-500)"),
        ("points reversed", [float(day.points) for day in days], "var(--color-primary-500)"),
    )


def _count_chart(days: Sequence[Day]) -> str:
    return _chart(days, ("reversals", [day.count for day in days], "var(--color-primary-500)"))


def _chart(days: Sequence[Day], *bars: tuple[str, Sequence[float], str]) -> str:
    """A bar chart by day, in the JSON that django-unfold's chart reads."""
    datasets = [
        {"label": label, "data": data, "backgroundColor": color, "maxTicksXLimit": 8, "displayYAxis": True}
        for label, data, color in bars
    ]
    return json.dumps({"labels": [f"{day.day:%d %b}" for day in days], "datasets": datasets})


def _refusals(totals: Iterable[Total]) -> list[Refusal]:
    """The refusals, most frequent first. A request for approval is not a refusal."""
    counts: Counter[str] = Counter()
    for total in totals:
        if total.rule not in {ACCEPTED, NEEDS_APPROVAL}:
            counts[total.rule] += total.count
    return [_refusal(rule, count, counts.total()) for rule, count in counts.most_common()]


def _refusal(rule: str, count: int, of: int) -> Refusal:
    error = ErrorCode.__members__.get(rule)  # a rule of an earlier version may have been removed
    code, message = (error.code, error.message) if error is not None else (None, "no longer in use")
    return Refusal(code, message, rule.replace("_", " ").lower(), count, round(100 * count / of))


def _corrections(org_ids: Collection[int], *, since: datetime) -> dict[str, Any]:
    """Returns how many corrections were made since then, and their points."""
    corrections = Correction.objects.filter(org_id__in=org_ids, created_at__gte=since)
    return corrections.aggregate(count=Count("id"), points=Sum("points"))


def _approvals(orgs: Sequence[Org], now: datetime) -> dict[str, Any]:
    """Returns how many approval requests wait for a second user, by org. Lapsed requests are not counted."""
    waiting = (
        Approval.objects.filter(org__in=orgs, status=Approval.Status.WAITING, lapses_at__gt=now)
        .order_by()
        .values_list("org_id")
        .annotate(Count("id"))
    )
    counts = dict(waiting)
    return {"count": sum(counts.values()), "orgs": [(org, counts[org.id]) for org in orgs if org.id in counts]}


def _stopped(orgs: Sequence[Org]) -> dict[str, Any]:
    """The orgs whose redemptions cannot be reversed now, and why."""
    settings = settings_of_orgs([org.id for org in orgs])
    stopped = [(org, state) for org in orgs if (state := settings[org.id].state()) in STOPPED]
    return {"count": len(stopped), "orgs": stopped[:ORGS_SHOWN]}


def _unusual_searches(request: HttpRequest) -> list[searches_page.UserDay]:
    """The users who searched unusually much by identifiers today or yesterday, in all orgs of the user."""
    return [each for each in searches_page.user_days(request.user, days=2) if each.is_unusual][:USERS_SHOWN]


def _last_check(org_ids: Sequence[int], now: datetime) -> dict[str, Any]:
    """The last run of verify_ledger that covered all orgs on the page, and whether the next run is due."""
    covering = Q(org__isnull=True) | Q(org__in=org_ids) if len(org_ids) == 1 else Q(org__isnull=True)
    last = LedgerCheck.objects.filter(covering).order_by("-finished_at").first()
    return {
        "last": last,
        "under_way": tasks.check_under_way(),
        "is_due": last is None or now - last.finished_at > CHECK_IS_FRESH_FOR,
    }
