"""Builds the timeline of a customer's points: the newest entries of each kind, merged."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from loyalty.admin.links import link
from loyalty.ledger.points import grouped
from loyalty.ledger.queries import with_merged
from loyalty.models import Covering, Customer, CustomerMerge, Lot, Redemption
from reversals.admin.html import Amount, in_points, moment
from reversals.admin.statuses import NEEDS_APPROVAL
from reversals.models import Approval, Attempt, Correction, Reversal

NEWEST = 50


@dataclass(frozen=True, slots=True)
class Moment:
    """One entry of the timeline. `points` has a sign if points moved, and is empty otherwise."""

    at: datetime
    what: str
    name: str
    points: str
    details: str
    by: str

    def as_row(self) -> list[Any]:
        return [moment(self.at), self.what, self.name, Amount(self.points), self.details, self.by]


def timeline_of(customer: Customer, *, may_see: Callable[[str], bool]) -> list[Moment]:
    """The newest entries of the customer, newest first, of the kinds that the user may see."""
    redemptions = Redemption.objects.filter(org_id=customer.org_id, customer=customer)
    newest = list(redemptions.order_by("-redeemed_at")[:NEWEST])
    kinds: dict[str, Callable[[], Iterable[Moment]]] = {
        "loyalty.view_customer": lambda: _merges(customer),
        "loyalty.view_lot": lambda: _awards(customer),
        "loyalty.view_redemption": lambda: [*map(_redeemed, newest), *_coverings(customer)],
        "reversals.view_reversal": lambda: _reversals(customer),
        "reversals.view_correction": lambda: _corrections(customer),
        "reversals.view_approval": lambda: _waiting(customer, redemptions),
        "reversals.view_attempt": lambda: _refused(customer, newest),
    }
    moments = [each for permission, read in kinds.items() if may_see(permission) for each in read()]
    return sorted(moments, key=lambda each: each.at, reverse=True)[:NEWEST]


def _awards(customer: Customer) -> Iterable[Moment]:
    lots = Lot.objects.filter(org_id=customer.org_id, customer=customer).select_related("program")
    for lot in lots.order_by("-awarded_at")[:NEWEST]:
        details = f"{lot.program.name}, expires {moment(lot.expires_at)}"
        yield Moment(lot.awarded_at, "Awarded", link(lot), f"+{grouped(lot.points_awarded)}", details, "")


def _redeemed(redemption: Redemption) -> Moment:
    details = f"{grouped(redemption.points_reversed)} reversed so far"
    return Moment(redemption.redeemed_at, "Redeemed", link(redemption), f"-{grouped(redemption.points)}", details, "")


def _coverings(customer: Customer) -> Iterable[Moment]:
    coverings = Covering.objects.filter(org_id=customer.org_id, redemption__customer=customer)
    for covering in coverings.select_related("redemption").order_by("-made_at")[:NEWEST]:
        details = f"{in_points(covering.points)} now drawn from lots: {covering.reason}"
        yield Moment(covering.made_at, "Covered", link(covering.redemption), "", details, covering.made_by)


def _reversals(customer: Customer) -> Iterable[Moment]:
    reversals = _reversals_of(customer).select_related("redemption")
    for reversal in reversals.order_by("-created_at", "-id")[:NEWEST]:
        details = f"of redemption {reversal.redemption}"
        if reversal.points_expired:
            details += f", {grouped(reversal.points_expired)} to expired lots"
        points = f"+{grouped(reversal.points)}"
        yield Moment(reversal.created_at, "Reversed", link(reversal), points, details, reversal.made_by)


def _reversals_of(customer: Customer) -> QuerySet[Reversal]:
    """The reversals of the customer and of those who were merged into the customer."""
    customer_ids = with_merged(org_id=customer.org_id, customer_id=customer.id)
    return Reversal.objects.filter(org_id=customer.org_id, customer_id__in=customer_ids)


def _merges(customer: Customer) -> Iterable[Moment]:
    customer_ids = with_merged(org_id=customer.org_id, customer_id=customer.id)
    merges = CustomerMerge.objects.filter(Q(source=customer) | Q(target_id__in=customer_ids), org_id=customer.org_id)
    for merge in merges.select_related("source", "target").order_by("-made_at")[:NEWEST]:
        what, other = "Customer merged into this one", merge.source
        if merge.source_id == customer.id:
            what, other = "Merged", merge.target
        elif merge.target_id != customer.id:
            what = f"Customer merged into customer {merge.target}"
        details = f"{merge.reason} (ticket {merge.ticket})"
        yield Moment(merge.made_at, what, link(other), "", details, merge.made_by)


def _corrections(customer: Customer) -> Iterable[Moment]:
    reversals = _reversals_of(customer)
    corrections = Correction.objects.filter(org_id=customer.org_id, reversal__in=reversals.values("id"))
    for correction in corrections.select_related("reversal").order_by("-created_at")[:NEWEST]:
        details = f"approved by {correction.approved_by}: {correction.reason}"
        points = f"-{grouped(correction.points)}"
        reversal = link(correction.reversal)
        yield Moment(correction.created_at, "Reversal corrected", reversal, points, details, correction.made_by)


def _waiting(customer: Customer, redemptions: QuerySet[Redemption]) -> Iterable[Moment]:
    waiting = Approval.objects.filter(
        org_id=customer.org_id, status=Approval.Status.WAITING, redemption__in=redemptions.values("id")
    )
    for approval in waiting.order_by("-asked_at")[:NEWEST]:
        details = f"{in_points(approval.points)}: {approval.reason}"
        yield Moment(approval.asked_at, "Waiting for approval", link(approval), "", details, approval.asked_by)


def _refused(customer: Customer, redemptions: list[Redemption]) -> Iterable[Moment]:
    asked = Attempt.objects.filter(
        org_id=customer.org_id, redemption_id_asked__in=[redemption.public_id for redemption in redemptions]
    )
    for attempt in asked.exclude(rule__in=("", NEEDS_APPROVAL)).order_by("-created_at")[:NEWEST]:
        what = "Dry run refused" if attempt.is_dry_run else "Refused"
        details = f"{attempt.code}: {attempt.refusal_reason}"
        name = link(attempt, attempt.redemption_id_asked)
        yield Moment(attempt.created_at, what, name, "", details, attempt.made_by)
