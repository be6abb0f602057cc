"""Requests for approval: what one person asked for, and another one approves or rejects."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminTextareaWidget

from loyalty.admin.base import OneOrg, PageAdmin
from loyalty.points import written
from loyalty.service import NotPossible
from reversals import approving, by_hand
from reversals.admin.reversing import in_words, preview_of
from reversals.by_hand import Wanted
from reversals.errors import Refused
from reversals.models import Approval

DECIDE = "reversals.decide_approval"


class DecisionForm(forms.Form):
    """What the second person says."""

    comment = forms.CharField(
        max_length=500,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Needed to reject.",
    )


@admin.register(Approval)
class ApprovalAdmin(PageAdmin):
    list_display = ["asked_at", "redemption", "points", "asked_by", "reason", "state", "decided_by", "decided_at"]
    list_select_related = ["redemption"]
    list_filter = [OneOrg, "status"]
    page_template = "admin/reversals/approval/page.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.decide_view))
        return [path("<path:object_id>/decide/", view, name="reversals_approval_decide"), *super().get_urls()]

    @admin.display(description="status")
    def state(self, approval: Approval) -> str:
        return state_of(approval)

    def page(self, request: HttpRequest, row: Approval) -> dict[str, Any]:
        is_waiting = state_of(row) == Approval.Status.WAITING.label
        shown = {
            "title": f"Request of {row.asked_by} to give back {written(row.points)} points",
            "facts": _facts(row),
            "is_own": row.asked_by == request.user.get_username(),
            "may_decide": is_waiting and request.user.has_perm(DECIDE),
            "form": DecisionForm(),
        }
        return shown | (_preview(row) if is_waiting else {})

    def decide_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Approves or rejects, and says what came of it on the request's page."""
        approval = self.get_object(request, object_id)
        if approval is None:
            raise Http404
        if not request.user.has_perm(DECIDE):
            raise PermissionDenied
        form = DecisionForm(request.POST)
        if form.is_valid():
            decide = _approve if request.POST.get("decision") == "approve" else _reject
            said = decide(approval, by=request.user.get_username(), comment=form.cleaned_data["comment"])
            self.message_user(request, *said)
        else:
            self.message_user(request, "The comment is too long; expected at most 500 characters.", messages.ERROR)
        return redirect("admin:reversals_approval_change", approval.pk)


def state_of(approval: Approval) -> str:
    """What the request waits for or was answered, in one word."""
    if approval.status == Approval.Status.WAITING and approval.lapses_at <= timezone.now():
        return "Lapsed"
    return str(approval.get_status_display())


def _approve(approval: Approval, *, by: str, comment: str) -> tuple[str, int]:
    answer = approving.approve(approval, decided_by=by, comment=comment)
    if answer.error is not None:
        return in_words(Refused(answer.error, answer.attempt.refusal_reason)), messages.ERROR
    return f"Approved: {written(approval.points)} points came back.", messages.SUCCESS


def _reject(approval: Approval, *, by: str, comment: str) -> tuple[str, int]:
    try:
        approving.reject(approval, decided_by=by, comment=comment)
    except NotPossible as error:
        return f"Not rejected: {error}", messages.ERROR
    return "Rejected.", messages.SUCCESS


def _preview(approval: Approval) -> dict[str, Any]:
    """What approving would do now, or why it would be refused."""
    wanted = Wanted(
        org_id=approval.org_id,
        redemption_id=approval.redemption.public_id,
        points=approval.points_asked,
        reason=approval.reason,
        made_by=approval.asked_by,
        key=approval.key,
    )
    outcome = by_hand.preview(wanted)
    if isinstance(outcome, Refused):
        return {"refusal": in_words(outcome)}
    return preview_of(outcome, org_id=approval.org_id)


def _facts(approval: Approval) -> list[tuple[str, Any]]:
    redemption = approval.redemption
    facts = [
        ("Redemption", _link("loyalty_redemption", redemption.pk, redemption.public_id)),
        ("Customer", _link("loyalty_customer", redemption.customer_id, redemption.customer)),
        ("Asked by", approval.asked_by),
        ("Asked", f"{approval.asked_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Reason", approval.reason),
        ("Status", state_of(approval)),
        ("Lapses", f"{approval.lapses_at:%Y-%m-%d %H:%M:%S} UTC"),
    ]
    if approval.decided_at is not None:
        facts += [
            ("Decided by", approval.decided_by),
            ("Decided", f"{approval.decided_at:%Y-%m-%d %H:%M:%S} UTC"),
            ("Comment", approval.comment or "none"),
        ]
    if approval.reversal is not None:
        facts.append(("Reversal", _link("reversals_reversal", approval.reversal.pk, approval.reversal)))
    return facts


def _link(page: str, row_id: int, name: object) -> str:
    return format_html('<a class="text-link" href="{}">{}</a>', reverse(f"admin:{page}_change", args=[row_id]), name)
