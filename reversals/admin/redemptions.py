"""Shows redemptions with their draws and reversals, and makes manual reversals by the same engine as the API."""

from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html

from loyalty.admin.base import OneOrg, PageAdmin, points_column, right
from loyalty.admin.filters import ByPoints, OfProgram, period_of
from loyalty.admin.links import link, link_column, page_of
from loyalty.admin.statuses import badge
from loyalty.ledger.points import grouped, written
from loyalty.models import CoveringLine, Draw, Redemption
from reversals.admin.bulk import may_reverse_in_bulk, reverse_in_bulk
from reversals.admin.exports import Exportable
from reversals.admin.filters import ByStatusOfRedemption
from reversals.admin.html import Amount, amount, in_points, moment, until
from reversals.admin.obstacles import obstacle_of
from reversals.admin.reversing import Page, ReverseForm, approval_in_words, preview_of, take_step
from reversals.admin.statuses import (
    NEEDS_APPROVAL,
    redemptions_with_status,
    reversals_with_status,
    status_of_redemption,
    status_of_request,
    status_of_reversal,
)
from reversals.manual import manual_reversals
from reversals.models import Approval, Attempt, Reversal
from reversals.movements.reverse.movement import Accepted

REVERSE = ("reversals.add_reversal", "loyalty.view_redemption")
SHOWN = 50

AnyTime = period_of("redeemed_at")


@admin.register(Redemption)
class RedemptionAdmin(Exportable, PageAdmin):
    list_display = [
        "public_id",
        "status",
        link_column("customer"),
        link_column("program"),
        points_column("points"),
        points_column("points_reversed"),
        "redeemed_at",
    ]
    more_columns = ["points_remaining", "transaction_number", "external_reference_number"]
    list_filter = [OneOrg, AnyTime, ByStatusOfRedemption, OfProgram, ByPoints]
    list_filter_submit = True
    list_select_related = ["customer", "program"]
    newest_by = "redeemed_at"
    ordering = ["-redeemed_at", "-id"]
    sortable_by = ["redeemed_at"]
    search_fields = [
        "public_id",
        "external_reference_number",
        "transaction_number",
        "reversals__public_id",
        "customer__public_id",
    ]
    search_help_text = (
        "Search by whole redemption id, external reference, transaction number, reversal id or customer id."
    )
    page_template = "admin/loyalty/redemption/page.html"
    actions = [reverse_in_bulk]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Redemption]:
        return redemptions_with_status(super().get_queryset(request))

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        shown = super().get_list_display(request)
        return [*shown, "reverse_link"] if request.user.has_perms(REVERSE) else shown

    @admin.display(description="status")
    def status(self, redemption: Redemption) -> str:
        return badge(status_of_redemption(redemption))

    @admin.display(description="remaining")
    def points_remaining(self, redemption: Redemption) -> str:
        return right(redemption.points - redemption.points_reversed)

    @admin.display(description="reverse")
    def reverse_link(self, redemption: Redemption) -> str:
        if redemption.points == redemption.points_reversed:
            return ""
        address = reverse("admin:loyalty_redemption_reverse", args=[redemption.pk])
        return format_html(
            '<a class="text-link" href="{}" aria-label="Reverse points of redemption {}">Reverse</a>',
            address,
            redemption.public_id,
        )

    def has_bulk_permission(self, request: HttpRequest) -> bool:
        return may_reverse_in_bulk(request)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.reverse_view)
        return [path("<path:object_id>/reverse/", view, name="loyalty_redemption_reverse"), *super().get_urls()]

    def page(self, request: HttpRequest, row: Redemption) -> dict[str, Any]:
        remaining = row.points - row.points_reversed
        obstacle = obstacle_of(row) if remaining else None
        return {
            "title": f"Redemption {row.public_id}",
            "remaining": remaining,
            "status": badge(status_of_redemption(row)),
            "obstacle": obstacle,
            "may_remove_obstacle": obstacle is not None and request.user.has_perm(obstacle.permission),
            "facts": _facts(row),
            "draws": _draws(row),
            "coverings": _coverings(row),
            "reversals": _reversals(row),
            "requests": _requests(row),
            "refused": _refused(row),
            "may_reverse": remaining > 0
            and request.user.has_perms(REVERSE)
            and not (obstacle is not None and obstacle.blocks),
            "button": f"Reverse {in_points(remaining)}",
        }

    def reverse_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Shows the form, then its preview, then makes the reversal."""
        redemption = self.get_object(request, object_id)
        if redemption is None:
            raise Http404
        if not request.user.has_perms(REVERSE):
            raise PermissionDenied
        remaining = redemption.points - redemption.points_reversed
        username = request.user.get_username()

        step: Page[ReverseForm, Accepted] | Reversal | Approval | HttpResponse = take_step(
            request,
            ReverseForm,
            org_id=redemption.org_id,
            initial={"points": written(remaining)},
            preview=lambda form: manual_reversals.preview(form.wanted(redemption, made_by=username)),
            confirm=lambda form: manual_reversals.reverse(form.wanted(redemption, made_by=username)),
        )
        if isinstance(step, HttpResponse):
            return step
        if isinstance(step, Reversal | Approval):
            self.message_user(request, *_in_words(step))
            return redirect(page_of(redemption))
        shown: dict[str, Any] = {
            "form": step.form,
            "title": f"Reverse points of redemption {redemption}",
            "explanation": f"Points redeemed: {grouped(redemption.points)}."
            f" Points already reversed: {grouped(redemption.points_reversed)}. Remaining: {grouped(remaining)}.",
            "back": page_of(redemption),
        }
        if step.preview is None:
            return self.render_page(request, "admin/manual/form.html", redemption, shown)
        shown |= preview_of(step.preview, org_id=redemption.org_id)
        return self.render_page(request, "admin/manual/preview.html", redemption, shown)


def _in_words(outcome: Reversal | Approval) -> tuple[str, int]:
    if isinstance(outcome, Approval):
        return approval_in_words(outcome), messages.WARNING
    return (
        f"Reversal {outcome.public_id} reversed {in_points(outcome.points)},"
        f" {grouped(outcome.points_expired)} of them to expired lots.",
        messages.SUCCESS,
    )


def _facts(redemption: Redemption) -> list[tuple[str, Any]]:
    return [
        ("Customer", link(redemption.customer)),
        ("Org", redemption.org),
        ("Program", redemption.program),
        ("Redeemed", moment(redemption.redeemed_at)),
        ("Transaction number", redemption.transaction_number or "none"),
        ("External reference", redemption.external_reference_number or "none"),
        ("Points", grouped(redemption.points)),
        ("Reversed", grouped(redemption.points_reversed)),
        ("Remaining", grouped(redemption.points - redemption.points_reversed)),
    ]


def _draws(redemption: Redemption) -> dict[str, Any]:
    draws = Draw.objects.filter(org_id=redemption.org_id, redemption=redemption).select_related("lot__customer")
    return {
        "headers": ["Draw order", "Lot", "Customer", "Expires", *map(Amount, ("Drawn", "Reversed", "Remaining"))],
        "rows": [_draw_row(draw, timezone.now()) for draw in draws.order_by("position")[:SHOWN]],
    }


def _draw_row(draw: Draw, now: datetime) -> list[Any]:
    lot = draw.lot
    points = [amount(each) for each in (draw.points, draw.points_reversed, draw.points - draw.points_reversed)]
    if lot is None:
        return [draw.position, "no lot", "", "", *points]
    return [draw.position, link(lot), link(lot.customer), until(lot.expires_at, now), *points]


def _coverings(redemption: Redemption) -> dict[str, Any] | None:
    """The lots that were found later for points drawn from no lot, or None if no lot was found."""
    lines = CoveringLine.objects.filter(org_id=redemption.org_id, covering__redemption=redemption)
    rows = [
        [
            moment(line.covering.made_at),
            link(line.lot),
            amount(line.points),
            line.covering.made_by,
            line.covering.reason,
        ]
        for line in lines.select_related("covering", "lot").order_by("-covering__made_at", "id")[:SHOWN]
    ]
    return {"headers": ["When", "Lot", "Points", "Made by", "Reason"], "rows": rows} if rows else None


def _reversals(redemption: Redemption) -> dict[str, Any]:
    reversals = Reversal.objects.filter(org_id=redemption.org_id, redemption=redemption).order_by("-created_at")
    shown = reversals_with_status(reversals).prefetch_related("approvals", "corrections")
    return {
        "headers": [
            *("Reversal", "Status", "When"),
            *map(Amount, ("Points", "Available", "Expired")),
            *("Channel", "Made by", "Approved by", "Corrected"),
        ],
        "rows": [_reversal_row(each) for each in shown[:SHOWN]],
    }


def _reversal_row(reversal: Reversal) -> list[Any]:
    return [
        link(reversal),
        badge(status_of_reversal(reversal)),
        moment(reversal.created_at),
        *(amount(each) for each in (reversal.points, reversal.points_available, reversal.points_expired)),
        reversal.get_channel_display(),
        reversal.made_by,
        ", ".join(approval.decided_by for approval in reversal.approvals.all()),
        next((link(each, moment(each.created_at)) for each in reversal.corrections.all()), ""),
    ]


def _requests(redemption: Redemption) -> dict[str, Any]:
    """The requests for approval of reversals and corrections of the redemption, decided or not."""
    requests = Approval.objects.filter(org_id=redemption.org_id, redemption=redemption).order_by("-asked_at")
    return {
        "headers": ["Requested", "Type", "Status", Amount("Points"), "By", "Reason", "Decided by", "Comment"],
        "rows": [
            [
                link(each, moment(each.asked_at)),
                "correction" if each.corrects_id else "reversal",
                badge(status_of_request(each)),
                amount(each.points),
                each.asked_by,
                each.reason,
                each.decided_by,
                each.comment,
            ]
            for each in requests[:SHOWN]
        ],
    }


def _refused(redemption: Redemption) -> dict[str, Any]:
    attempts = Attempt.objects.filter(
        org_id=redemption.org_id, redemption_id_asked=redemption.public_id, is_dry_run=False
    ).exclude(rule__in=("", NEEDS_APPROVAL))
    return {
        "headers": ["When", "Channel", "Made by", "Code", "Reason"],
        "rows": [
            [
                moment(attempt.created_at),
                attempt.get_channel_display(),
                attempt.made_by,
                attempt.code,
                attempt.refusal_reason,
            ]
            for attempt in attempts.order_by("-created_at")[:SHOWN]
        ],
    }
