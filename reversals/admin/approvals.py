"""Shows approval requests, which one user creates and a second user approves or rejects."""

from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import Error
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.timesince import timesince
from django.views.decorators.http import require_POST
from unfold.widgets import UnfoldAdminTextareaWidget

from loyalty.admin.base import OneOrg, PageAdmin, points_column
from loyalty.admin.filters import ByPoints, ByUser, period_of
from loyalty.admin.links import link, link_column
from loyalty.admin.statuses import Status, badge
from loyalty.errors import InvalidOperation
from loyalty.ledger.points import grouped
from loyalty.outages import outage_of
from reversals.admin.html import Amount, amount, counted, in_points, moment
from reversals.admin.reversing import in_html, preview_of, preview_of_correction
from reversals.admin.statuses import LAPSED, WAITING_REQUEST, status_of_request
from reversals.manual import approvals, manual_reversals
from reversals.manual.approvals import requesters_of
from reversals.manual.manual_reversals import ManualCorrection, ManualReversal
from reversals.models import Approval
from reversals.refusals import Refused

DECIDE = "reversals.decide_approval"
# From this age on, a request that waits is marked.
OLD_AFTER = timedelta(days=2)


class ByStatus(admin.SimpleListFilter):
    """The status of the request. One that has lapsed does not wait."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "Waiting"), ("approved", "Approved"), ("rejected", "Rejected"), ("lapsed", "Lapsed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        now, waiting = timezone.now(), queryset.filter(status=Approval.Status.WAITING)
        match self.value():
            case "waiting":
                return waiting.filter(lapses_at__gt=now)
            case "lapsed":
                return waiting.filter(lapses_at__lte=now)
            case "approved" | "rejected" as status:
                return queryset.filter(status=status.upper())
            case _:
                return queryset


class OwnOrOthers(admin.SimpleListFilter):
    """The user's own requests, or those of others."""

    title = "requested by"
    parameter_name = "asked"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("me", "Me"), ("others", "Others")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        username = request.user.get_username()
        match self.value():
            case "me":
                return queryset.filter(asked_by=username)
            case "others":
                return queryset.exclude(asked_by=username)
            case _:
                return queryset


AskedAt = period_of("asked_at")


class ByAsker(ByUser):
    title = "requested by"
    field = "asked_by"


class DecisionForm(forms.Form):
    """The second user's decision and comment."""

    decision = forms.ChoiceField(
        choices=[("approve", "approve"), ("reject", "reject")],
        error_messages={"required": "Choose Approve or Reject.", "invalid_choice": "Choose Approve or Reject."},
    )
    comment = forms.CharField(
        max_length=500,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Required to reject.",
        error_messages={"max_length": "The comment is too long. The limit is %(limit_value)d characters."},
    )


@admin.register(Approval)
class ApprovalAdmin(PageAdmin):
    list_display = [
        "requested_at",
        "kind",
        link_column("redemption"),
        points_column("points"),
        "requested_by",
        "reason",
        "state",
        "decided_by",
        "decided_at",
    ]
    list_select_related = ["redemption"]
    list_filter = [OneOrg, AskedAt, ByStatus, OwnOrOthers, ByAsker, ByPoints]
    actions = ["decide"]
    list_filter_submit = True
    newest_by = "asked_at"
    ordering = ["-asked_at", "-id"]
    search_fields = [
        "redemption__public_id",
        "redemption__external_reference_number",
        "redemption__transaction_number",
        "redemption__customer__public_id",
        "reversal__public_id",
        "corrects__public_id",
    ]
    search_help_text = (
        "Search by whole redemption id, external reference, transaction number, reversal id or customer id."
    )
    page_template = "admin/reversals/approval/page.html"

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.decide_view))
        return [path("<path:object_id>/decide/", view, name="reversals_approval_decide"), *super().get_urls()]

    @admin.display(description="requested at")
    def requested_at(self, approval: Approval) -> datetime:
        return approval.asked_at

    @admin.display(description="requested by")
    def requested_by(self, approval: Approval) -> str:
        return approval.asked_by

    @admin.display(description="type")
    def kind(self, approval: Approval) -> str:
        return kind_of(approval)

    @admin.display(description="status")
    def state(self, approval: Approval) -> str:
        label = badge(status_of_request(approval))
        return format_html("{} {}", label, badge(Status(age_of(approval), "danger"))) if is_old(approval) else label

    def has_decide_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(DECIDE)

    @admin.action(description="Approve or reject", permissions=["decide"])
    def decide(self, request: HttpRequest, requests: QuerySet[Approval]) -> HttpResponse | None:
        """Asks for one decision and comment, and then decides each selected request anew, whatever became of others."""
        selected = list(requests.select_related("redemption", "corrects").order_by("asked_at", "id"))
        form = DecisionForm(request.POST if "confirmed" in request.POST else None)
        if form.is_valid():
            for approval in selected:
                text, level = _decide(request, approval, form.cleaned_data)
                self.message_user(request, format_html("{}: {}", link(approval), text), level)
            return None
        shown = {
            "title": f"Approve or reject {counted(len(selected), 'request')}",
            "form": form,
            "selected": selected,
            "requests": _as_table(selected),
        }
        context = self.admin_site.each_context(request) | {"opts": self.opts} | shown
        return TemplateResponse(request, "admin/reversals/approval/decide.html", context)

    def page(self, request: HttpRequest, row: Approval) -> dict[str, Any]:
        """Shows the request. To a user who may decide it, previews what approving would do now."""
        username = request.user.get_username()
        is_waiting = row.status == Approval.Status.WAITING and status_of_request(row) is not LAPSED
        may_decide = is_waiting and request.user.has_perm(DECIDE)
        is_own = username in requesters_of(row)
        shown = preview(row, by=username) if may_decide and not is_own else {}
        return shown | {
            "title": f"Request by {row.asked_by} for a {kind_of(row)} of {in_points(row.points)}",
            "facts": _facts(row),
            "is_own": is_own,
            "may_decide": may_decide,
            "form": DecisionForm(),
        }

    def decide_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Approves or rejects the request, and shows the outcome on its page."""
        approval = self.get_object(request, object_id)
        if approval is None:
            raise Http404
        if not request.user.has_perm(DECIDE) or not self.has_view_permission(request, approval):
            raise PermissionDenied
        form, is_on_home = DecisionForm(request.POST), request.POST.get("page") == "home"
        if not form.is_valid():
            for problem in chain(*form.errors.values()):
                self.message_user(request, problem, messages.ERROR)
        else:
            text, level = _decide(request, approval, form.cleaned_data)
            self.message_user(request, format_html("{}: {}", link(approval), text) if is_on_home else text, level)
        if not is_on_home:
            return redirect("admin:reversals_approval_change", approval.pk)
        return redirect(reverse("admin:index") + ("" if form.is_valid() else f"?request={approval.pk}"))


def kind_of(approval: Approval) -> str:
    """The kind of the request: a reversal or a correction."""
    return "reversal" if approval.corrects_id is None else "correction"


def age_of(approval: Approval) -> str:
    """How long the request has waited or, if it was decided, how long ago it was made: "3 days"."""
    return timesince(approval.asked_at, depth=1).replace("\xa0", " ")


def is_old(approval: Approval) -> bool:
    """Returns whether the request has waited so long that it is marked."""
    is_waiting = status_of_request(approval) is WAITING_REQUEST
    return is_waiting and timezone.now() - approval.asked_at >= OLD_AFTER


def _as_table(requests: list[Approval]) -> dict[str, Any]:
    return {
        "headers": ["Request", "Redemption", Amount("Points"), "Requested by", "Waits for", "Reason", "Status"],
        "rows": [
            [
                link(each, kind_of(each)),
                link(each.redemption),
                amount(each.points),
                each.asked_by,
                age_of(each),
                each.reason,
                badge(status_of_request(each)),
            ]
            for each in requests
        ],
    }


def _decide(request: HttpRequest, approval: Approval, given: dict[str, Any]) -> tuple[str, int]:
    """Approves or rejects the request. Returns what became of it, and the level of the message."""
    decide = _approve if given["decision"] == "approve" else _reject
    return decide(approval, by=request.user.get_username(), comment=given["comment"])


def _approve(approval: Approval, *, by: str, comment: str) -> tuple[str, int]:
    answer = approvals.approve(approval, decided_by=by, comment=comment)
    if answer.error is not None:
        return in_html(Refused(answer.error, answer.attempt.refusal_reason)), messages.ERROR
    return f"Approved. The {kind_of(approval)} of {in_points(approval.points)} was made.", messages.SUCCESS


def _reject(approval: Approval, *, by: str, comment: str) -> tuple[str, int]:
    try:
        approvals.reject(approval, decided_by=by, comment=comment)
    except InvalidOperation as error:
        return f"Not rejected. {error}", messages.ERROR
    except Error as error:
        if outage_of(error) is None:
            raise
        return "Not rejected, because the database was busy. Try again.", messages.ERROR
    return "Rejected.", messages.SUCCESS


def preview(approval: Approval, *, by: str) -> dict[str, Any]:
    """Returns what approving would do now, or why it would be refused. Records a dry run by the user `by`."""
    if approval.corrects is not None:
        corrects = ManualCorrection(reversal_id=approval.corrects.public_id, **_request(approval, by=by))
        taken = manual_reversals.preview_correction(corrects)
        return _refusal(taken) if isinstance(taken, Refused) else preview_of_correction(taken)
    wanted = ManualReversal(
        redemption_id=approval.redemption.public_id, points=approval.points_asked, **_request(approval, by=by)
    )
    outcome = manual_reversals.preview(wanted)
    return _refusal(outcome) if isinstance(outcome, Refused) else preview_of(outcome, org_id=approval.org_id)


def _request(approval: Approval, *, by: str) -> dict[str, Any]:
    return {
        "org_id": approval.org_id,
        "reason": approval.reason,
        "made_by": by,
        "key": approval.key,
    }


def _refusal(refusal: Refused) -> dict[str, Any]:
    return {"refusal": in_html(refusal)}


def _facts(approval: Approval) -> list[tuple[str, Any]]:
    redemption = approval.redemption
    facts = [
        ("Status", badge(status_of_request(approval))),
        ("Type", kind_of(approval)),
        ("Points", grouped(approval.points)),
        ("Redemption", link(redemption)),
        ("Customer", link(redemption.customer)),
        ("Requested by", approval.asked_by),
        ("Requested", moment(approval.asked_at)),
        ("Reason", approval.reason),
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
