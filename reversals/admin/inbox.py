"""What waits for a user on the home page: requests to decide, own requests, bulk runs, and what needs attention."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, Subquery
from django.http import HttpRequest
from django.template.defaultfilters import pluralize
from django.urls import reverse

from loyalty.admin.links import page_of
from loyalty.admin.statuses import Status, status_of_org
from loyalty.emf.registry import EmfSettings, ReversalState
from loyalty.models import Org, Webhook
from loyalty.staff.access import orgs_of
from reversals.admin import searches_page
from reversals.admin.approvals import DECIDE, DecisionForm, age_of, is_old, kind_of, preview
from reversals.admin.html import counted
from reversals.admin.statuses import status_of_request
from reversals.manual import approvals
from reversals.models import Approval, BulkRow, BulkRun, Channel, LedgerCheck
from reversals.operations.worker import queue

SHOWN = 10
WAITING_SHOWN = 6
COUNTED = 99
OWN_REQUESTS_OF = timedelta(days=30)
RUNS_OF = timedelta(days=90)
SEE_TASKS = "django_tasks_database.view_dbtaskresult"
STOPPED = {ReversalState.OFF, ReversalState.PAUSED, ReversalState.BROKEN}
KEPT = "_requests_waiting"


def badge(request: HttpRequest) -> str:
    """Returns how many requests wait for the user, for the sidebar; empty without any. Counts once a page."""
    if not request.user.has_perm(DECIDE):
        return ""
    if not hasattr(request, KEPT):
        org_ids = orgs_of(request.user).values("id")
        found = approvals.waiting_for(request.user.get_username(), org_ids).order_by()[: COUNTED + 1].count()
        setattr(request, KEPT, found)
    count: int = getattr(request, KEPT)
    return f"{COUNTED}+" if count > COUNTED else str(count or "")


def inbox(request: HttpRequest, orgs: Sequence[Org], now: datetime) -> dict[str, Any]:
    """Returns the context of the first part of the home page. Each part needs its own permission."""
    may, org_ids = request.user.has_perm, [org.id for org in orgs]
    found: dict[str, Any] = {}
    if may(DECIDE):
        found["waiting"] = _waiting(request, org_ids)
    if may("reversals.add_reversal") or may("reversals.add_correction"):
        found["own_requests"] = _own_requests(request.user.get_username(), org_ids, now)
    if may("reversals.add_bulkrun"):
        found["runs"] = _runs_with_rows_left(org_ids, now)
    return found


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits for the user, as a line of the inbox."""

    approval: Approval
    kind: str
    age: str
    is_old: bool


def _waiting(request: HttpRequest, org_ids: Collection[int]) -> dict[str, Any]:
    """Returns the oldest requests that the user may decide, one of them open: with its preview and the decision."""
    requests = approvals.waiting_for(request.user.get_username(), org_ids)
    found = requests.select_related("org", "redemption", "corrects")[: WAITING_SHOWN + 1]
    lines = [Waiting(each, kind_of(each), age_of(each), is_old(each)) for each in found]
    chosen = request.GET.get("request", "")
    position = next((at for at, line in enumerate(lines) if str(line.approval.pk) == chosen), 0)
    waiting: dict[str, Any] = {
        "lines": lines[:WAITING_SHOWN],
        "has_more": len(lines) > WAITING_SHOWN,
        "form": DecisionForm(),
    }
    if lines:
        opened = lines[position]
        following = lines[(position + 1) % len(lines[:WAITING_SHOWN])]
        waiting |= {"open": opened, "next": following if following is not opened else None}
        waiting |= _unrecorded_preview(opened.approval, by=request.user.get_username())
    return waiting


def _unrecorded_preview(approval: Approval, *, by: str) -> dict[str, Any]:
    """Returns the preview of the request without a record of the dry run, because a user only opened the home page."""
    with transaction.atomic():
        shown = preview(approval, by=by)
        transaction.set_rollback(True)
    return shown


def _own_requests(username: str, org_ids: Collection[int], now: datetime) -> list[tuple[Approval, Status, str]]:
    """Returns the user's newest requests with their outcome. Those of bulk runs are on the pages of the runs."""
    requests = (
        Approval.objects.filter(org_id__in=org_ids, asked_by=username, asked_at__gte=now - OWN_REQUESTS_OF)
        .exclude(channel=Channel.BULK)
        .select_related("redemption", "reversal")
        .order_by("-asked_at")
    )
    return [(each, status_of_request(each), kind_of(each)) for each in requests[:SHOWN]]


def _runs_with_rows_left(org_ids: Collection[int], now: datetime) -> list[BulkRun]:
    """Returns the newest runs with rows that are neither reversed nor refused, each with their number as `left`."""
    rows = BulkRow.objects.filter(org_id=OuterRef("org_id"), run_id=OuterRef("id"), status=BulkRow.Status.READY)
    left = rows.order_by().values("run_id").annotate(value=Count("id")).values("value")
    runs = BulkRun.objects.filter(Exists(rows), org_id__in=org_ids, made_at__gte=now - RUNS_OF, cancelled_by="")
    return list(runs.annotate(left=Subquery(left)).select_related("org").order_by("-made_at")[:SHOWN])


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that needs attention: its label, a sentence, and the page behind it, if the user may see it."""

    label: Status
    name: str
    text: str
    address: str = ""


def alarms(
    request: HttpRequest,
    orgs: Sequence[Org],
    settings: dict[int, EmfSettings],
    check: LedgerCheck | None,
    now: datetime,
) -> list[Alarm]:
    """Returns what needs attention in these orgs, as far as the user may know it."""
    may = request.user.has_perm
    found: list[Alarm] = []
    if settings:
        found += _stopped(orgs, settings, may("loyalty.view_emfsetting"))
    if check is not None and check.broken_count:
        found.append(_broken(check))
    if may("loyalty.view_webhook"):
        found += _resting_webhooks([org.id for org in orgs], now)
    if may(SEE_TASKS):
        found += _failing_tasks()
    if may(searches_page.PERMISSION):
        found += _unusual_searches(request)
    return found


def _stopped(orgs: Sequence[Org], settings: dict[int, EmfSettings], may_see_settings: bool) -> Iterator[Alarm]:
    stopped = [(org, state) for org in orgs if (state := settings[org.id].state()) in STOPPED]
    for org, state in stopped[:SHOWN]:
        address = reverse("admin:org_emf", args=[org.id]) if may_see_settings else ""
        yield Alarm(status_of_org(state), str(org), "reversals are refused", address)
    if len(stopped) > SHOWN:
        address = reverse("admin:loyalty_org_changelist") if may_see_settings else ""
        yield Alarm(Status("off or paused", "warning"), f"{len(stopped) - SHOWN} more orgs", "", address)


def _broken(check: LedgerCheck) -> Alarm:
    rows = f"{counted(check.broken_count, 'row')} break{'s' if check.broken_count == 1 else ''} a law of the ledger"
    address = reverse("admin:reversals_ledgercheck_changelist")
    return Alarm(Status("errors found", "danger"), "Ledger check", rows, address)


def _resting_webhooks(org_ids: Collection[int], now: datetime) -> Iterator[Alarm]:
    resting = Webhook.objects.filter(
        Q(is_active=True, rests_until__gt=now) | Q(disabled_at__isnull=False, is_active=False), org_id__in=org_ids
    )
    for webhook in resting.select_related("org").order_by("org_id", "name")[:SHOWN]:
        label = Status("rests", "warning") if webhook.is_active else Status("disabled", "danger")
        text = f"{webhook.org}: {webhook.rest() if webhook.is_active else webhook.disabled_reason}"
        yield Alarm(label, f"Webhook {webhook.name}", text, page_of(webhook))


def _failing_tasks() -> Iterator[Alarm]:
    address = reverse("admin:django_tasks_database_dbtaskresult_changelist")
    if not queue.is_somebody_working():
        text = "start manage.py work: events, seals, checks, emails and bulk runs wait for it"
        yield Alarm(Status("no worker runs", "danger"), "Background tasks", text, address)
    failing = queue.failing().count()
    if failing:
        text = f"{counted(failing, 'task')} failed and will be tried again; the list says why"
        yield Alarm(Status(f"{failing} failing", "warning"), "Background tasks", text, f"{address}?failing=yes")


def _unusual_searches(request: HttpRequest) -> Iterator[Alarm]:
    """The users who searched unusually much by identifiers today or yesterday, in all orgs of the user."""
    for each in [each for each in searches_page.user_days(request.user, days=2) if each.is_unusual][:SHOWN]:
        count = f"{each.count} search{pluralize(each.count, 'es')}"
        text = f"{count} by identifier on {each.day:%Y-%m-%d}, {each.misses} found nothing"
        label = Status("limit reached" if each.limits else "unusual", "warning")
        yield Alarm(label, each.username, text, each.address)
