"""Redemptions: what each drew, what came back, and reversals by hand through the same door as the API's."""

from uuid import uuid4

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone

from loyalty.admin.base import LedgerAdmin, ReadOnlyInline
from loyalty.models import Draw, Redemption
from loyalty.points import written
from loyalty.request_id import current_request_id
from loyalty.selectors import settings_of
from reversals.calls import Answer
from reversals.models import Attempt, Channel, Reversal
from reversals.requests import ReversalRequest
from reversals.service import reverse_points

REVERSED_AT_ONCE = 100


class ReverseForm(forms.Form):
    """Why, and a key by which a second click or a resend of the page is the same request."""

    reason = forms.CharField(max_length=500, widget=forms.Textarea(attrs={"rows": 2}))
    key = forms.CharField(max_length=64, widget=forms.HiddenInput, initial=lambda: f"admin-{uuid4()}")


class DrawInline(ReadOnlyInline):
    model = Draw
    fields = ["position", "lot", "points", "points_reversed"]
    ordering = ["position"]


class ReversalInline(ReadOnlyInline):
    model = Reversal
    fields = ["public_id", "points", "points_available", "points_expired", "channel", "made_by", "created_at"]
    show_change_link = True


@admin.register(Redemption)
class RedemptionAdmin(LedgerAdmin):
    list_display = ["public_id", "org", "customer", "points", "points_reversed", "redeemed_at"]
    list_select_related = ["org", "customer"]
    search_fields = ["=public_id", "=external_reference_number", "=transaction_number", "=customer__public_id"]
    inlines = [DrawInline, ReversalInline]
    actions = ["reverse_what_is_left"]

    def has_reverse_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("reversals.add_reversal")

    @admin.action(description="Reverse all points that are left", permissions=["reverse"])
    def reverse_what_is_left(self, request: HttpRequest, redemptions: QuerySet[Redemption]) -> HttpResponse | None:
        if redemptions.count() > REVERSED_AT_ONCE:
            self.message_user(request, f"Select at most {REVERSED_AT_ONCE} redemptions.", messages.ERROR)
            return None
        form = ReverseForm(request.POST if "confirmed" in request.POST else None)
        if not form.is_valid():
            context = self.admin_site.each_context(request) | {
                "title": "Reverse all points that are left",
                "redemptions": redemptions,
                "form": form,
                "action": "reverse_what_is_left",
                "opts": self.opts,
            }
            return TemplateResponse(request, "admin/reversals/reverse.html", context)
        for redemption in redemptions:
            answer = _reverse(redemption, request=request, form=form)
            self.message_user(request, *_in_words(redemption, answer))
        return None


def _reverse(redemption: Redemption, *, request: HttpRequest, form: ReverseForm) -> Answer:
    attempt = Attempt(
        org_id=redemption.org_id,
        created_at=timezone.now(),
        request_id=current_request_id(),
        channel=Channel.ADMIN,
        made_by=request.user.get_username(),
        reason=form.cleaned_data["reason"],
        idempotency_key=f"{form.cleaned_data['key']}:{redemption.id}",
    )
    asked = ReversalRequest(
        redemption_id=redemption.public_id, external_reference_number=None, identifier=None, points_asked=None
    )
    return reverse_points(attempt, settings=settings_of(redemption.org_id), read=lambda: asked)


def _in_words(redemption: Redemption, answer: Answer) -> tuple[str, int]:
    if answer.error is not None:
        attempt = answer.attempt
        return (
            f"{redemption.public_id}: {attempt.code} {answer.error.message}. {attempt.refusal_reason}",
            messages.ERROR,
        )
    reversal = answer.attempt.reversal
    return (
        f"{redemption.public_id}: reversal {reversal.public_id} gave back {written(reversal.points)} points,"
        f" {written(reversal.points_expired)} of them to expired lots.",
        messages.SUCCESS,
    )
