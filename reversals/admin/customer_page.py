"""The page of a customer in four tabs: overview, lots, redemptions and activity, with counts and filters."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.db.models import F, Q, QuerySet, Sum
from django.db.models.functions import TruncMonth
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from unfold.widgets import UnfoldAdminSelectWidget

from loyalty.admin.links import link
from loyalty.admin.statuses import badge, status_of_lot
from loyalty.emf.stored import settings_of
from loyalty.ledger.clock import database_now
from loyalty.ledger.identifiers import masked
from loyalty.models import Customer, CustomerIdentifier, GroupMember, Lot, Program, Redemption
from reversals.admin.html import Amount, amount, bars, copyable, counted_up_to, in_points, moment
from reversals.admin.obstacles import obstacle_at
from reversals.admin.statuses import redemptions_with_status, status_of_redemption
from reversals.admin.timeline import KINDS, count_of, timeline_of

SEE_IDENTIFIERS = "loyalty.see_identifiers"
CHANGE_IDENTIFIERS = "loyalty.change_customeridentifier"
REVERSE = "reversals.add_reversal"
MERGED_SHOWN = 50
ROWS_SHOWN = 50
EXPIRIES_SHOWN = 12
PROGRAMS_OFFERED = 100
LONGEST_PAGE_NUMBER = 4
ZERO = Decimal(0)

OVERVIEW, LOTS, REDEMPTIONS, ACTIVITY = "overview", "lots", "redemptions", "activity"


@dataclass(frozen=True, slots=True)
class Tab:
    """One tab: its name in the address, its title with the count of its rows, and what it shows below the tabs."""

    name: str
    title: str
    show: Callable[[], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class PageOfRows:
    """Some rows of a tab, the number of the page from 1, and whether more rows follow."""

    rows: list[Any]
    number: int
    has_next: bool


class Filters(forms.Form):
    """The filters of a tab. They are parameters of the address, so they work without a script."""

    def __init__(self, request: HttpRequest, **choices: list[tuple[str, str]]) -> None:
        super().__init__(request.GET)
        for name, offered in choices.items():
            widget = UnfoldAdminSelectWidget()
            self.fields[name] = forms.ChoiceField(choices=offered, required=False, widget=widget)
        self.full_clean()

    def chosen(self, name: str) -> str:
        """Returns what was chosen. An unknown value counts as the first choice."""
        return self.cleaned_data.get(name) or ""


def shown_of(request: HttpRequest, customer: Customer) -> dict[str, Any]:
    """Returns the tabs that the user may see, and the rows of the chosen one."""
    may, now = request.user.has_perm, database_now()
    lots = Lot.objects.filter(org_id=customer.org_id, customer=customer)
    redemptions = Redemption.objects.filter(org_id=customer.org_id, customer=customer)
    tabs = [Tab(OVERVIEW, "Overview", lambda: _overview(request, customer, now))]
    if may("loyalty.view_lot"):
        tabs.append(Tab(LOTS, f"Lots ({counted_up_to(lots)})", lambda: _lots(request, customer, lots, now)))
    if may("loyalty.view_redemption"):
        title = f"Redemptions ({counted_up_to(redemptions)})"
        tabs.append(Tab(REDEMPTIONS, title, lambda: _redemptions(request, customer, redemptions, now)))
    title = f"Activity ({count_of(customer, may_see=may)})"
    tabs.append(Tab(ACTIVITY, title, lambda: _activity(request, customer)))
    chosen = next((tab for tab in tabs if tab.name == request.GET.get("tab")), tabs[0])
    offered = [{"title": tab.title, "link": f"?tab={tab.name}", "active": tab is chosen} for tab in tabs]
    return {"tab": chosen.name, "tabs": offered, **chosen.show()}


def type_in_words(kind: str) -> str:
    """Returns the type of an identifier in words."""
    return kind.lower().replace("_", " ").capitalize()


def _overview(request: HttpRequest, customer: Customer, now: datetime) -> dict[str, Any]:
    may = request.user.has_perm
    may_change = may(CHANGE_IDENTIFIERS) and not (customer.merged_into_id or customer.erased_at)
    return {
        "facts": _facts(customer),
        "identifiers": _identifiers(customer, unmasked=may(SEE_IDENTIFIERS), may_change=may_change),
        "may_change_identifiers": may_change,
        **_balances(customer, now),
    }


def _facts(customer: Customer) -> list[tuple[str, Any]]:
    membership = GroupMember.objects.filter(org_id=customer.org_id, customer=customer, left_at__isnull=True)
    member = membership.select_related("group").first()
    facts = [
        ("Customer id", copyable(customer.public_id, "the customer id")),
        ("Org", customer.org),
        ("Status", customer.get_status_display()),
        ("Reversals", lock_in_words(customer)),
        ("Group", "none" if member is None else link(member.group)),
    ]
    if customer.merged_into is not None:
        facts.append(("Merged into", link(customer.merged_into)))
    merged = Customer.objects.filter(org_id=customer.org_id, merged_into=customer).order_by("public_id")[:MERGED_SHOWN]
    if merged:
        names = format_html_join(", ", "{}", ([link(each)] for each in merged))
        facts.append(("Customers merged into this one", names))
    return [*facts, ("Lock reason", customer.reversals_lock_reason)] if is_locked(customer) else facts


def is_locked(customer: Customer) -> bool:
    """Returns whether reversals of the customer are locked now."""
    until = customer.reversals_locked_until
    return customer.reversals_locked and (until is None or until > timezone.now())


def lock_in_words(customer: Customer) -> str:
    """Returns whether reversals of the customer are locked, and until when."""
    if not is_locked(customer):
        return "not locked"
    return f"locked until {moment(customer.reversals_locked_until, none='a user unlocks them')}"


def _identifiers(customer: Customer, *, unmasked: bool, may_change: bool) -> dict[str, Any]:
    """The identifiers. Only a user who may see them can copy them; a masked one does not reach the page."""
    named = CustomerIdentifier.objects.filter(org_id=customer.org_id, customer=customer).order_by("type", "id")
    rows = []
    for each in named[:ROWS_SHOWN]:
        kind = type_in_words(each.type)
        row = [kind, copyable(each.value, kind) if unmasked else masked(each.value)]
        if may_change:
            address = reverse("admin:loyalty_customer_identifiers", args=[customer.pk])
            text = f"Change or remove {kind.lower()}"
            row.append(format_html('<a class="text-link" href="{}?identifier={}">{}</a>', address, each.pk, text))
        rows.append(row)
    return {"headers": ["Type", "Value", *(["Change"] if may_change else [])], "rows": rows}


def _balances(customer: Customer, now: datetime) -> dict[str, Any]:
    """The points that lots hold: in all, by program, and the available ones by the month in which they expire.

    One statement reads it all, grouped by program and month, however many lots the customer has.
    """
    unexpired = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    held = Lot.objects.filter(org_id=customer.org_id, customer=customer, points_remaining__gt=0, awarded_at__lte=now)
    groups = (
        held.order_by()
        .values_list("program_id", "program__name", TruncMonth("expires_at"))
        .annotate(
            available=Sum("points_remaining", filter=unexpired), expired=Sum("points_remaining", filter=~unexpired)
        )
    )
    by_program: dict[tuple[str, str], list[Decimal]] = defaultdict(lambda: [ZERO, ZERO])
    by_month: dict[datetime | None, Decimal] = defaultdict(lambda: ZERO)
    for program_id, name, month, available, expired in groups:
        both = by_program[name, program_id]
        both[0], both[1] = both[0] + (available or ZERO), both[1] + (expired or ZERO)
        if available:
            by_month[month] += available
    next_lot = held.filter(expires_at__gt=now).order_by("expires_at").first() if by_month else None
    return {
        "balances": [
            ("Available", in_points(sum((available for available, _ in by_program.values()), ZERO))),
            ("Expired, not spent", in_points(sum((expired for _, expired in by_program.values()), ZERO))),
            ("Next expiry", "none" if next_lot is None else moment(next_lot.expires_at)),
        ],
        "by_program": _by_program(by_program),
        "by_expiry": _by_expiry(by_month),
    }


def _by_program(points: dict[tuple[str, str], list[Decimal]]) -> dict[str, Any]:
    most = max((available + expired for available, expired in points.values()), default=ZERO)
    return {
        "headers": ["Program", Amount("Available"), Amount("Expired, not spent"), "Chart"],
        "rows": [
            [name, amount(available), amount(expired), bars(most, available=available, expired=expired)]
            for (name, _), (available, expired) in sorted(points.items())
        ],
    }


def _by_expiry(points: dict[datetime | None, Decimal]) -> dict[str, Any]:
    """The available points by month of expiry, soonest first; what never expires is the last row."""
    months = sorted(month for month in points if month is not None)
    rows = [(f"{month:%B %Y}", points[month]) for month in months[:EXPIRIES_SHOWN]]
    if later := months[EXPIRIES_SHOWN:]:
        rows.append(("later", sum((points[month] for month in later), ZERO)))
    if None in points:
        rows.append(("never", points[None]))
    most = max((each for _, each in rows), default=ZERO)
    return {
        "headers": ["Expires", Amount("Points"), "Chart"],
        "rows": [[name, amount(each), bars(most, available=each)] for name, each in rows],
    }


def _lots(request: HttpRequest, customer: Customer, lots: QuerySet[Lot], now: datetime) -> dict[str, Any]:
    filters = Filters(
        request,
        status=[("", "All"), ("available", "Available"), ("spent", "Spent"), ("expired", "Expired")],
        program=_programs(customer),
        order=[("", "Newest first"), ("expiry", "Soonest expiry first")],
    )
    conditions = {
        "available": Q(points_remaining__gt=0) & (Q(expires_at__isnull=True) | Q(expires_at__gt=now)),
        "spent": Q(points_remaining=0),
        "expired": Q(points_remaining__gt=0, expires_at__lte=now),
    }
    found = lots.filter(conditions.get(filters.chosen("status"), Q()), _of_program(filters)).select_related("program")
    by_expiry = filters.chosen("order") == "expiry"
    order: tuple[Any, ...] = (F("expires_at").asc(nulls_last=True), "id") if by_expiry else ("-awarded_at", "-id")
    page = _page_of(request, found.order_by(*order))
    return {
        "filters": filters,
        "page": page,
        "table": {
            "headers": [
                *("Lot", "Status", "Program", "Awarded", "Expires"),
                *map(Amount, ("Points awarded", "Points remaining", "Re-issued")),
            ],
            "rows": [
                [
                    link(lot),
                    badge(status_of_lot(lot, now)),
                    lot.program.name,
                    moment(lot.awarded_at),
                    moment(lot.expires_at),
                    amount(lot.points_awarded),
                    amount(lot.points_remaining),
                    amount(lot.points_reissued),
                ]
                for lot in page.rows
            ],
        },
    }


def _redemptions(
    request: HttpRequest, customer: Customer, redemptions: QuerySet[Redemption], now: datetime
) -> dict[str, Any]:
    filters = Filters(
        request,
        status=[
            *(("", "All"), ("open", "Open"), ("partly", "Partly reversed"), ("reversed", "Reversed")),
            ("waiting", "Waiting for approval"),
        ],
        program=_programs(customer),
    )
    conditions = {
        "open": Q(points_reversed=0, is_waiting=False),
        "partly": Q(points_reversed__gt=0, points_reversed__lt=F("points"), is_waiting=False),
        "reversed": Q(points_reversed=F("points"), is_waiting=False),
        "waiting": Q(is_waiting=True),
    }
    found = redemptions_with_status(redemptions).select_related("program", "customer")
    found = found.filter(conditions.get(filters.chosen("status"), Q()), _of_program(filters))
    page = _page_of(request, found.order_by("-redeemed_at", "-id"))
    may_reverse = request.user.has_perm(REVERSE)
    obstacles, ways = _ways_to_reverse(customer, page, now) if may_reverse else ([], {})
    return {
        "filters": filters,
        "page": page,
        "obstacles": obstacles,
        "table": {
            "headers": [
                *("Redemption", "Status", "Program", "Redeemed"),
                *map(Amount, ("Points", "Reversed")),
                *(["Reverse"] if may_reverse else []),
            ],
            "rows": [
                [
                    link(each),
                    badge(status_of_redemption(each)),
                    each.program.name,
                    moment(each.redeemed_at),
                    *map(amount, (each.points, each.points_reversed)),
                    *([ways[each.pk]] if may_reverse else []),
                ]
                for each in page.rows
            ],
        },
    }


def _ways_to_reverse(customer: Customer, page: PageOfRows, now: datetime) -> tuple[list[str], dict[int, str]]:
    """Returns what stands in the way of reversing the redemptions, each reason once, and the link of each redemption.

    A redemption that cannot be reversed has no link.
    """
    settings = settings_of(customer.org_id)
    obstacles: list[str] = []
    ways: dict[int, str] = {}
    for redemption in page.rows:
        remaining = redemption.points - redemption.points_reversed
        obstacle = obstacle_at(now, redemption, settings) if remaining else None
        ways[redemption.pk] = "" if not remaining else "not possible now"
        if obstacle is not None and obstacle.blocks:
            obstacles.append(obstacle.text)
        elif remaining:
            address = reverse("admin:loyalty_redemption_reverse", args=[redemption.pk])
            text = f"Reverse {in_points(remaining)}"
            ways[redemption.pk] = format_html('<a class="text-link" href="{}">{}</a>', address, text)
    return list(dict.fromkeys(obstacles)), ways


def _activity(request: HttpRequest, customer: Customer) -> dict[str, Any]:
    may = request.user.has_perm
    kinds = [(kind.name, kind.title) for kind in KINDS if may(kind.permission)]
    filters = Filters(request, kind=[("", "All"), *kinds])
    moments = timeline_of(customer, may_see=may, kind=filters.chosen("kind"))
    return {
        "filters": filters,
        "table": {
            "headers": ["When", "What happened", "Record", Amount("Points"), "Details", "By"],
            "rows": [each.as_row() for each in moments],
        },
        "newest": ROWS_SHOWN,
        "of_customer": f"org={customer.org_id}&customer__id__exact={customer.pk}",
    }


def _programs(customer: Customer) -> list[tuple[str, str]]:
    programs = Program.objects.filter(org_id=customer.org_id).order_by("name", "id")[:PROGRAMS_OFFERED]
    return [("", "All"), *((str(program.public_id), str(program)) for program in programs)]


def _of_program(filters: Filters) -> Q:
    chosen = filters.chosen("program")
    return Q(program__public_id=chosen) if chosen else Q()


def _page_of(request: HttpRequest, rows: QuerySet[Any]) -> PageOfRows:
    """Returns one page of the rows without counting them. Unknown numbers are the first page."""
    asked = request.GET.get("p", "")
    number = max(1, int(asked)) if asked.isdecimal() and len(asked) <= LONGEST_PAGE_NUMBER else 1
    start = (number - 1) * ROWS_SHOWN
    fetched = list(rows[start : start + ROWS_SHOWN + 1])
    return PageOfRows(fetched[:ROWS_SHOWN], number, has_next=len(fetched) > ROWS_SHOWN)
