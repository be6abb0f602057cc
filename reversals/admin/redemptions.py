"""Shows redemptions with their draws and reversals, and makes manual reversals by the same engine as the API."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils import timezone

from loyalty.admin.base import PageAdmin, points_column
from loyalty.ledger.points import written
from loyalty.models import Draw, Redemption
from reversals.admin.bulk import may_reverse_in_bulk, reverse_in_bulk
from reversals.admin.export import Exportable
from reversals.admin.html import in_points, link, moment, page_of
from reversals.admin.reversing import ReverseForm, approval_in_words, form_of, preview_of, take_step
from reversals.manual import manual_reversals
from reversals.models import Approval, Attempt, Reversal
from reversals.movements.reverse.movement import Accepted
from reversals.refusals import Refused

REVERSE = ("reversals.add_reversal", "loyalty.view_redemption")
SHOWN = 50


@admin.register(Redemption)
class RedemptionAdmin(Exportable, PageAdmin):
    list_display = [
        "public_id",
        "customer",
        "program",
        points_column("points"),
        points_column("points_reversed"),
        "redeemed_at",
    ]
    list_select_related = ["customer", "program"]
    search_fields = ["=public_id", "=external_reference_number", "=transaction_number"]
    search_help_text = "Search by whole redemption id, external reference or transaction number."
    page_template = "admin/loyalty/redemption/page.html"
    actions = [reverse_in_bulk]

    def has_bulk_permission(self, request: HttpRequest) -> bool:
        return may_reverse_in_bulk(request)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.reverse_view)
        return [path("<path:object_id>/reverse/", view, name="loyalty_redemption_reverse"), *super().get_urls()]

    def page(self, request: HttpRequest, row: Redemption) -> dict[str, Any]:
        remaining = row.points - row.points_reversed
        return {
            "title": f"Redemption {row.public_id}",
            "remaining": remaining,
            "facts": _facts(row),
            "draws": _draws(row),
            "reversals": _reversals(row),
            "waiting": _waiting(row),
            "refused": _refused(row),
            "may_reverse": remaining > 0 and request.user.has_perms(REVERSE),
        }

    def reverse_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Shows the form, then its preview, then makes the reversal. Each step is posted by the page before."""
        redemption = self.get_object(request, object_id)
        if redemption is None:
            raise Http404
        if not request.user.has_perms(REVERSE):
            raise PermissionDenied
        remaining = redemption.points - redemption.points_reversed
        form = form_of(request, ReverseForm, org_id=redemption.org_id, initial={"points": written(remaining)})
        shown: dict[str, Any] = {
            "form": form,
            "title": f"Reverse points of redemption {redemption}",
            "explanation": f"Points redeemed: {written(redemption.points)}."
            f" Points already reversed: {written(redemption.points_reversed)}.",
            "back": page_of(redemption),
        }
        username = request.user.get_username()
        steps: dict[str, Callable[[], Accepted | Reversal | Approval | Refused]] = {
            "preview": lambda: manual_reversals.preview(form.wanted(redemption, made_by=username)),
            "confirm": lambda: manual_reversals.reverse(form.wanted(redemption, made_by=username)),
        }
        outcome = take_step(request, form, steps)
        if outcome is None or isinstance(outcome, Refused):
            return self.render_page(request, "admin/manual/form.html", redemption, shown)
        if isinstance(outcome, Accepted):
            shown |= preview_of(outcome, org_id=redemption.org_id)
            return self.render_page(request, "admin/manual/preview.html", redemption, shown)
        self.message_user(request, *_in_words(outcome))
        return redirect(shown["back"])


def _in_words(outcome: Reversal | Approval) -> tuple[str, int]:
    if isinstance(outcome, Approval):
        return approval_in_words(outcome), messages.WARNING
    return (
        f"Reversal {outcome.public_id} reversed {in_points(outcome.points)},"
        f" {written(outcome.points_expired)} of them to expired lots.",
        messages.SUCCESS,
    )


def _waiting(redemption: Redemption) -> QuerySet[Approval]:
    waiting = Approval.objects.filter(org_id=redemption.org_id, redemption=redemption, status=Approval.Status.WAITING)
    return waiting.filter(lapses_at__gt=timezone.now()).order_by("asked_at")[:SHOWN]


def _facts(redemption: Redemption) -> list[tuple[str, Any]]:
    return [
        ("Customer", link(redemption.customer)),
        ("Org", redemption.org),
        ("Program", redemption.program),
        ("Redeemed", moment(redemption.redeemed_at)),
        ("Transaction number", redemption.transaction_number or "none"),
        ("External reference", redemption.external_reference_number or "none"),
        ("Points", written(redemption.points)),
        ("Reversed", written(redemption.points_reversed)),
        ("Remaining", written(redemption.points - redemption.points_reversed)),
    ]


def _draws(redemption: Redemption) -> dict[str, Any]:
    draws = Draw.objects.filter(org_id=redemption.org_id, redemption=redemption).select_related("lot__customer")
    return {
        "headers": ["Draw order", "Lot", "Customer", "Expires", "Drawn", "Reversed", "Remaining"],
        "rows": [_draw_row(draw) for draw in draws.order_by("position")[:SHOWN]],
    }


def _draw_row(draw: Draw) -> list[Any]:
    lot = draw.lot
    points = [written(draw.points), written(draw.points_reversed), written(draw.points - draw.points_reversed)]
    if lot is None:
        return [draw.position, "no lot", "", "", *points]
    expiry = moment(lot.expires_at)
    return [draw.position, lot.lot_ref, lot.customer, expiry, *points]


def _reversals(redemption: Redemption) -> dict[str, Any]:
    reversals = Reversal.objects.filter(org_id=redemption.org_id, redemption=redemption).order_by("-created_at")
    return {
        "headers": [
            "Reversal",
            "When",
            "Points",
            "Available",
            "Expired",
            "Channel",
            "Made by",
            "Approved by",
            "Corrected",
        ],
        "rows": [_reversal_row(each) for each in reversals.prefetch_related("approvals", "corrections")[:SHOWN]],
    }


def _reversal_row(reversal: Reversal) -> list[Any]:
    return [
        link(reversal),
        moment(reversal.created_at),
        written(reversal.points),
        written(reversal.points_available),
        written(reversal.points_expired),
        reversal.get_channel_display(),
        reversal.made_by,
        ", ".join(approval.decided_by for approval in reversal.approvals.all()),
        next((link(each, moment(each.created_at)) for each in reversal.corrections.all()), ""),
    ]


def _refused(redemption: Redemption) -> dict[str, Any]:
    attempts = Attempt.objects.filter(
        org_id=redemption.org_id, redemption_id_asked=redemption.public_id, is_dry_run=False
    ).exclude(rule="")
    return {
        "headers": ["When", "Channel", "Made by", "Refusal", "Reason"],
        "rows": [
            [
                moment(attempt.created_at),
                attempt.get_channel_display(),
                attempt.made_by,
                f"{attempt.code} {attempt.rule}",
                attempt.refusal_reason,
            ]
            for attempt in attempts.order_by("-created_at")[:SHOWN]
        ],
    }
