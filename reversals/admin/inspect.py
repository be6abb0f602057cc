"""Shows reversals and attempts. Rows of the ledger are never edited."""

import json
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html

from loyalty.admin.base import OneOrg, PageAdmin, points_column
from loyalty.admin.filters import ByPoints, ByUser, Period
from loyalty.admin.links import link, link_column
from loyalty.admin.lists import FOUND_AT_MOST, ids_of
from loyalty.admin.statuses import badge
from loyalty.ledger.canonical import canonical, searched_spellings
from loyalty.ledger.points import grouped
from loyalty.ledger.queries import can_be_stored
from loyalty.models import Redemption
from loyalty.staff.current_org import current_org
from reversals.admin.correcting import may_correct
from reversals.admin.exports import Exportable
from reversals.admin.filters import ByOperation, ByRule, ByStatus, OfClient, OfProgramAsked, OfProgramOfRedemption
from reversals.admin.html import Amount, amount, in_points, link_or_none, moment, until, written_or
from reversals.admin.statuses import reversals_with_status, status_of_attempt, status_of_request, status_of_reversal
from reversals.manual.named import caller_of
from reversals.models import Approval, Attempt, Channel, Correction, Reversal, ReversalLine

SHOWN = 50
LONGEST_CALL = timedelta(minutes=1)
OF_REDEMPTION = ("external_reference_number", "transaction_number", "reversals__public_id", "customer__public_id")


@admin.register(Reversal)
class ReversalAdmin(Exportable, PageAdmin):
    list_display = [
        "public_id",
        "status",
        link_column("redemption"),
        link_column("customer"),
        points_column("points"),
        points_column("points_expired"),
        "channel",
        "made_by",
        "created_at",
    ]
    more_columns = [
        "program",
        points_column("points_asked"),
        points_column("points_available"),
        "reason",
        "corrected_at",
        "corrected_by",
    ]
    list_select_related = ["redemption__program", "customer"]
    list_filter = [OneOrg, Period, ByStatus, "channel", OfProgramOfRedemption, OfClient, ByUser, ByPoints]
    list_filter_submit = True
    newest_by = "created_at"
    ordering = ["-created_at", "-id"]
    sortable_by = ["created_at"]
    search_fields = [
        "public_id",
        "redemption__public_id",
        "redemption__external_reference_number",
        "redemption__transaction_number",
        "customer__public_id",
    ]
    search_help_text = (
        "Search by whole reversal id, redemption id, external reference, transaction number or customer id."
    )
    page_template = "admin/reversals/reversal/page.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Reversal]:
        return reversals_with_status(super().get_queryset(request))

    @admin.display(description="status")
    def status(self, reversal: Reversal) -> str:
        return badge(status_of_reversal(reversal))

    @admin.display(description="program")
    def program(self, reversal: Reversal) -> str:
        return link(reversal.redemption.program)

    @admin.display(description="corrected at")
    def corrected_at(self, reversal: Any) -> datetime | None:
        at: datetime | None = reversal.corrected_at
        return at

    @admin.display(description="corrected by")
    def corrected_by(self, reversal: Any) -> str:
        return reversal.corrected_by or ""

    def page(self, request: HttpRequest, row: Reversal) -> dict[str, Any]:
        return {
            "title": f"Reversal {row.public_id}",
            "facts": _reversal_facts(row),
            "attempt": _attempt_of(row),
            "lines": _lines(row),
            "requests": _requests(row),
            "corrections": _corrections(row),
            "may_correct": may_correct(request, row),
        }


@admin.register(Attempt)
class AttemptAdmin(Exportable, PageAdmin):
    list_display = [
        "created_at",
        "operation_name",
        "result",
        "channel",
        "made_by",
        "requested_redemption",
        link_column("reversal"),
    ]
    more_columns = [
        "is_dry_run",
        "external_reference_asked",
        points_column("points_asked"),
        "idempotency_key",
        "request_id",
        "http_status",
        "code",
        "rule",
        "refusal_reason",
        "duration_ms",
    ]
    list_select_related = ["reversal"]
    list_filter = [OneOrg, Period, ByRule, "channel", ByOperation, "is_dry_run", OfProgramAsked, OfClient, ByUser]
    list_filter_submit = True
    newest_by = "created_at"
    ordering = ["-created_at", "-id"]
    sortable_by = ["created_at"]
    search_fields = ["redemption_id_asked", "idempotency_key"]
    search_help_text = (
        "Search by whole redemption id, external reference, transaction number, reversal id or customer id, or by an"
        " idempotency key that holds a reply."
    )
    page_template = "admin/reversals/attempt/page.html"

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Attempt], search_term: str
    ) -> tuple[QuerySet[Attempt], bool]:
        """Searches by redemption id and by keys that hold a reply. Other keys and ids are not in an index.

        So attempts of a reversal are those of its redemption, and so on.
        """
        org = current_org(request)
        if not canonical(search_term) or org is None:
            return queryset, False
        terms = [term for term in searched_spellings(search_term) if can_be_stored(term)]
        redemptions = {pk for path in OF_REDEMPTION for pk in ids_of(Redemption, path, terms, org_id=org.id)}
        names = Redemption.objects.filter(org=org, id__in=redemptions).values_list("public_id", flat=True)
        ways = (
            Q(redemption_id_asked__in={*terms, *names}),
            Q(idempotency_key__in=terms, holds_key=True),
        )
        found = {pk for way in ways for pk in queryset.filter(way).values_list("pk", flat=True)[:FOUND_AT_MOST]}
        return queryset.filter(pk__in=found), False

    @admin.display(description="operation")
    def operation_name(self, attempt: Attempt) -> str:
        return attempt.operation.capitalize()

    @admin.display(description="requested redemption")
    def requested_redemption(self, attempt: Attempt) -> str:
        asked = attempt.redemption_id_asked
        address = reverse("admin:loyalty_redemption_changelist", query={"org": attempt.org_id, "q": asked})
        return format_html('<a class="text-link" href="{}">{}</a>', address, asked) if asked else ""

    @admin.display(description="result")
    def result(self, attempt: Attempt) -> str:
        label = badge(status_of_attempt(attempt))
        return format_html("{} dry run", label) if attempt.is_dry_run else label

    def page(self, request: HttpRequest, row: Attempt) -> dict[str, Any]:
        lines = _lines(row.reversal) if row.reversal is not None else None
        return {
            "title": f"Attempt of {moment(row.created_at)}",
            "asked": _asked(row),
            "answered": _answered(row),
            "reply": _pretty(row.reply),
            "lines": lines,
        }


def _reversal_facts(reversal: Reversal) -> list[tuple[str, Any]]:
    redemption = Redemption.objects.select_related("program").get(pk=reversal.redemption_id)
    return [
        ("Status", badge(status_of_reversal(reversal))),
        ("Reversal id", reversal.public_id),
        ("Org", reversal.org),
        ("Program", redemption.program),
        ("Redemption", link(redemption)),
        ("Customer", link(reversal.customer)),
        ("Points requested", written_or(reversal.points_asked, "all remaining")),
        ("Points reversed", grouped(reversal.points)),
        ("Available again", grouped(reversal.points_available)),
        ("To expired lots", grouped(reversal.points_expired)),
        ("Channel", reversal.get_channel_display()),
        ("Made by", reversal.made_by),
        *_caller(reversal),
        ("When", moment(reversal.created_at)),
        ("Reason", reversal.reason or "not given"),
        ("Idempotency key", "sent" if reversal.has_key else "none"),
    ]


def _caller(reversal: Reversal) -> list[tuple[str, str]]:
    """Returns who called the command that made the reversal, and named its user."""
    caller = caller_of(reversal) if reversal.channel == Channel.COMMAND else None
    return [] if caller is None else [("User named by", caller)]


def _lines(reversal: Reversal) -> dict[str, Any]:
    """The reversed points by lot, the last drawn lot first."""
    lines = ReversalLine.objects.filter(org_id=reversal.org_id, reversal=reversal)
    parents = lines.select_related("draw__lot__program", "draw__lot__customer", "reissued_lot")
    return {
        "headers": [
            *("Lot", "Customer", "Program", "Expires"),
            *map(Amount, ("Points", "Available", "Expired")),
            "Re-issued in",
        ],
        "rows": [_line(line, timezone.now()) for line in parents.order_by("-draw__position")[:SHOWN]],
    }


def _line(line: ReversalLine, now: datetime) -> list[Any]:
    lot = line.draw.lot
    points = [amount(each) for each in (line.points, line.points_available, line.points_expired)]
    reissued = "" if line.reissued_lot is None else link(line.reissued_lot)
    if lot is None:
        return ["no lot", "", "", "", *points, reissued]
    return [link(lot), link(lot.customer), lot.program.name, until(lot.expires_at, now), *points, reissued]


def _requests(reversal: Reversal) -> list[str]:
    """The approval requests for this reversal and for its correction."""
    asked = Approval.objects.filter(Q(reversal=reversal) | Q(corrects=reversal), org_id=reversal.org_id)
    return [
        link(each, f"{each} on {moment(each.asked_at)}: {status_of_request(each)}")
        for each in asked.order_by("-id")[:SHOWN]
    ]


def _corrections(reversal: Reversal) -> list[str]:
    corrections = Correction.objects.filter(org_id=reversal.org_id, reversal=reversal)
    return [
        link(each, f"{in_points(each.points)} taken back on {moment(each.created_at)} by {each.made_by}")
        for each in corrections
    ]


def _attempt_of(reversal: Reversal) -> Attempt | None:
    """The attempt that made the reversal, searched by time because no index holds its reversal."""
    made = reversal.created_at
    around = Attempt.objects.filter(
        org_id=reversal.org_id, created_at__range=(made - LONGEST_CALL, made + LONGEST_CALL), reversal=reversal
    )
    return around.order_by("created_at").first()


def _asked(attempt: Attempt) -> list[tuple[str, Any]]:
    redemption = _redemption_of(attempt)
    identifier = f"{attempt.identifier_type} {attempt.identifier_masked}".strip()
    return [
        ("When", moment(attempt.created_at)),
        ("Org", attempt.org),
        ("Operation", attempt.operation.capitalize()),
        ("Dry run", "yes, no points moved" if attempt.is_dry_run else "no"),
        ("Channel", attempt.get_channel_display()),
        ("Made by", attempt.made_by),
        ("Client address", attempt.address or "not stored"),
        ("Redemption id", attempt.redemption_id_asked or "none"),
        ("External reference", attempt.external_reference_asked or "none"),
        ("Redemption", link_or_none(redemption)),
        ("Customer", link_or_none(redemption and redemption.customer)),
        ("Identifier", identifier or "none"),
        ("Points requested", written_or(attempt.points_asked, "all remaining")),
        ("Idempotency key", attempt.idempotency_key or "none"),
        (
            "Repeats",
            "a repeat with this key returns this reply" if attempt.holds_key else "no reply is held for a repeat",
        ),
        ("Request id", attempt.request_id or "none"),
        ("Reason", attempt.reason or "not given"),
    ]


def _redemption_of(attempt: Attempt) -> Redemption | None:
    """The redemption that the attempt made or named, by id or external reference; None if the org does not have it."""
    if attempt.redemption_id is not None:
        named = Q(id=attempt.redemption_id)
    elif attempt.redemption_id_asked:
        named = Q(public_id=attempt.redemption_id_asked)
    elif attempt.external_reference_asked:
        named = Q(external_reference_number=attempt.external_reference_asked)
    else:
        return None
    return Redemption.objects.filter(named, org_id=attempt.org_id).select_related("customer").first()


def _answered(attempt: Attempt) -> list[tuple[str, Any]]:
    return [
        ("Result", badge(status_of_attempt(attempt))),
        ("Rule", attempt.rule or "none"),
        *_refusal(attempt),
        ("HTTP status", attempt.http_status or "none"),
        ("Reversal", link_or_none(attempt.reversal)),
        ("Duration", f"{attempt.duration_ms} ms" if attempt.duration_ms is not None else "not measured"),
    ]


def _refusal(attempt: Attempt) -> list[tuple[str, Any]]:
    if not attempt.rule:
        return []
    error = attempt.ladder.__members__.get(attempt.rule)
    row = "the platform" if error is None or error.row is None else f"rule {error.row} in the order of refusals"
    message = "no longer in use" if error is None else error.message
    return [("Published message", message), ("Refused by", row), ("Refusal reason", attempt.refusal_reason)]


def _pretty(reply: str) -> str:
    """The body of the reply, indented if it is JSON."""
    try:
        return json.dumps(json.loads(reply), indent=2, ensure_ascii=False)
    except ValueError:
        return reply
