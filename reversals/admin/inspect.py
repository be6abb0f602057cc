"""Reversals and attempts, to look at: rows of the ledger are never edited."""

from django.contrib import admin

from loyalty.admin.base import LedgerAdmin, OneOrg, ReadOnlyInline
from reversals.models import Attempt, Reversal, ReversalLine


class LineInline(ReadOnlyInline):
    model = ReversalLine
    fields = ["draw", "points", "points_available", "points_expired", "reissued_lot"]


@admin.register(Reversal)
class ReversalAdmin(LedgerAdmin):
    list_display = ["public_id", "org", "redemption", "points", "points_expired", "channel", "made_by", "created_at"]
    list_select_related = ["org", "redemption"]
    list_filter = [OneOrg, "channel"]
    search_fields = ["=public_id", "=redemption__public_id"]
    inlines = [LineInline]


@admin.register(Attempt)
class AttemptAdmin(LedgerAdmin):
    list_display = [
        "created_at",
        "org",
        "operation",
        "channel",
        "made_by",
        "redemption_id_asked",
        "code",
        "rule",
        "reversal",
    ]
    list_select_related = ["org", "reversal"]
    list_filter = [OneOrg, "operation", "is_dry_run", "channel", "rule"]
    search_fields = ["=request_id", "=redemption_id_asked", "=idempotency_key"]
