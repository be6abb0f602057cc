"""Shows how much each user searched by identifiers on each day, unusual numbers first, and the searches themselves."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import site
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q, QuerySet
from django.db.models.functions import TruncDate
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from loyalty.admin.links import link
from loyalty.models import OrgAccess, StaffChange
from loyalty.staff.access import orgs_of
from reversals.admin.html import moment
from reversals.admin.searches import LIMITED, SEARCHED

PERMISSION = "loyalty.view_staffchange"
DAYS = 30
# More of one user on one day than a help desk makes.
UNUSUAL_SEARCHES = 200
UNUSUAL_MISSES = 20
SHOWN = 500


@dataclass(frozen=True, slots=True)
class UserDay:
    """The searches of one user on one day (UTC). A miss is a search that found nothing."""

    user_id: str
    username: str
    day: date
    count: int
    misses: int
    limits: int

    @property
    def is_unusual(self) -> bool:
        return bool(self.limits) or self.count >= UNUSUAL_SEARCHES or self.misses >= UNUSUAL_MISSES

    @property
    def address(self) -> str:
        return f"{reverse('admin:searches')}?{urlencode({'user': self.user_id, 'day': self.day.isoformat()})}"


def user_days(user: Any, *, days: int) -> list[UserDay]:
    """Returns the searches by colleagues of `user` today and on the days before: the unusual, then the latest first."""
    since = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)
    groups = (
        _searches_by_colleagues(user)
        .filter(made_at__gte=since)
        .order_by()
        .annotate(day=TruncDate("made_at", tzinfo=UTC))
        .values_list("subject_id", "made_by", "day")
        .annotate(
            count=Count("id", filter=Q(action=SEARCHED)),
            misses=Count("id", filter=Q(action=SEARCHED, after__matched="nothing")),
            limits=Count("id", filter=Q(action=LIMITED)),
        )
    )
    found = [UserDay(*group) for group in groups]
    return sorted(found, key=lambda each: (not each.is_unusual, -each.day.toordinal(), -each.count, each.username))


def page(request: HttpRequest) -> HttpResponse:
    """Lists users and days, or with `user` and `day` in the address the searches of that user on that day."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    shown = _one_day(request) or _all_days(request)
    return TemplateResponse(request, "admin/searches.html", site.each_context(request) | shown)


def _all_days(request: HttpRequest) -> dict[str, Any]:
    found = user_days(request.user, days=DAYS)
    return {
        "title": "Searches",
        "heading": f"Searches by identifier, last {DAYS} days",
        "note": f"Unusual days come first: a user reached the limit, made {UNUSUAL_SEARCHES} searches, or made "
        f"{UNUSUAL_MISSES} searches that found nothing.",
        "searches": {
            "headers": ["Day (UTC)", "User", "Searches", "Found nothing", "Limit reached", "Unusual"],
            "rows": [_row(each) for each in found[:SHOWN]],
        },
    }


def _row(each: UserDay) -> list[Any]:
    day = format_html('<a class="text-link" href="{}">{}</a>', each.address, each.day.isoformat())
    limit, unusual = "yes" if each.limits else "no", "unusual" if each.is_unusual else ""
    return [day, each.username, each.count, each.misses, limit, unusual]


def _one_day(request: HttpRequest) -> dict[str, Any] | None:
    try:
        day = date.fromisoformat(request.GET.get("day", ""))
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        end = start + timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    user_id = request.GET.get("user", "")
    found = _searches_by_colleagues(request.user).filter(subject_id=user_id if user_id.isdecimal() else "")
    found = found.filter(made_at__gte=start, made_at__lt=end).select_related("org").order_by("-made_at")[:SHOWN]
    return {
        "title": f"Searches on {day}",
        "heading": f"Searches by identifier on {day}",
        "note": f"Texts are masked. The list shows at most {SHOWN} searches, the latest first.",
        "searches": {
            "headers": ["When", "User", "What", "Text", "Matched by", "Org"],
            "rows": [_search(each) for each in found],
        },
    }


def _search(each: StaffChange) -> list[Any]:
    matched = each.after.get("matched", "")
    return [link(each, moment(each.made_at)), each.made_by, each.action, each.after.get("text", ""), matched, each.org]


def _searches_by_colleagues(user: Any) -> QuerySet[StaffChange]:
    """Returns the recorded searches of every user who works on one of the user's orgs, whatever org they had chosen."""
    found = StaffChange.objects.filter(subject=User._meta.label_lower, action__in=[SEARCHED, LIMITED])
    if user.is_superuser:
        return found
    colleagues = OrgAccess.objects.filter(org__in=orgs_of(user)).values_list("user_id", flat=True).distinct()
    return found.filter(subject_id__in=[str(each) for each in colleagues])


site.add_page("searches/", page, name="searches")  # type: ignore[attr-defined]
