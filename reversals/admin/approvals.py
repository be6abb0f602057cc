"""Requests for approval: what one person asked for, and another one approves or rejects."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminTextareaWidget

from loyalty.admin.base import OneOrg, PageAdmin, points_column
from loyalty.points import written
from loyalty.service import NotPossible
from reversals import approving, by_hand
from reversals.admin.parts import link, moment
from reversals.admin.reversing import in_words, preview_of, preview_of_correction
from reversals.by_hand import Wanted, WantedCorrection
from reversals.errors import Refused
from reversals.models import Approval
from reversals.selectors import people_behind

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
    list_display = [
        "asked_at",
        "kind",
        "redemption",
        points_column("points"),
        "asked_by",
        "reason",
        "state",
        "decided_by",
        "decided_at",
    ]
    list_select_related = ["redemption"]
    list_filter = [OneOrg, "status"]
    page_template = "admin/reversals/approval/page.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.decide_view))
        return [path("<path:object_id>/decide/", view, name="reversals_approval_decide"), *super().get_urls()]

    @admin.display(description="asked for")
    def kind(self, approval: Approval) -> str:
        return kind_of(approval)

    @admin.display(description="status")
    def state(self, approval: Approval) -> str:
        return state_of(approval)

    def page(self, request: HttpRequest, row: Approval) -> dict[str, Any]:
        username = request.user.get_username()
        is_waiting = state_of(row) == Approval.Status.WAITING.label
        may_decide = is_waiting and request.user.has_perm(DECIDE)
        shown = {
            "title": f"Request of {row.asked_by} for a {kind_of(row)} of {written(row.points)} points",
            "facts": _facts(row),
            "is_own": username in people_behind(row),
            "may_decide": may_decide,
            "form": DecisionForm(),
        }
        return shown | (_preview(row, by=username) if may_decide else {})

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


def kind_of(approval: Approval) -> str:
    """What was asked for."""
    return "reversal" if approval.corrects_id is None else "correction"


def state_of(approval: Approval) -> str:
    """What the request waits for or was answered, in one word."""
    if approval.status == Approval.Status.WAITING and approval.lapses_at <= timezone.now():
        return "Lapsed"
    return str(approval.get_status_display())


def _approve(approval: Approval, *, by: str, comment: str) -> tuple[str, int]:
    answer = approving.approve(approval, decided_by=by, comment=comment)
    if answer.error is not None:
        return in_words(Refused(answer.error, answer.attempt.refusal_reason)), messages.ERROR
    return f"Approved: the {kind_of(approval)} of {written(approval.points)} points is made.", messages.SUCCESS


def _reject(approval: Approval, *, by: str, comment: str) -> tuple[str, int]:
    try:
        approving.reject(approval, decided_by=by, comment=comment)
    except NotPossible as error:
        return f"Not rejected: {error}", messages.ERROR
    return "Rejected.", messages.SUCCESS


def _preview(approval: Approval, *, by: str) -> dict[str, Any]:
    """What approving would do now, or why it would be refused; the dry run is that of who looks."""
    if approval.corrects is not None:
        corrects = WantedCorrection(reversal_id=approval.corrects.public_id, **_wish(approval, by=by))
        taken = by_hand.preview_correction(corrects)
        return _refusal(taken) if isinstance(taken, Refused) else preview_of_correction(taken)
    wanted = Wanted(redemption_id=approval.redemption.public_id, points=approval.points_asked, **_wish(approval, by=by))
    outcome = by_hand.preview(wanted)
    return _refusal(outcome) if isinstance(outcome, Refused) else preview_of(outcome, org_id=approval.org_id)


def _wish(approval: Approval, *, by: str) -> dict[str, Any]:
    return {
        "org_id": approval.org_id,
        "reason": approval.reason,
        "made_by": by,
        "key": approval.key,
    }


def _refusal(refusal: Refused) -> dict[str, Any]:
    return {"refusal": in_words(refusal)}


def _facts(approval: Approval) -> list[tuple[str, Any]]:
    redemption = approval.redemption
    facts = [
        ("Asked for", kind_of(approval)),
        ("Points", written(approval.points)),
        ("Redemption", link(redemption)),
        ("Customer", link(redemption.customer)),
        ("Asked by", approval.asked_by),
        ("Asked", moment(approval.asked_at)),
        ("Reason", approval.reason),
        ("Status", state_of(approval)),
        ("Lapses", moment(approval.lapses_at)),
    ]
    if approval.corrects is not None:
        facts.append(("Reversal to correct", link(approval.corrects)))
    if approval.decided_at is not None:
        facts += [
            ("Decided by", approval.decided_by),
            ("Decided", moment(approval.decided_at)),
            ("Comment", approval.comment or "none"),
        ]
    if approval.reversal is not None:
        facts.append(("Reversal", link(approval.reversal)))
    return facts
