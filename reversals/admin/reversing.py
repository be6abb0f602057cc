"""Forms, previews and refusal texts of manual reversals and corrections."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Generic, TypeVar
from urllib.parse import urlencode
from uuid import uuid4

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.html import format_html
from django.utils.safestring import mark_safe
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from loyalty.ledger.points import InvalidPoints, grouped, read_written_points
from loyalty.ledger.queries import available_points
from loyalty.models import ReasonCode, Redemption
from loyalty.orgs import reason_codes
from reversals.admin.html import Amount, amount, in_points, moment
from reversals.manual.manual_reversals import ADMIN_KEYS, ManualCorrection, ManualReversal
from reversals.models import Approval, Reversal
from reversals.movements.correct import movement as correcting
from reversals.movements.reverse.movement import Accepted
from reversals.movements.reverse.rules import PlannedLine
from reversals.refusals import ErrorCode, Refused

NOTE_LENGTH = 400

# In the session: what was entered on the last pages, by page id.
DRAFTS = "manual_drafts"
DRAFTS_KEPT = 5
KEPT_LENGTH = 2_000

# The refusals that another amount can avoid.
ABOUT_POINTS = {
    ErrorCode.POINTS_NOT_POSITIVE,
    ErrorCode.POINTS_TOO_PRECISE,
    ErrorCode.MORE_THAN_LEFT,
    ErrorCode.NO_LOT_TO_RETURN_TO,
}

Form = TypeVar("Form", bound="ManualForm")
Previewed = TypeVar("Previewed")
Made = TypeVar("Made")


def in_words(refusal: Refused) -> str:
    """A refusal in words for staff: code, published message and reason."""
    return f"{refusal.error.code} {refusal.error.message}. {refusal.reason}"


def in_html(refusal: Refused) -> str:
    """A refusal for pages: the reason, then code and published message in small type."""
    return format_html("{} <small>{} {}</small>", refusal.reason, refusal.error.code, refusal.error.message)


def approval_in_words(approval: Approval) -> str:
    """The state of an approval request in words: waiting for a second user, or already decided."""
    if approval.status == Approval.Status.WAITING:
        return (
            f"The request for {in_points(approval.points)} waits for a second user's approval"
            f" until {moment(approval.lapses_at)}."
        )
    status = approval.get_status_display().lower()
    return f"The request for {in_points(approval.points)} was already {status} by {approval.decided_by}."


class PointsInput(forms.CharField):
    """An amount of points, read by the same rules as in the API."""

    widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"})

    def clean(self, value: Any) -> Decimal:
        text: str = super().clean(value)
        try:
            return read_written_points(text)
        except InvalidPoints as error:
            raise forms.ValidationError(f"Enter {error}.") from error


class ManualForm(forms.Form):
    """The reason for a manual reversal or correction: one of the org's reason codes, and a note."""

    operation = ReasonCode.Operation.REVERSE
    reason_code = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    note = forms.CharField(
        max_length=NOTE_LENGTH,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Receipt, ticket, what the customer said. It is stored permanently.",
    )
    page = forms.UUIDField(widget=forms.HiddenInput, initial=uuid4)

    def __init__(self, *args: Any, org_id: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = [(code.code, str(code)) for code in reason_codes(org_id, self.operation)]
        self.fields["reason_code"].choices = [("", "Choose a reason"), *choices]  # type: ignore[attr-defined]
        if not choices:
            del self.fields["reason_code"]
            self.fields["note"].required = True

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("reason_code") == ReasonCode.OTHER and not cleaned.get("note", "").strip():
            self.add_error("note", f"Enter what the reason is, because {ReasonCode.OTHER} does not say it.")
        return cleaned

    @property
    def reason(self) -> str:
        """Code and note in one text, as stored with the reversal."""
        parts = (self.cleaned_data.get("reason_code"), self.cleaned_data["note"].strip())
        return ": ".join(part for part in parts if part)

    @property
    def key(self) -> str:
        """The idempotency key of this page. If the page is sent again, it is the same request."""
        return f"{ADMIN_KEYS}{self.cleaned_data['page']}"

    @property
    def page_id(self) -> str:
        return str(self.cleaned_data["page"])

    def show_refusal(self, field: str, text: str) -> None:
        """Shows the refusal beside the field that it is about, or above the form."""
        self.add_error(field if field in self.fields else None, mark_safe(text))  # noqa: S308 (from `in_html`)


class ReverseForm(ManualForm):
    """How many points to reverse, and why."""

    points = PointsInput(help_text="All remaining points are filled in. Use at most 3 decimals.")
    field_order = ["points", "reason_code", "note"]

    def wanted(self, redemption: Redemption, *, made_by: str) -> ManualReversal:
        return ManualReversal(
            org_id=redemption.org_id,
            redemption_id=redemption.public_id,
            points=self.cleaned_data["points"],
            reason=self.reason,
            made_by=made_by,
            key=self.key,
        )


class CorrectForm(ManualForm):
    """Why a reversal was wrong: one of the org's reason codes for corrections, and a note."""

    operation = ReasonCode.Operation.CORRECT

    def wanted(self, reversal: Reversal, *, made_by: str) -> ManualCorrection:
        return ManualCorrection(
            org_id=reversal.org_id,
            reversal_id=reversal.public_id,
            reason=self.reason,
            made_by=made_by,
            key=self.key,
        )


@dataclass(frozen=True, slots=True)
class Page(Generic[Form, Previewed]):
    """A step to show: the form, or the preview of what it requests."""

    form: Form
    preview: Previewed | None = None


def take_step(
    request: HttpRequest,
    form: type[Form],
    *,
    org_id: int,
    initial: dict[str, Any] | None = None,
    preview: Callable[[Form], Previewed | Refused],
    confirm: Callable[[Form], Made | Refused],
) -> Page[Form, Previewed] | Made | HttpResponse:
    """Takes one step of form, preview and confirmation. Returns what to show, what `confirm` made, or a redirect.

    Each POST ends in a redirect, so that each page can be reloaded and gone back to. The session keeps what was
    entered, by the id of the page. A page that the session no longer has leads to an empty form.
    """
    if request.method == "POST":
        return _posted(request, form(request.POST, org_id=org_id), confirm)
    draft = request.session.get(DRAFTS, {}).get(request.GET.get("page", ""))
    if draft is None:
        if "page" in request.GET:
            messages.info(request, "This page was already sent, or is out of date. Enter the points and reason again.")
            return redirect(request.path)
        return Page(form(None, org_id=org_id, initial=initial))
    entered = form(draft["entered"], org_id=org_id)
    if draft["refusal"]:
        entered.show_refusal(*draft["refusal"])
    elif request.GET.get("step") == "preview" and entered.is_valid():
        outcome = preview(entered)
        if not isinstance(outcome, Refused):
            return Page(entered, outcome)
        entered.show_refusal(*_as_kept(outcome))
    return Page(entered)


def _posted(request: HttpRequest, form: Form, confirm: Callable[[Form], Made | Refused]) -> Made | HttpResponse:
    """Confirms, or keeps what was entered and redirects to its page."""
    step = request.POST.get("step")
    is_valid, refusal = form.is_valid(), None
    if step == "confirm" and is_valid:
        outcome = confirm(form)
        if not isinstance(outcome, Refused):
            _drafts(request).pop(form.page_id, None)
            return outcome
        refusal = _as_kept(outcome)
    # A new id after a refusal, so that the next confirmation is a new request.
    page = str(uuid4()) if refusal or not is_valid else form.page_id
    entered = {name: request.POST.get(name, "")[:KEPT_LENGTH] for name in form.fields} | {"page": page}
    drafts = _drafts(request)
    drafts[page] = {"entered": entered, "refusal": refusal}
    for oldest in list(drafts)[:-DRAFTS_KEPT]:
        del drafts[oldest]
    query = {"page": page} | ({"step": "preview"} if step == "preview" and is_valid else {})
    return redirect(f"{request.path}?{urlencode(query)}")


def _drafts(request: HttpRequest) -> dict[str, Any]:
    request.session.modified = True
    drafts: dict[str, Any] = request.session.setdefault(DRAFTS, {})
    return drafts


def _as_kept(refusal: Refused) -> tuple[str, str]:
    """The name of the field that the refusal is about, or an empty string, and the refusal in words."""
    field = "points" if refusal.error in ABOUT_POINTS else ""
    return field, in_html(refusal)


def preview_of(outcome: Accepted, *, org_id: int) -> dict[str, Any]:
    """The preview of a reversal: the points that each lot receives, and the balances afterwards."""
    plan = outcome.plan
    lost = f", {grouped(plan.expired)} of them to expired lots, where they cannot be spent" if plan.expired else ""
    return {
        "summary": f"{in_points(plan.points)} will be reversed{lost}.",
        "button": f"{'Request approval of' if outcome.why_approval else 'Reverse'} {in_points(plan.points)}",
        "needs_approval": outcome.why_approval is not None,
        "why_approval": outcome.why_approval,
        "lots": {
            "headers": ["Lot", "Expires", Amount("Points reversed"), "Result"],
            "rows": [_lot_row(line, outcome) for line in plan.lines],
        },
        "balances": {
            "headers": ["Customer", Amount("Available now"), Amount("Available afterwards")],
            "rows": list(_balance_rows(outcome, org_id=org_id)),
        },
    }


def preview_of_correction(outcome: correcting.Accepted) -> dict[str, Any]:
    """The preview of a correction: the points that are taken back from each lot."""
    return {
        "summary": f"{in_points(outcome.plan.points)} will be taken back from the lots that hold them.",
        "button": "Request approval",
        "needs_approval": True,
        "lots": {
            "headers": ["Lot", "Expires", Amount("Points taken back"), Amount("Points remaining")],
            "rows": [
                [
                    taking.lot.lot_ref,
                    moment(taking.lot.facts.expires_at) if taking.lot.facts.expires_at else "never",
                    amount(taking.points),
                    amount(taking.lot.facts.points_remaining - taking.points),
                ]
                for taking in outcome.plan.takings
            ],
        },
    }


def _lot_row(line: PlannedLine, outcome: Accepted) -> list[str]:
    expires_at = line.draw.lot_expires_at
    expiry = moment(expires_at) if expires_at else ("never" if line.draw.lot_ref else "")
    return [line.draw.lot_ref or "no lot", expiry, amount(line.points), _result(line, outcome)]


def _result(line: PlannedLine, outcome: Accepted) -> str:
    reissued_until = outcome.plan.reissue_expires_at
    if line.reissued and reissued_until is not None:
        return f"re-issued, available until {moment(reissued_until)}"
    if line.expired:
        return "expired, cannot be spent"
    return "available again"


def _balance_rows(outcome: Accepted, *, org_id: int) -> Iterator[list[str]]:
    redemption = outcome.facts.redemption
    now = available_points(org_id=org_id, customer_ids=redemption.customer_ids, now=outcome.facts.now)
    for customer_id in sorted(now):
        added = sum(
            (line.available for line in outcome.plan.lines if line.owner_id(redemption) == customer_id), Decimal(0)
        )
        name = str(redemption.public_id_of(customer_id))
        yield [name, amount(now[customer_id]), amount(now[customer_id] + added)]
