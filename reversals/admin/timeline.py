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
from reversals.admin.html import COUNTED_UP_TO, Amount, in_count, in_points, moment
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


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of entries: the permission to see them, and how to read them."""

    name: str
    title: str
    permission: str
    rows: Callable[[Customer], QuerySet[Any]]
    moments: Callable[[QuerySet[Any], Customer], Iterable[Moment]]


def timeline_of(customer: Customer, *, may_see: Callable[[str], bool], kind: str = "") -> list[Moment]:
    """The newest entries of the customer, newest first, of the kinds that the user may see, or of one of them."""
    kinds = [each for each in KINDS if may_see(each.permission) and kind in ("", each.name)]
    moments = [moment for each in kinds for moment in each.moments(each.rows(customer), customer)]
    return sorted(moments, key=lambda each: each.at, reverse=True)[:NEWEST]


def count_of(customer: Customer, *, may_see: Callable[[str], bool]) -> str:
    """The number of all entries that the user may see, or that they are more than 1,000."""
    count = 0
    for kind in KINDS:
        if may_see(kind.permission) and count <= COUNTED_UP_TO:
            count += kind.rows(customer).order_by()[: COUNTED_UP_TO + 1].count()
    return in_count(count)


def _lots(customer: Customer) -> QuerySet[Lot]:
    return Lot.objects.filter(org_id=customer.org_id, customer=customer)


def _awards(lots: QuerySet[Lot], customer: Customer) -> Iterable[Moment]:
    for lot in lots.select_related("program").order_by("-awarded_at")[:NEWEST]:
        details = f"{lot.program.name}, expires {moment(lot.expires_at)}"
        yield Moment(lot.awarded_at, "Awarded", link(lot), f"+{grouped(lot.points_awarded)}", details, "")


def _redemptions(customer: Customer) -> QuerySet[Redemption]:
    return Redemption.objects.filter(org_id=customer.org_id, customer=customer)


def _redeemed(redemptions: QuerySet[Redemption], customer: Customer) -> Iterable[Moment]:
    for redemption in redemptions.order_by("-redeemed_at")[:NEWEST]:
        details = f"{grouped(redemption.points_reversed)} reversed so far"
        points = f"-{grouped(redemption.points)}"
        yield Moment(redemption.redeemed_at, "Redeemed", link(redemption), points, details, "")


def _coverings(customer: Customer) -> QuerySet[Covering]:
    return Covering.objects.filter(org_id=customer.org_id, redemption__customer=customer)


def _covered(coverings: QuerySet[Covering], customer: Customer) -> Iterable[Moment]:
    for covering in coverings.select_related("redemption").order_by("-made_at")[:NEWEST]:
        details = f"{in_points(covering.points)} now drawn from lots: {covering.reason}"
        yield Moment(covering.made_at, "Covered", link(covering.redemption), "", details, covering.made_by)


def _reversals(customer: Customer) -> QuerySet[Reversal]:
    """The reversals of the customer and of those who were merged into the customer."""
    customer_ids = with_merged(org_id=customer.org_id, customer_id=customer.id)
    return Reversal.objects.filter(org_id=customer.org_id, customer_id__in=customer_ids)


def _reversed(reversals: QuerySet[Reversal], customer: Customer) -> Iterable[Moment]:
    for reversal in reversals.select_related("redemption").order_by("-created_at", "-id")[:NEWEST]:
        details = f"of redemption {reversal.redemption}"
        if reversal.points_expired:
            details += f", {grouped(reversal.points_expired)} to expired lots"
        points = f"+{grouped(reversal.points)}"
        yield Moment(reversal.created_at, "Reversed", link(reversal), points, details, reversal.made_by)


def _merges(customer: Customer) -> QuerySet[CustomerMerge]:
    customer_ids = with_merged(org_id=customer.org_id, customer_id=customer.id)
    return CustomerMerge.objects.filter(Q(source=customer) | Q(target_id__in=customer_ids), org_id=customer.org_id)


def _merged(merges: QuerySet[CustomerMerge], customer: Customer) -> Iterable[Moment]:
    for merge in merges.select_related("source", "target").order_by("-made_at")[:NEWEST]:
        what, other = "Customer merged into this one", merge.source
        if merge.source_id == customer.id:
            what, other = "Merged", merge.target
        elif merge.target_id != customer.id:
            what = f"Customer merged into customer {merge.target}"
        details = f"{merge.reason} (ticket {merge.ticket})"
        yield Moment(merge.made_at, what, link(other), "", details, merge.made_by)


def _corrections(customer: Customer) -> QuerySet[Correction]:
    return Correction.objects.filter(org_id=customer.org_id, reversal__in=_reversals(customer).values("id"))


def _corrected(corrections: QuerySet[Correction], customer: Customer) -> Iterable[Moment]:
    for correction in corrections.select_related("reversal").order_by("-created_at")[:NEWEST]:
        details = f"approved by {correction.approved_by}: {correction.reason}"
        points = f"-{grouped(correction.points)}"
        reversal = link(correction.reversal)
        yield Moment(correction.created_at, "Reversal corrected", reversal, points, details, correction.made_by)


def _requests(customer: Customer) -> QuerySet[Approval]:
    redemption_ids = _redemptions(customer).values("id")
    return Approval.objects.filter(
        org_id=customer.org_id, status=Approval.Status.WAITING, redemption__in=redemption_ids
    )


def _waiting(requests: QuerySet[Approval], customer: Customer) -> Iterable[Moment]:
    for approval in requests.order_by("-asked_at")[:NEWEST]:
        details = f"{in_points(approval.points)}: {approval.reason}"
        yield Moment(approval.asked_at, "Waiting for approval", link(approval), "", details, approval.asked_by)


def _refusals(customer: Customer) -> QuerySet[Attempt]:
    """The refused attempts for the customer's newest redemptions. An attempt has no reference to the customer."""
    newest = _redemptions(customer).order_by("-redeemed_at").values_list("public_id", flat=True)[:NEWEST]
    asked = Attempt.objects.filter(org_id=customer.org_id, redemption_id_asked__in=list(newest))
    return asked.exclude(rule__in=("", NEEDS_APPROVAL))


def _refused(refusals: QuerySet[Attempt], customer: Customer) -> Iterable[Moment]:
    for attempt in refusals.order_by("-created_at")[:NEWEST]:
        what = "Dry run refused" if attempt.is_dry_run else "Refused"
        details = f"{attempt.code}: {attempt.refusal_reason}"
        name = link(attempt, attempt.redemption_id_asked)
        yield Moment(attempt.created_at, what, name, "", details, attempt.made_by)


KINDS = (
    Kind("awarded", "Points awarded", "loyalty.view_lot", _lots, _awards),
    Kind("redeemed", "Redemptions", "loyalty.view_redemption", _redemptions, _redeemed),
    Kind("covered", "Coverings", "loyalty.view_redemption", _coverings, _covered),
    Kind("reversed", "Reversals", "reversals.view_reversal", _reversals, _reversed),
    Kind("corrected", "Corrections", "reversals.view_correction", _corrections, _corrected),
    Kind("waiting", "Requests that wait for approval", "reversals.view_approval", _requests, _waiting),
    Kind("refused", "Refusals", "reversals.view_attempt", _refusals, _refused),
    Kind("merged", "Merges", "loyalty.view_customer", _merges, _merged),
)
