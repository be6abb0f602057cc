"""Shows corrections: which reversal each one undid, who requested it, who approved it, and why."""

from typing import Any

from django.contrib import admin
from django.db.models import F
from django.http import HttpRequest

from loyalty.admin.base import OneOrg, PageAdmin, points_column
from loyalty.admin.filters import ByPoints, ByUser, Period
from loyalty.admin.links import link, link_column
from loyalty.ledger.points import written
from reversals.admin.exports import Exportable
from reversals.admin.html import moment
from reversals.models import Correction, ReversalLine

SHOWN = 50


@admin.register(Correction)
class CorrectionAdmin(Exportable, PageAdmin):
    list_display = ["created_at", link_column("reversal"), points_column("points"), "made_by", "approved_by", "reason"]
    more_columns = ["redemption", "customer"]
    list_select_related = ["reversal__redemption", "reversal__customer"]
    list_filter = [OneOrg, Period, ByUser, ByPoints]
    list_filter_submit = True
    newest_by = "created_at"
    ordering = ["-created_at", "-id"]
    sortable_by = ["created_at"]
    search_fields = [
        "reversal__public_id",
        "reversal__redemption__public_id",
        "reversal__redemption__external_reference_number",
        "reversal__redemption__transaction_number",
        "reversal__customer__public_id",
    ]
    search_help_text = (
        "Search by whole reversal id, redemption id, external reference, transaction number or customer id."
    )
    page_template = "admin/reversals/correction/page.html"

    @admin.display(description="redemption")
    def redemption(self, correction: Correction) -> str:
        return link(correction.reversal.redemption)

    @admin.display(description="customer")
    def customer(self, correction: Correction) -> str:
        return link(correction.reversal.customer)

    def page(self, request: HttpRequest, row: Correction) -> dict[str, Any]:
        return {
            "title": f"Correction of reversal {row.reversal.public_id}",
            "facts": _facts(row),
            "lines": _lines(row),
            "has_more": ReversalLine.objects.filter(org_id=row.org_id, reversal_id=row.reversal_id)[SHOWN:].exists(),
            "most_shown": SHOWN,
        }


def _facts(correction: Correction) -> list[tuple[str, Any]]:
    reversal = correction.reversal
    return [
        ("Reversal", link(reversal)),
        ("Redemption", link(reversal.redemption)),
        ("Customer", link(reversal.customer)),
        ("Points taken back", written(correction.points)),
        ("Corrected", moment(correction.created_at)),
        ("Requested by", correction.made_by),
        ("Approved by", correction.approved_by),
        ("Approval request", link(correction.approval)),
        ("Reason", correction.reason),
    ]


def _lines(correction: Correction) -> dict[str, Any]:
    lines = ReversalLine.objects.filter(org_id=correction.org_id, reversal_id=correction.reversal_id)
    in_order = lines.select_related("draw__lot", "reissued_lot").order_by(F("draw__position").desc())
    return {
        "headers": ["Draw order", "Lot", "Points taken back"],
        "rows": [_row_of(line) for line in in_order[:SHOWN]],
    }


def _row_of(line: ReversalLine) -> list[Any]:
    """One line and the lot that held its points: a new lot if they had been re-issued, otherwise their own lot."""
    lot = line.draw.lot if line.reissued_lot is None else line.reissued_lot
    return [line.draw.position, "" if lot is None else lot.lot_ref, written(line.points)]
