"""Redemptions: what each drew, what came back, and reversals by hand through the same door as the API's."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from loyalty.admin.base import PageAdmin
from loyalty.models import Draw, Redemption
from loyalty.points import written
from reversals import by_hand
from reversals.admin.bulk import may_reverse_in_bulk, reverse_in_bulk
from reversals.admin.reversing import ReverseForm, preview_of
from reversals.by_hand import Wanted
from reversals.errors import Refused
from reversals.models import Approval, Attempt, Reversal
from reversals.service import Accepted

REVERSE = "reversals.add_reversal"
SHOWN = 50
STEPS: dict[str, Callable[[Wanted], Accepted | Reversal | Approval | Refused]] = {
    "preview": by_hand.preview,
    "confirm": by_hand.reverse,
}


@admin.register(Redemption)
class RedemptionAdmin(PageAdmin):
    list_display = ["public_id", "customer", "program", "points", "points_reversed", "redeemed_at"]
    list_select_related = ["customer", "program"]
    search_fields = ["=public_id", "=external_reference_number", "=transaction_number"]
    search_help_text = "A redemption id, an external reference or a transaction number, whole."
    page_template = "admin/loyalty/redemption/page.html"
    actions = [reverse_in_bulk]

    def has_bulk_permission(self, request: HttpRequest) -> bool:
        return may_reverse_in_bulk(request)

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.reverse_view)
        return [path("<path:object_id>/reverse/", view, name="loyalty_redemption_reverse"), *super().get_urls()]

    def page(self, request: HttpRequest, row: Redemption) -> dict[str, Any]:
        left = row.points - row.points_reversed
        return {
            "title": f"Redemption {row.public_id}",
            "left": left,
            "facts": _facts(row),
            "draws": _draws(row),
            "reversals": _reversals(row),
            "waiting": Approval.objects.filter(org=row.org, redemption=row, status=Approval.Status.WAITING)[:SHOWN],
            "refused": _refused(row),
            "may_reverse": left > 0 and request.user.has_perm(REVERSE),
        }

    def reverse_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """The form, its preview, and the reversal itself: each step is a POST of the one before."""
        redemption = self.get_object(request, object_id)
        if redemption is None:
            raise Http404
        if not request.user.has_perm(REVERSE):
            raise PermissionDenied
        step = request.POST.get("step")
        initial = {"points": written(redemption.points - redemption.points_reversed)}
        form = ReverseForm(request.POST if step else None, org_id=redemption.org_id, initial=initial)
        if step in STEPS and form.is_valid():
            wanted = form.wanted(redemption, made_by=request.user.get_username())
            outcome = STEPS[step](wanted)
            if isinstance(outcome, Accepted):
                shown = preview_of(outcome, org_id=redemption.org_id)
                return self._reverse_page(request, "preview", redemption, form, shown)
            if not isinstance(outcome, Refused):
                self.message_user(request, *_in_words(outcome))
                return redirect("admin:loyalty_redemption_change", redemption.pk)
            form.as_refused(outcome)
        return self._reverse_page(request, "reverse", redemption, form, {})

    def _reverse_page(
        self, request: HttpRequest, name: str, redemption: Redemption, form: ReverseForm, shown: dict[str, Any]
    ) -> HttpResponse:
        shown |= {"form": form, "redemption": redemption, "title": f"Reverse points of redemption {redemption}"}
        return self.render_page(request, f"admin/loyalty/redemption/{name}.html", redemption, shown)


def _in_words(outcome: Reversal | Approval) -> tuple[str, int]:
    if isinstance(outcome, Approval):
        return (
            f"{written(outcome.points)} points are more than one person may give back: the request waits for"
            f" another person, until {outcome.lapses_at:%Y-%m-%d %H:%M} UTC.",
            messages.WARNING,
        )
    return (
        f"Reversal {outcome.public_id} gave back {written(outcome.points)} points,"
        f" {written(outcome.points_expired)} of them to expired lots.",
        messages.SUCCESS,
    )


def _facts(redemption: Redemption) -> list[tuple[str, Any]]:
    customer = redemption.customer
    link = reverse("admin:loyalty_customer_change", args=[customer.pk])
    return [
        ("Customer", format_html('<a class="text-link" href="{}">{}</a>', link, customer)),
        ("Org", redemption.org),
        ("Program", redemption.program),
        ("Redeemed", f"{redemption.redeemed_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Transaction number", redemption.transaction_number or "none"),
        ("External reference", redemption.external_reference_number or "none"),
        ("Points", written(redemption.points)),
        ("Given back", written(redemption.points_reversed)),
        ("Left to give back", written(redemption.points - redemption.points_reversed)),
    ]


def _draws(redemption: Redemption) -> dict[str, Any]:
    draws = Draw.objects.filter(org_id=redemption.org_id, redemption=redemption).select_related("lot__customer")
    return {
        "headers": ["Order", "Lot", "Of customer", "Expires", "Drawn", "Given back", "Left"],
        "rows": [_draw_row(draw) for draw in draws.order_by("position")[:SHOWN]],
    }


def _draw_row(draw: Draw) -> list[Any]:
    lot = draw.lot
    points = [written(draw.points), written(draw.points_reversed), written(draw.points - draw.points_reversed)]
    if lot is None:
        return [draw.position, "came from no lot", "", "", *points]
    expiry = f"{lot.expires_at:%Y-%m-%d %H:%M} UTC" if lot.expires_at else "never"
    return [draw.position, lot.lot_ref, lot.customer, expiry, *points]


def _reversals(redemption: Redemption) -> dict[str, Any]:
    reversals = Reversal.objects.filter(org_id=redemption.org_id, redemption=redemption).order_by("-created_at")
    return {
        "headers": ["Reversal", "When", "Points", "Available", "Expired", "Channel", "Made by", "Approved by"],
        "rows": [_reversal_row(each) for each in reversals.prefetch_related("approvals")[:SHOWN]],
    }


def _reversal_row(reversal: Reversal) -> list[Any]:
    link = reverse("admin:reversals_reversal_change", args=[reversal.pk])
    return [
        format_html('<a class="text-link" href="{}">{}</a>', link, reversal.public_id),
        f"{reversal.created_at:%Y-%m-%d %H:%M:%S} UTC",
        written(reversal.points),
        written(reversal.points_available),
        written(reversal.points_expired),
        reversal.channel,
        reversal.made_by,
        ", ".join(approval.decided_by for approval in reversal.approvals.all()),
    ]


def _refused(redemption: Redemption) -> dict[str, Any]:
    attempts = Attempt.objects.filter(
        org_id=redemption.org_id, redemption_id_asked=redemption.public_id, is_dry_run=False
    ).exclude(rule="")
    return {
        "headers": ["When", "Channel", "By", "Refused as", "Because"],
        "rows": [
            [
                f"{attempt.created_at:%Y-%m-%d %H:%M:%S} UTC",
                attempt.channel,
                attempt.made_by,
                f"{attempt.code} {attempt.rule}",
                attempt.refusal_reason,
            ]
            for attempt in attempts.order_by("-created_at")[:SHOWN]
        ],
    }
