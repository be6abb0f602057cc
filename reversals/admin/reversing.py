"""What a person fills in and sees when they reverse points by hand: forms, preview, refusals in words."""

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
from reversals.admin.html import moment
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
    """A refusal as staff read it: code, published message, and what exactly was wrong."""
    return f"{refusal.error.code} {refusal.error.message}. {refusal.reason}"


def asked_in_words(approval: Approval) -> str:
    """What becomes, or became, of something that was left to a second person."""
    if approval.status == Approval.Status.WAITING:
        return (
            f"The request for {written(approval.points)} points waits for another person's approval,"
            f" until {moment(approval.lapses_at)}."
        )
    status = approval.get_status_display().lower()
    return f"The request for {written(approval.points)} points was {status} by {approval.decided_by} already."


class PointsInput(forms.CharField):
    """An amount of points, read as the API reads one."""

    widget = UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"})

    def clean(self, value: Any) -> Decimal:
        text: str = super().clean(value)
        try:
            return read_written_points(text)
        except InvalidPoints as error:
            raise forms.ValidationError(f"Expected {error}.") from error


class ManualForm(forms.Form):
    """Why something is done by hand: one of the reason codes that the org keeps, and a note."""

    reason_code = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    note = forms.CharField(
        max_length=NOTE_LENGTH,
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Receipt, ticket, what the customer said. It is kept for ever.",
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
        """Code and note in one text, as reversals keep it."""
        parts = (self.cleaned_data.get("reason_code"), self.cleaned_data["note"].strip())
        return ": ".join(part for part in parts if part)

    @property
    def key(self) -> str:
        """The idempotency key of this page: sending it again is the same request."""
        return f"{ADMIN_KEYS}{self.cleaned_data['page']}"

    def as_refused(self, refusal: Refused) -> None:
        """Shows the refusal, and becomes a new page: what is sent next is another request."""
        self.add_error(None, in_words(refusal))
        self.data = {**self.data.dict(), "page": str(uuid4())}  # type: ignore[attr-defined]


class ReverseForm(ManualForm):
    """How many points to reverse, and why."""

    points = PointsInput(help_text="All that is left is filled in; at most 3 decimals.")
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
    """The form as it was sent, or fresh on the first look."""
    return form(request.POST if "step" in request.POST else None, org_id=org_id, initial=initial)


def take_step(request: HttpRequest, form: ManualForm, steps: Mapping[str, Callable[[], Outcome]]) -> Outcome | None:
    """Takes the step of `steps` that was asked for. None, or a refusal: the form is to be shown again."""
    step = request.POST.get("step", "")
    if step not in steps or not form.is_valid():
        return None
    outcome = steps[step]()
    if isinstance(outcome, Refused):
        form.as_refused(outcome)
    return outcome


def preview_of(outcome: Accepted, *, org_id: int) -> dict[str, Any]:
    """What the preview of a reversal shows: what each lot takes back, and what the balances become."""
    plan = outcome.plan
    lost = f", {written(plan.expired)} of them to expired lots, where they cannot be spent" if plan.expired else ""
    return {
        "summary": f"{written(plan.points)} points will be reversed{lost}.",
        "needs_approval": outcome.needs_approval,
        "lots": {
            "headers": ["Lot", "Expires", "Points reversed", "What becomes of them"],
            "rows": [_lot_row(line, outcome) for line in plan.lines],
        },
        "balances": {
            "headers": ["Customer", "Can spend now", "Can spend afterwards"],
            "rows": list(_balance_rows(outcome, org_id=org_id)),
        },
    }


def preview_of_correction(outcome: correcting.Accepted) -> dict[str, Any]:
    """What the preview of a correction shows: what each lot loses again."""
    return {
        "summary": f"{written(outcome.plan.points)} points are drawn again from the lots that they went to.",
        "needs_approval": True,
        "lots": {
            "headers": ["Lot", "Expires", "Points that it loses", "Points that remain in it"],
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
    return [line.draw.lot_ref or "came from no lot", expiry, written(line.points), _becomes(line, outcome)]


def _becomes(line: PlannedLine, outcome: Accepted) -> str:
    reissued_until = outcome.plan.reissue_expires_at
    if line.reissued and reissued_until is not None:
        return f"issued anew, to be spent until {moment(reissued_until)}"
    if line.expired:
        return "expired: cannot be spent"
    return "can be spent again"


def _balance_rows(outcome: Accepted, *, org_id: int) -> Iterator[list[str]]:
    redemption = outcome.facts.redemption
    now = available_points(org_id=org_id, customer_ids=redemption.customer_ids, now=outcome.facts.now)
    for customer_id in sorted(now):
        added = sum(
            (line.available for line in outcome.plan.lines if line.owner_id(redemption) == customer_id), Decimal(0)
        )
        name = str(redemption.public_id_of(customer_id))
        yield [name, written(now[customer_id]), written(now[customer_id] + added)]
