"""Forms, previews and refusal texts of manual reversals and corrections."""

from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any, TypeVar
from uuid import uuid4

from django import forms
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from loyalty.ledger.points import InvalidPoints, read_written_points, written
from loyalty.ledger.queries import available_points
from loyalty.models import ReasonCode, Redemption
from reversals.admin.html import in_points, moment
from reversals.manual.manual_reversals import ADMIN_KEYS, ManualCorrection, ManualReversal
from reversals.models import Approval, Reversal
from reversals.movements.correct import movement as correcting
from reversals.movements.reverse.movement import Accepted
from reversals.movements.reverse.rules import PlannedLine
from reversals.refusals import Refused

NOTE_LENGTH = 400

Form = TypeVar("Form", bound="ManualForm")
Outcome = TypeVar("Outcome")


def in_words(refusal: Refused) -> str:
    """A refusal in words for staff: code, published message and reason."""
    return f"{refusal.error.code} {refusal.error.message}. {refusal.reason}"


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
        codes = ReasonCode.objects.filter(org_id=org_id, is_active=True).order_by("code")
        choices = [(code.code, str(code)) for code in codes]
        self.fields["reason_code"].choices = [("", "Choose a reason"), *choices]  # type: ignore[attr-defined]
        if not choices:
            del self.fields["reason_code"]
            self.fields["note"].required = True

    @property
    def reason(self) -> str:
        """Code and note in one text, as stored with the reversal."""
        parts = (self.cleaned_data.get("reason_code"), self.cleaned_data["note"].strip())
        return ": ".join(part for part in parts if part)

    @property
    def key(self) -> str:
        """The idempotency key of this page. If the page is sent again, it is the same request."""
        return f"{ADMIN_KEYS}{self.cleaned_data['page']}"

    def as_refused(self, refusal: Refused) -> None:
        """Shows the refusal and takes a new page id, so that the next submission is a new request."""
        self.add_error(None, in_words(refusal))
        self.data = {**self.data.dict(), "page": str(uuid4())}  # type: ignore[attr-defined]


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
    """Why a reversal was wrong."""

    def wanted(self, reversal: Reversal, *, made_by: str) -> ManualCorrection:
        return ManualCorrection(
            org_id=reversal.org_id,
            reversal_id=reversal.public_id,
            reason=self.reason,
            made_by=made_by,
            key=self.key,
        )


def form_of(request: HttpRequest, form: type[Form], *, org_id: int, initial: dict[str, Any] | None = None) -> Form:
    """The form with the submitted values, or an empty form on the first view."""
    return form(request.POST if "step" in request.POST else None, org_id=org_id, initial=initial)


def take_step(request: HttpRequest, form: ManualForm, steps: Mapping[str, Callable[[], Outcome]]) -> Outcome | None:
    """Takes the requested step of `steps`. Returns None or a refusal if the form must be shown again."""
    step = request.POST.get("step", "")
    if step not in steps or not form.is_valid():
        return None
    outcome = steps[step]()
    if isinstance(outcome, Refused):
        form.as_refused(outcome)
    return outcome


def preview_of(outcome: Accepted, *, org_id: int) -> dict[str, Any]:
    """The preview of a reversal: the points that each lot receives, and the balances afterwards."""
    plan = outcome.plan
    lost = f", {written(plan.expired)} of them to expired lots, where they cannot be spent" if plan.expired else ""
    return {
        "summary": f"{in_points(plan.points)} will be reversed{lost}.",
        "needs_approval": outcome.needs_approval,
        "lots": {
            "headers": ["Lot", "Expires", "Points reversed", "Result"],
            "rows": [_lot_row(line, outcome) for line in plan.lines],
        },
        "balances": {
            "headers": ["Customer", "Available now", "Available afterwards"],
            "rows": list(_balance_rows(outcome, org_id=org_id)),
        },
    }


def preview_of_correction(outcome: correcting.Accepted) -> dict[str, Any]:
    """The preview of a correction: the points that are taken back from each lot."""
    return {
        "summary": f"{in_points(outcome.plan.points)} will be taken back from the lots that hold them.",
        "needs_approval": True,
        "lots": {
            "headers": ["Lot", "Expires", "Points taken back", "Points remaining"],
            "rows": [
                [
                    taking.lot.lot_ref,
                    moment(taking.lot.facts.expires_at) if taking.lot.facts.expires_at else "never",
                    written(taking.points),
                    written(taking.lot.facts.points_remaining - taking.points),
                ]
                for taking in outcome.plan.takings
            ],
        },
    }


def _lot_row(line: PlannedLine, outcome: Accepted) -> list[str]:
    expires_at = line.draw.lot_expires_at
    expiry = moment(expires_at) if expires_at else ("never" if line.draw.lot_ref else "")
    return [line.draw.lot_ref or "no lot", expiry, written(line.points), _result(line, outcome)]


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
        yield [name, written(now[customer_id]), written(now[customer_id] + added)]
